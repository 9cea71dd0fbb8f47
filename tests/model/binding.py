"""How a client gets to work on a task: the manifest, the lock, then what is stored."""

from typing import Any, Final, NamedTuple

from .invariants import judge_belief
from .store import (
    LOCK,
    MANIFEST,
    PER_CLIENT,
    Body,
    Lock,
    Manifest,
    Owner,
    Request,
    Stage,
    positions_of,
)
from .variants import Bounds, Flaw
from .world import Client, Place


class Role(NamedTuple):
    """Who acts, in which variant of the protocol.

    Attributes:
        number: Of the client.
        owner: Its acquisition under way.
        flaw: What is left out of the design; None is nothing.
        bounds: Of the search.
    """

    number: int
    owner: Owner
    flaw: Flaw | None
    bounds: Bounds


HOLDING: Final[frozenset[Place]] = frozenset(
    {
        "load",
        "begin",
        "bound",
        "run",
        "work",
        "end",
        "summarise",
        "unbind",
        "cancel",
        "back",
        "undo",
        "mark",
        "swap",
        "remove",
        "list",
        "bury",
        "sweep",
    }
)
"""Where a client believes that it holds the lock."""


def role_of(number: int, client: Client, flaw: Flaw | None, bounds: Bounds) -> Role:
    """The role in which a client acts now."""
    return Role(number, number * PER_CLIENT + client.used, flaw, bounds)


def started_again(client: Client) -> Client:
    """The client as a new process, after an acquisition."""
    return Client(used=client.used + 1)


def released(client: Client) -> Client:
    """The client once it has let its lock go."""
    if client.reopens:
        return Client(place="bind", used=client.used + 1, min_epoch=client.min_epoch)
    return started_again(client)


def leaving(role: Role, client: Client, **changes: Any) -> Client:
    """The client on its way out, with no more in mind than it needs for that."""
    manifest = None if client.reopens else client.manifest
    if (
        client.claimed
        and manifest
        and manifest.epoch < client.epoch
        and role.flaw is not Flaw.LOCK_FORGETS_EPOCH
    ):
        # It has used a token that stands in no manifest: the lock has to remember it.
        manifest = None
    return Client(
        place="release",
        used=client.used,
        epoch=client.epoch,
        min_epoch=client.min_epoch if client.reopens else 1,
        manifest=manifest,
        lock=client.lock,
        renewals=client.renewals,
        reopens=client.reopens,
    )._replace(**changes)


def stale(role: Role, client: Client, min_epoch: int, *, manifest: Manifest | None = None) -> Client:
    """The client once it knows that what it has read is not the latest, so that it knows of no end."""
    return leaving(role, client, reopens=True, min_epoch=max(client.min_epoch, min_epoch), manifest=manifest)


def read_manifest(client: Client, found: Body | None) -> Client:
    """Before the acquisition. What is there decides whether the lock is looked at first."""
    seen = found if isinstance(found, Manifest) else None
    if seen is None:
        return client._replace(place="take", seen=None)
    min_epoch = max(client.min_epoch, seen.epoch + 1)
    return client._replace(place="take" if seen.kind == "removed" else "look", seen=seen, min_epoch=min_epoch)


def look(client: Client, found: Body | None) -> Client:
    """Read the lock: it is free, it guards what has ended, or it has to be waited for."""
    sight = found if isinstance(found, Lock) else None
    is_free = sight is None or sight.owner is None or guards_nothing(sight, client.seen)
    return client._replace(place="take" if is_free else "wait", sight=sight)


def guards_nothing(held: Lock, manifest: Manifest | None) -> bool:
    """Whether a lock is of the owner that finished the task, or an earlier one: no time needs to pass."""
    return manifest is not None and manifest.kind != "begun" and held.epoch <= manifest.epoch


def take_request(role: Role, client: Client) -> Request:
    """A create, or a swap over the lock that was looked at."""
    epoch = max(client.min_epoch, client.sight.epoch + 1 if client.sight else 1)
    return Request(role.owner, "take", LOCK, Lock(role.owner, epoch, role.owner, 0), client.sight)


def taken(role: Role, client: Client, body: Body | None) -> Client:
    """The lock is ours: begin the task, or read what is stored of it."""
    if not isinstance(body, Lock):
        raise TypeError(body)
    is_new = client.seen is None or client.seen.kind == "removed"
    return client._replace(
        place="begin" if is_new else "load",
        epoch=body.epoch,
        lock=body,
        sight=None,
        known=(None,) * role.bounds.objects,
        todo=() if is_new else (MANIFEST, *positions_of(_plan(client.seen), role.bounds.stages)),
    )


def _plan(seen: Manifest | None) -> int:
    return seen.plan if seen else 0


def take_refused(role: Role, client: Client, found: Body | None) -> Client:
    """Look again; an acquisition of which a copy may still be under way is not used again."""
    used = client.used + 1 if client.pending else client.used
    return client._replace(place="look", used=used, sight=None)


def take_given_up(role: Role, client: Client) -> Client:
    """Fill the slot, so that nothing of it comes alive."""
    if role.flaw is Flaw.ACQUIRE_WITHOUT_ABANDON:
        return started_again(client)
    return Client(place="abandon", used=client.used, epoch=_epoch_of(client.pending), sight=client.sight)


def _epoch_of(request: Request | None) -> int:
    body = request.body if request else None
    if not isinstance(body, Lock):
        raise TypeError(request)
    return body.epoch


def abandon_request(role: Role, client: Client) -> Request:
    """A released lock where the given-up one would go, or over it."""
    return Request(role.owner, "abandon", LOCK, Lock(None, client.epoch, role.owner, 0), client.sight)


def abandon_refused(role: Role, client: Client, found: Body | None) -> Client:
    """It came alive meanwhile, or somebody else has the slot."""
    if isinstance(found, Lock) and found.owner == role.owner:
        return client._replace(sight=found)
    return started_again(client)


def begin_request(role: Role, client: Client) -> Request:
    """The manifest of a new life, if absent or over the tombstone that was seen."""
    base = 1 if role.flaw is Flaw.NO_BASE_EPOCH else client.epoch
    body = Manifest("begun", base, client.epoch, role.owner, role.owner)
    return Request(role.owner, "begin", MANIFEST, body, client.seen)


def begun(role: Role, client: Client, body: Body | None) -> Client:
    """A new life: what was known of stages belongs to an earlier one."""
    if not isinstance(body, Manifest):
        raise TypeError(body)
    return client._replace(place="bound", manifest=body, seen=None)


def begin_refused(role: Role, client: Client, found: Body | None) -> Client:
    """Somebody else has begun the task."""
    return stale(role, client, 1, manifest=_believed_end(role, client.seen))


def begin_given_up(role: Role, client: Client) -> Client:
    """Let it go; the manifest may yet arrive."""
    return leaving(role, client, manifest=_believed_end(role, client.seen))


def _believed_end(role: Role, manifest: Manifest | None) -> Manifest | None:
    """What a failed bind goes by when it lets the lock go; as designed, nothing."""
    return manifest if role.flaw is Flaw.FAILED_BIND_REMOVES_LOCK else None


def loaded(role: Role, client: Client) -> tuple[Client, str | None]:
    """Judge what was read; a violation if it is of another life."""
    manifest = client.manifest
    if manifest is None:
        return stale(role, client, 1), None
    believed = _believed_end(role, manifest)
    is_stamped = role.flaw is not Flaw.PLAN_NOT_STAMPED
    newer = [
        stage
        for stage in client.known
        if stage and (stage.base > manifest.base or (stage.plan > manifest.plan and is_stamped))
    ]
    if newer:
        return stale(role, client, newer[0].epoch + 1, manifest=believed), None
    if client.seen is None:
        raise ValueError(client)
    is_other = manifest.base != client.seen.base or manifest.plan != client.seen.plan
    if manifest.kind == "removed" or is_other:
        return stale(role, client, manifest.epoch + 1, manifest=believed), None
    records = [client.record_of(at) for at in positions_of(manifest.plan, role.bounds.stages)]
    stamps = [(found.epoch, found.by) for found in (manifest, *records) if found]
    is_checked = role.flaw is not Flaw.CLAIM_WITHOUT_EPOCH_CHECK
    if is_checked and any(epoch >= client.epoch and by != role.owner for epoch, by in stamps):
        return stale(role, client, max(epoch for epoch, _ in stamps) + 1, manifest=believed), None
    broken = next((words for found in records if found and (words := judge_belief(manifest, found))), None)
    return client._replace(place="bound", seen=None), broken


def read_at(client: Client, positions: tuple[int, ...], objects: tuple[Body | None, ...]) -> Client:
    """Some of the objects that a bind reads at once, as they are at one moment."""
    for at in positions:
        found = objects[at]
        if at == MANIFEST:
            client = client._replace(manifest=found if isinstance(found, Manifest) else None)
        else:
            client = client.knowing(at, found if isinstance(found, Stage) else None)
    return client._replace(todo=tuple(at for at in client.todo if at not in positions))
