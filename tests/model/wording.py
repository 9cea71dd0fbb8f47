"""A trace in words."""

from typing import assert_never

from .store import LOCK, MANIFEST, OPERATOR, PER_CLIENT, STAGES, Body, Lock, Manifest, Owner, Request, Stage


def name_client(number: int) -> str:
    """A, B, C."""
    return "ABCDEFGH"[number]


def name_owner(owner: Owner) -> str:
    """A1 is the first acquisition of client A."""
    if owner == OPERATOR:
        return "the operator"
    return f"{name_client(owner // PER_CLIENT)}{owner % PER_CLIENT + 1}"


def name_object(at: int) -> str:
    """Where a request goes."""
    if at == LOCK:
        return "the lock"
    return "the manifest" if at == MANIFEST else f"stage {at - STAGES}"


def tell_body(body: Body | None, at: int) -> str:
    """What an object says."""
    if body is None:
        return f"no {name_object(at).removeprefix('the ')}"
    match body:
        case Lock(owner=None):
            return f"a released lock (epoch {body.epoch}, by {name_owner(body.by)})"
        case Lock():
            renewed = f", renewal {body.renewal}" if body.renewal else ""
            return f"the lock of {name_owner(body.by)} (epoch {body.epoch}{renewed})"
        case Manifest():
            said = {"begun": "manifest", "ended": "manifest of an ended task", "removed": "tombstone"}[
                body.kind
            ]
            migrated = ", migrated" if body.plan else ""
            return (
                f"a {said} (base_epoch {body.base}, epoch {body.epoch}, by {name_owner(body.by)}{migrated})"
            )
        case Stage():
            again = f", attempt {body.attempt + 1}" if body.attempt else ""
            again += ", migrating" if body.migrating else ""
            return f"{name_object(at)} {body.status} (epoch {body.epoch}, base_epoch {body.base}, by {name_owner(body.by)}{again})"
        case _:
            assert_never(body)


def tell_request(request: Request) -> str:
    """What a request asks for."""
    if request.is_blind:
        how = "whatever stands there"
    else:
        how = "if absent" if request.expect is None else f"over {tell_body(request.expect, request.at)}"
    if request.body is None:
        return f"remove {name_object(request.at)} ({how})"
    return f"{request.purpose}: {tell_body(request.body, request.at)}, {how}"
