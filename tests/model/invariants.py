"""What must hold. Each request is judged when it is applied, each acknowledgement when it is believed."""

from .store import (
    BACKWARDS,
    LOCK,
    MANIFEST,
    STAGES,
    Lock,
    Manifest,
    Owner,
    Request,
    Stage,
    live_manifest,
    live_stage,
    positions_of,
)
from .world import Onlooker, World

_FINAL = ("COMPLETE", "CANCELED", "REMOVING")


def judge(world: World, request: Request) -> tuple[Onlooker, str | None]:
    """What an onlooker remembers once the request is applied to this world, and what it breaks, if anything."""
    if request.at == LOCK:
        return world.onlooker, _judge_lock(world, request)
    if request.at == MANIFEST:
        return _judge_manifest(world, request)
    return _judge_stage(world, request)


def begin_execution(onlooker: Onlooker, epoch: int, owner: Owner) -> Onlooker:
    """An owner's claim holds from when it executes a stage, however it came to believe in it."""
    return onlooker._replace(epoch=epoch, owner=owner) if epoch > onlooker.epoch else onlooker


def judge_acknowledged(world: World, stored: Stage, at: int) -> str | None:
    """Whether a stage write that its sender takes for stored is one that was applied.

    What is written to a task that was removed meanwhile is garbage, and may be acknowledged.
    """
    manifest = live_manifest(world.store.objects)
    counts = manifest is not None and manifest.life == stored.life
    if counts and stored.status == "COMPLETE" and world.onlooker.completed[at - STAGES] != stored.by:
        return "an acknowledged COMPLETE was never stored"
    return None


def _judge_lock(world: World, request: Request) -> str | None:
    current, new = world.store.objects[LOCK], request.body
    if request.purpose in ("renew", "release") and not (
        isinstance(current, Lock) and current.owner == request.by
    ):
        return f"a {request.purpose} touches a lock that is not its sender's"
    manifest = live_manifest(world.store.objects)
    is_unfinished = manifest is not None and manifest.kind == "begun"
    if new is None:
        return "the lock of an unfinished task is removed, so nobody would find it" if is_unfinished else None
    if not isinstance(new, Lock) or not isinstance(current, Lock | None):
        raise TypeError(request)
    if request.purpose == "abandoned take" and (is_unfinished or world.store.objects[MANIFEST] is None):
        return "an acquire that was given up comes alive, on a task that is not finished"
    if current and new.epoch < current.epoch + (request.purpose == "take"):
        return "the epoch of the lock falls, or is used twice"
    return None


def _judge_manifest(world: World, request: Request) -> tuple[Onlooker, str | None]:
    objects, onlooker, new = world.store.objects, world.onlooker, request.body
    current = objects[MANIFEST]
    if new is None:
        # Only an unfenced clean does it. That alone does not break anything.
        return onlooker, None
    if not isinstance(new, Manifest) or not isinstance(current, Manifest | None):
        raise TypeError(request)
    if request.purpose == "begin":
        next_life = onlooker._replace(completed=(None,) * len(onlooker.completed), lives=onlooker.lives + 1)
        if current and current.kind != "removed":
            return onlooker, "a task is begun over one that was not removed"
        if new.epoch <= onlooker.epoch:
            return onlooker, "the token of a new life is not above every one that has committed"
        if objects[LOCK] is None:
            return onlooker, "a task is begun without a lock object, so nobody would find it unfinished"
        return next_life, None
    if current is None or current.life != new.life:
        return onlooker, "the end of one life is written over another"
    if current.kind == "removed":
        return onlooker, "a tombstone is overwritten by its own life"
    if new.epoch < onlooker.epoch:
        return onlooker, "an older owner changes the manifest after a newer one has claimed a stage (G4)"
    if new.kind == "ended" and not _is_over(world):
        return onlooker, "the manifest says that an unfinished task has ended"
    return onlooker, None


def _is_over(world: World) -> bool:
    manifest = live_manifest(world.store.objects)
    plan = positions_of(manifest.plan if manifest else 0, world.stages)
    stages = [live_stage(world.store.objects, at) for at in plan]
    if any(stage and stage.status in BACKWARDS for stage in stages):
        return stages[0] is not None and stages[0].status == "ROLLED_BACK"
    unfinished = next((stage for stage in stages if not stage or stage.status != "COMPLETE"), None)
    return all(stages) or (unfinished is not None and unfinished.status in _FINAL)


def _judge_stage(world: World, request: Request) -> tuple[Onlooker, str | None]:
    objects, onlooker, new = world.store.objects, world.onlooker, request.body
    manifest, current = live_manifest(objects), live_stage(objects, request.at)
    if new is None:
        broken = current is not None and "a stage object that counts is removed"
        return onlooker, broken or None
    if not isinstance(new, Stage):
        raise TypeError(request)
    if manifest is None or new.base != manifest.base:
        broken = current is not None and "garbage of an earlier life is written over a stage that counts"
        return onlooker, broken or None
    if new.life != manifest.life:
        return onlooker, "a write of an earlier life counts in this one"
    if current and current.life != manifest.life:
        return onlooker, "what an earlier life left counts in this one"
    plan = positions_of(manifest.plan, world.stages)
    if request.at not in plan:
        return onlooker, "a stage is written that the task has no more"
    behind = [found for at in plan if at > request.at and (found := live_stage(objects, at))]
    is_going_back = any(found.status in BACKWARDS for found in (*behind, *([current] if current else ())))
    is_back = new.status in BACKWARDS
    if is_going_back and not is_back and new.status != "REMOVING":
        return onlooker, f"{new.status} is written in a task that goes backwards"
    if is_back and any(found.status not in ("ROLLED_BACK", "CREATED") for found in behind):
        return onlooker, "a stage is rolled back before one behind it"
    if current and current.status == "ROLLED_BACK" and new.status != "ROLLED_BACK":
        return onlooker, f"{new.status} is written over ROLLED_BACK"
    is_on_its_way_back = is_back or (is_going_back and new.status == "REMOVING")
    if current and current.status == "COMPLETE" and not is_on_its_way_back:
        return onlooker, f"{new.status} is written over COMPLETE (G1, G2)"
    if new.status == "ROLLED_BACK" and current and current.status == "COMPLETE":
        return (
            onlooker,
            "a stage is rolled back without ROLLING_BACK stored first: two owners may do it at once",
        )
    if new.epoch < onlooker.epoch:
        return onlooker, "an older owner changes a stage after a newer one has claimed one (G4)"
    if new.epoch == onlooker.epoch and new.by != onlooker.owner:
        return onlooker, "two owners commit with one epoch"
    if request.is_blind and objects[request.at] != request.expect:
        return onlooker, "a write goes over one that its sender has not seen"
    completed = onlooker.completed
    if new.status == "COMPLETE":
        index = request.at - STAGES
        if completed[index] is not None:
            return onlooker, "a stage is completed twice in one life (G2)"
        completed = (*completed[:index], new.by, *completed[index + 1 :])
    return onlooker._replace(epoch=new.epoch, owner=new.by, completed=completed), None


def judge_belief(manifest: Manifest, record: Stage) -> str | None:
    """Whether what a client takes for stored of a stage is of this life."""
    if record.life != manifest.life:
        return f"{record.status} of an earlier life is taken for one of this life"
    return None
