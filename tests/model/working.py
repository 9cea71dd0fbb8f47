"""What an owner does with a task: execute, cancel, remove it, and let it go."""

from .binding import Role, leaving, released, stale, started_again
from .store import (
    BACKWARDS,
    LOCK,
    MANIFEST,
    STAGES,
    Body,
    Lock,
    Manifest,
    Request,
    Stage,
    Status,
    positions_of,
)
from .variants import Flaw
from .world import Client

_AGAIN = 1
"""How often a stage write that was given up is followed by another execute of the same engine."""


def positions(role: Role, client: Client) -> tuple[int, ...]:
    """Where the task's stages are, as this client knows it."""
    return positions_of(_life(client).plan, role.bounds.stages)


def first_unfinished(role: Role, client: Client) -> int | None:
    """Position of the first stage that is not complete, as this client knows them."""
    return next((at for at in positions(role, client) if client.status_of(at) != "COMPLETE"), None)


def next_written(role: Role, client: Client) -> int | None:
    """Position of the stage that the task's owner writes next; None where the task is finished."""
    first = first_unfinished(role, client)
    if first is None or client.status_of(first) == "CANCELED":
        return None
    if client.status_of(first) == "ROLLED_BACK":
        return max((at for at in positions(role, client) if at < first), default=None)
    return first


def is_contradictory(role: Role, client: Client, first: int) -> bool:
    """Whether something stands behind an unfinished stage: read while an older owner went on."""
    behind = [client.status_of(at) for at in positions(role, client) if at > first]
    is_going_back = client.status_of(first) in (*BACKWARDS, "REMOVING")
    return any(status != "CREATED" and not (is_going_back and status == "ROLLED_BACK") for status in behind)


def to_execute(role: Role, client: Client) -> Client:
    """Go to the first unfinished stage, or note the end."""
    first = first_unfinished(role, client)
    if first is None:
        return client._replace(place="end") if _life(client).kind == "begun" else to_unbind(role, client)
    record = client.record_of(first)
    if record and record.status == "CANCELED":
        is_noted = _life(client).kind != "begun" or role.flaw is Flaw.CANCELED_END_IS_LEFT
        return to_unbind(role, client) if is_noted else client._replace(place="end")
    if is_contradictory(role, client, first):
        return leaving(role, client)
    if client.status_of(first) in BACKWARDS:
        return to_roll_back(role, client)
    return client._replace(place="run", stage=first)


def to_roll_back(role: Role, client: Client) -> Client:
    """Go to the stage that is rolled back next: the last one that is begun; or note the end."""
    first, at = first_unfinished(role, client), next_written(role, client)
    if first is None or client.status_of(first) == "CANCELED":
        return leaving(role, client)
    if is_contradictory(role, client, first):
        return leaving(role, client)
    if at is None:
        return client._replace(place="end") if _life(client).kind == "begun" else to_unbind(role, client)
    if (
        role.flaw is Flaw.ROLLBACK_CLAIMS_FIRST_UNFINISHED
        and client.status_of(first) == "ROLLED_BACK"
        and not client.claimed
    ):
        at = first
    if role.flaw is Flaw.ROLLBACK_UNCLAIMED and client.status_of(at) == "COMPLETE":
        return client._replace(place="undo", stage=at)
    return client._replace(place="back", stage=at)


def may_migrate(role: Role, client: Client) -> bool:
    """Whether this process's code may have another last stage than the task that it has bound."""
    life, statuses = _life(client), [client.status_of(at) for at in positions(role, client)]
    is_open = not {"CANCELED", "REMOVING", *BACKWARDS} & set(statuses)
    return life.kind == "begun" and life.plan == 0 and statuses[-1] == "CREATED" and is_open


def to_migrate(role: Role, client: Client) -> Client:
    """Claim what an earlier owner could write next, then swap the manifest."""
    if role.flaw is Flaw.MIGRATION_WITHOUT_MARK:
        return client._replace(place="swap")
    return client._replace(place="mark", stage=next_written(role, client) or 0)


def must_settle(role: Role, client: Client) -> bool:
    """Whether an earlier owner has marked the stage, and the swap of the manifest may yet arrive."""
    found = client.record_of(client.stage)
    if found is None or not found.migrating or role.flaw is Flaw.MIGRATION_UNSETTLED:
        return False
    return found.by != role.owner and found.epoch >= _life(client).epoch


def swap_request(role: Role, client: Client) -> Request:
    """The manifest with the other list of stages."""
    life = _life(client)
    body = life._replace(epoch=client.epoch, by=role.owner, plan=1)
    return Request(role.owner, "migrate", MANIFEST, body, life)


def swapped(role: Role, client: Client, body: Body | None) -> Client:
    """The task has other stages now. What has begun has kept its place."""
    if not isinstance(body, Manifest):
        raise TypeError(body)
    return client._replace(place="bound", manifest=body, stage=0)


def swap_refused(role: Role, client: Client, found: Body | None) -> Client:
    """Somebody else has written the manifest: read again."""
    return stale(role, client, client.epoch + 1)


def to_cancel(role: Role, client: Client) -> Client:
    """Go to the first unfinished stage, if it can be canceled."""
    first = first_unfinished(role, client)
    record = client.record_of(first) if first else None
    if record and record.status in BACKWARDS:
        return leaving(role, client)
    if record and record.status == "CANCELED":
        return client._replace(place="end") if _life(client).kind == "begun" else to_unbind(role, client)
    if first is None or (record and record.status == "ERROR"):
        return leaving(role, client)
    return client._replace(place="cancel", stage=first)


def to_remove(role: Role, client: Client) -> Client:
    """Go to the first stage that anybody could still write; REMOVING is claimed already."""
    if role.flaw is Flaw.UNFENCED_CLEAN:
        doomed = (MANIFEST, *positions(role, client))
        return client._replace(place="sweep", todo=tuple(_delete(role, at) for at in doomed))
    first = first_unfinished(role, client)
    if first is not None and client.status_of(first) == "ROLLED_BACK":
        first = next_written(role, client)
    record = client.record_of(first) if first else None
    is_fenced = record is not None and (
        record.status == "REMOVING"
        or (record.status == "CANCELED" and role.flaw is not Flaw.CANCELED_IS_CLAIMED_TO_REMOVE)
    )
    if first is None or is_fenced:
        is_late = role.flaw is Flaw.SWEEP_LISTS_AFTER_BURIAL
        return client._replace(place="bury" if is_late or not role.bounds.can_remove else "list")
    return client._replace(place="remove", stage=first)


def to_unbind(role: Role, client: Client) -> Client:
    """Remove the task, or just let it go."""
    return client._replace(place="unbind") if role.bounds.cleans else leaving(role, client)


def stage_requests(role: Role, client: Client) -> tuple[Request, ...]:
    """What may be stored of the stage at this point, or of the manifest before it."""
    if must_settle(role, client):
        life = _life(client)
        body = life._replace(epoch=client.epoch, by=role.owner)
        return (Request(role.owner, "settle", MANIFEST, body, life),)
    if client.place == "mark":
        return (_stage_request(role, client, client.status_of(client.stage), migrating=True),)
    if client.place == "back":
        is_over = client.status_of(client.stage) in ("CREATED", "ROLLED_BACK")
        return (_stage_request(role, client, "ROLLED_BACK" if is_over else "ROLLING_BACK"),)
    if client.place == "undo":
        return (_stage_request(role, client, "ROLLED_BACK"),)
    if client.place == "run":
        return (_stage_request(role, client, "RUNNING"),)
    if client.place == "cancel":
        return (_stage_request(role, client, "CANCELED"),)
    if client.place == "remove":
        return (_stage_request(role, client, "REMOVING"),)
    if client.place == "put":
        return (_stage_request(role, client, "ERROR"),)
    done = _stage_request(role, client, "COMPLETE")
    failed: tuple[Request, ...] = ()
    if role.bounds.errors:
        failed += (_stage_request(role, client, "ERROR"),)
    if role.bounds.rollbacks:
        failed += (_stage_request(role, client, "ROLLED_BACK"),)
    return (done, *failed)


def _stage_request(role: Role, client: Client, status: Status, *, migrating: bool = False) -> Request:
    life = _life(client)
    body = Stage(status, client.epoch, life.base, role.owner, client.attempt, life.life, life.plan, migrating)
    is_blind = role.flaw in (Flaw.UNCONDITIONAL_PUT, Flaw.TOKEN_READ_THEN_PUT)
    return Request(role.owner, "stage", client.stage, body, client.version_of(client.stage), is_blind)


def stage_stored(role: Role, client: Client, body: Body | None) -> Client:
    """Go on behind a write that was applied."""
    if isinstance(body, Manifest):
        return client._replace(manifest=body)
    if not isinstance(body, Stage):
        raise TypeError(body)
    if body.migrating:
        return client.knowing(client.stage, body)._replace(
            place="swap", claimed=client.claimed | {client.stage}
        )
    client = client.knowing(client.stage, body)._replace(claimed=client.claimed | {client.stage}, todo=())
    match body.status:
        case "RUNNING":
            return client._replace(place="work")
        case "COMPLETE":
            return to_execute(role, client)
        case "CANCELED":
            return client._replace(place="end")
        case "ERROR" if role.flaw is Flaw.MANIFEST_SUMMARISES_ERROR:
            return client._replace(place="summarise")
        case "ERROR":
            return to_unbind(role, client)
        case "REMOVING":
            return to_remove(role, client)
        case "ROLLING_BACK":
            return client._replace(place="undo")
        case "ROLLED_BACK":
            return to_roll_back(role, client)
        case "CREATED":
            raise ValueError(body)


def stage_refused(role: Role, client: Client, found: Body | None) -> Client:
    """Decide again by what stands there: go over it, adopt it, or stop."""
    if must_settle(role, client):
        if isinstance(found, Manifest) and _is_same_life(client, found) and found.kind != "removed":
            return client._replace(manifest=found)
        return leaving(role, client)
    if client.place == "mark":
        return stale(role, client, client.epoch + 1)
    if not isinstance(found, Stage):
        return leaving(role, client)
    life, is_claimed = _life(client), client.stage in client.claimed
    adopted = client.knowing(client.stage, found)
    if found.base < life.base and not is_claimed:
        return adopted
    is_migrated = found.plan > life.plan and role.flaw is not Flaw.PLAN_NOT_STAMPED
    if found.base != life.base or found.status == "REMOVING" or is_migrated:
        return leaving(role, client)
    is_earlier = not is_claimed and (
        found.epoch < client.epoch or role.flaw is Flaw.CLAIM_WITHOUT_EPOCH_CHECK
    )
    if found.by != role.owner and not is_earlier:
        return leaving(role, client)
    if found.status == "CREATED":
        return adopted
    if client.place == "remove":
        return to_remove(role, adopted)
    if client.place in ("back", "undo"):
        return to_roll_back(role, adopted)
    return to_cancel(role, adopted) if client.place == "cancel" else to_execute(role, adopted)


def stage_given_up(role: Role, client: Client) -> tuple[Client, ...]:
    """Let the task go, or execute it again with what is in memory."""
    left = leaving(role, client)
    is_stage = client.pending is not None and client.pending.purpose == "stage"
    if client.place not in ("run", "work") or not is_stage or client.attempt >= _AGAIN:
        return (left,)
    if client.place == "work" and role.flaw is Flaw.AMBIGUOUS_COMPLETE_FAILS:
        return (left, client._replace(place="put", pending=None, attempt=client.attempt + 1))
    return left, client._replace(place="run", pending=None, attempt=client.attempt + 1)


def end_request(role: Role, client: Client) -> Request:
    """The one note of how the task ended (or, broken, of how it stands)."""
    life = _life(client)
    return Request(
        role.owner, "end", MANIFEST, life._replace(kind="ended", epoch=client.epoch, by=role.owner), life
    )


def summary_request(role: Role, client: Client) -> Request:
    """The broken one: an error noted in the manifest, which is still that of an unfinished task."""
    life = _life(client)
    return Request(role.owner, "end", MANIFEST, life._replace(epoch=client.epoch, by=role.owner), life)


def ended(role: Role, client: Client, body: Body | None) -> Client:
    """The end is noted."""
    if not isinstance(body, Manifest):
        raise TypeError(body)
    return to_unbind(role, client._replace(manifest=body))


def end_refused(role: Role, client: Client, found: Body | None) -> Client:
    """Somebody else has noted it, or the task is not ours any more."""
    is_ours = _is_same_life(client, found)
    client = client._replace(manifest=found if isinstance(found, Manifest) else None)
    if not is_ours or _life(client).kind == "removed":
        return leaving(role, client)
    return to_unbind(role, client) if _life(client).kind == "ended" else client


def list_objects(role: Role, client: Client, objects: tuple[Body | None, ...]) -> Client:
    """What is to be removed, each as it is now."""
    todo = tuple(
        Request(role.owner, "sweep", at, None, objects[at])
        for at in range(STAGES, len(objects))
        if objects[at] is not None
    )
    if _life(client).kind == "removed":
        return client._replace(place="sweep", todo=todo) if todo else swept(role, client)
    return client._replace(place="bury", todo=todo)


def bury_request(role: Role, client: Client) -> Request:
    """The tombstone, over the manifest as it was last seen."""
    life = _life(client)
    return Request(
        role.owner, "bury", MANIFEST, life._replace(kind="removed", epoch=client.epoch, by=role.owner), life
    )


def buried(role: Role, client: Client, body: Body | None) -> Client:
    """The tombstone stands, whoever wrote it."""
    if not isinstance(body, Manifest):
        raise TypeError(body)
    client = client._replace(manifest=body, known=(), stage=0, attempt=0)
    if role.flaw is Flaw.SWEEP_LISTS_AFTER_BURIAL:
        return client._replace(place="list")
    return client._replace(place="sweep") if client.todo else swept(role, client)


def bury_refused(role: Role, client: Client, found: Body | None) -> Client:
    """Somebody helped, somebody noted the end, or the task is not ours any more."""
    is_ours = _is_same_life(client, found)
    client = client._replace(manifest=found if isinstance(found, Manifest) else None)
    if not is_ours:
        return leaving(role, client)
    return buried(role, client, found) if _life(client).kind == "removed" else client


def swept(role: Role, client: Client) -> Client:
    """Whoever helped with a removal binds again."""
    return stale(role, client, client.epoch + 1) if client.reopens else leaving(role, client)


def sweep_done(role: Role, client: Client, found: Body | None) -> Client:
    """One is gone, or is not what was listed."""
    client = client._replace(todo=client.todo[1:])
    if client.todo:
        return client
    if role.flaw is Flaw.UNFENCED_CLEAN:
        client = client._replace(manifest=_life(client)._replace(kind="removed"))
    return swept(role, client)


def release_request(role: Role, client: Client) -> Request:
    """A swap to a released lock; a remove where the task is finished and the store can."""
    if is_removing_lock(role, client):
        return Request(
            role.owner, "release", LOCK, None, client.lock, role.flaw is Flaw.GET_THEN_DELETE_RELEASE
        )
    return Request(role.owner, "release", LOCK, Lock(None, client.epoch, role.owner, 0), client.lock)


def is_removing_lock(role: Role, client: Client) -> bool:
    """Whether the lock object is of no use any more."""
    return role.bounds.can_remove and client.manifest is not None and client.manifest.kind != "begun"


def release_done(role: Role, client: Client, body: Body | None) -> Client:
    """The lock is let go."""
    return released(client)


def release_refused(role: Role, client: Client, found: Body | None) -> Client:
    """A renewal of ours came late, or the lock is another's."""
    is_ours = isinstance(found, Lock) and found.owner == role.owner
    if isinstance(found, Lock) and (is_ours or role.flaw is Flaw.RELEASE_WITHOUT_OWN_CHECK):
        return client._replace(lock=found)
    return released(client)


def renew_request(role: Role, client: Client) -> Request:
    """The same lock, heard of again."""
    return Request(
        role.owner,
        "renew",
        LOCK,
        Lock(role.owner, client.epoch, role.owner, client.renewals + 1),
        client.lock,
    )


def renewed(client: Client, body: Body | None) -> Client:
    """The holder knows the new version."""
    if not isinstance(body, Lock):
        raise TypeError(body)
    return client._replace(lock=body, renewals=client.renewals + 1)


def renew_refused(role: Role, client: Client, found: Body | None) -> Client:
    """An earlier renewal came late, or the lock is lost, which is final."""
    is_ours = isinstance(found, Lock) and found.owner == role.owner
    if isinstance(found, Lock) and (is_ours or role.flaw is Flaw.RENEW_WITHOUT_OWN_CHECK):
        return renewed(client, found)
    return released(client) if client.reopens else started_again(client)


def _delete(role: Role, at: int) -> Request:
    return Request(role.owner, "sweep", at, None, None, is_blind=True)


def _is_same_life(client: Client, found: Body | None) -> bool:
    """Whether the manifest is still that of our life, without a newer owner's word."""
    if not isinstance(found, Manifest):
        return False
    life = _life(client)
    return (found.base, found.plan) == (life.base, life.plan) and found.epoch <= client.epoch


def _life(client: Client) -> Manifest:
    if client.manifest is None:
        raise ValueError(client)
    return client.manifest
