"""The guarantees, checked from what the store applied and what the processes saw.

Nothing here knows how the engine works: a check reads the order of the changes, and the stages' own
log of when they were executed.
"""

from collections.abc import Callable
from typing import Final

from checkmate_core.layout import stage_object_name
from checkmate_core.testing.simulation.record import Faults, Record, comparable, say
from checkmate_core.testing.simulation.stage_guarantees import (
    artifacts_are_whole,
    cancels_what_is_asked_for,
    events_are_taken_once,
    rolls_back_in_order,
    saved_items_are_done_once,
    waits_out_its_time,
)
from checkmate_core.testing.simulation.store import Change
from checkmate_core.testing.simulation.trace import Body

_BACK: Final = ("ROLLING_BACK", "ROLLED_BACK", "REMOVING")


def complete_is_final(record: Record) -> Faults:
    """G1: nothing is ever written over, or instead of, a COMPLETE stage, but its task's way back.

    Under whatever name: a newer release may call a stage otherwise.
    """
    done: dict[tuple[str, int | None], int] = {}
    going_back: set[tuple[str, int | None]] = set()
    for change in record.changes:
        if not change.is_stage:
            continue
        # What arrives late for an earlier life is garbage, but in the object's place.
        place = (change.stage if change.live_body else change.name, change.life)
        task = (change.task_id, change.life)
        status = change.live_body["status"] if change.live_body else None
        if status in ("ROLLING_BACK", "ROLLED_BACK"):
            going_back.add(task)
        if place in done and not (task in going_back and status in _BACK):
            yield f"change {change.number} at {say(change)}, which was COMPLETE since change {done[place]}"
        if change.live_body and change.live_body["status"] == "COMPLETE":
            done.setdefault((change.name, change.life), change.number)
            done.setdefault(place, change.number)


def one_commit(record: Record) -> Faults:
    """G2: of all executions of a stage at most one commits."""
    commits: dict[tuple[str, int | None], int] = {}
    for change in record.changes:
        if change.live_body and change.live_body["status"] == "COMPLETE":
            place = (change.stage, change.life)
            if place in commits:
                yield f"change {change.number} commits {change.name}, as change {commits[place]} did"
            commits[place] = change.number


def begun_before_executed(record: Record) -> Faults:
    """G3: no stage is executed before its RUNNING is stored, nor twice for one; no two owners have one token."""
    running: dict[tuple[str, str, int], Change] = {}
    for change in record.changes:
        body = change.body
        if change.is_stage and body and body["status"] == "RUNNING" and not body.get("migrating"):
            running.setdefault((change.name, body["owner"], body["attempts"]), change)
    seen: set[tuple[str, str, int]] = set()
    tokens: dict[tuple[str, int | None], str] = {}
    for execution in record.log.executions:
        key = (execution.obj_name, execution.owner, execution.attempt)
        begin = running.get(key)
        what = f"{execution.by} executed {execution.obj_name}, attempt {execution.attempt},"
        if begin is None or begin.number >= execution.number:
            yield f"{what} before that was stored"
        elif begin.body and (begin.body["epoch"], begin.body["base_epoch"]) != (
            execution.token,
            execution.life,
        ):
            yield f"{what} with token {execution.token}, but what is stored says {say(begin)}"
        if key in seen:
            yield f"{what} twice"
        seen.add(key)
        holder = tokens.setdefault((execution.task_id, execution.token), execution.owner)
        if holder != execution.owner:
            yield f"{what} with token {execution.token}, which another owner had too"


def older_owners_are_fenced(record: Record) -> Faults:
    """G4: once an owner has claimed, nothing that an older owner sends changes anything."""
    claims: dict[str, int] = {}
    owners: dict[str, dict[str, int]] = {}
    for change in record.changes:
        if not change.is_stage and not change.is_manifest:
            continue
        body, before = change.body, change.before
        claimed = claims.get(change.task_id, 0)
        was_live = change.is_stage and before is not None and before["base_epoch"] == change.life
        if was_live and change.live_body is None:
            yield f"change {change.number} at {say(change)} ends a stage in the midst of its life"
        if body is None or (change.is_stage and not change.live_body):
            continue
        if body["epoch"] < claimed:
            yield f"change {change.number} at {say(change)}, after epoch {claimed} had claimed the task"
        if before and body["epoch"] < before["epoch"]:
            yield f"change {change.number} at {say(change)} over epoch {before['epoch']}"
        if before and body["epoch"] == before["epoch"] and body["owner"] != before["owner"]:
            yield f"change {change.number} at {say(change)} over another owner of that epoch"
        if change.is_stage:
            claims[change.task_id] = max(claimed, body["epoch"])
        if change.is_settling:
            # It is followed by a claim, and until then an earlier owner's write may arrive as before.
            continue
        epochs = owners.setdefault(change.task_id, {})
        if body["owner"] not in epochs:
            if epochs and body["epoch"] <= max(epochs.values()):
                yield f"change {change.number} at {say(change)}: not above every owner before"
            epochs[body["owner"]] = body["epoch"]


def locks_change_hands_in_order(record: Record) -> Faults:
    """Lock: only its holder renews, releases or removes it; every take-over raises the epoch."""
    holders: dict[str, str] = {}
    for change in record.changes:
        if not change.is_lock:
            continue
        before, body = change.before, change.body
        owner = body["owner"] if body else None
        if owner is not None and holders.setdefault(owner, change.by) != change.by:
            yield f"change {change.number} at {say(change)} is not {holders[owner]}'s"
        if before is None:
            continue
        is_own = before["owner"] is not None and holders[before["owner"]] == change.by
        if body is None:
            if not is_own:
                yield f"change {change.number} removes {change.name}, which is somebody else's"
        elif change.by in record.operators:
            if body["owner"] is not None:
                yield f"change {change.number} at {say(change)} is no release"
        elif body["epoch"] < before["epoch"]:
            yield f"change {change.number} at {say(change)} lowers the epoch from {before['epoch']}"
        elif body["epoch"] == before["epoch"]:
            is_release = body["owner"] is None and is_own
            is_renewal = body["owner"] == before["owner"] and is_own
            if not is_release and not is_renewal:
                yield f"change {change.number} at {say(change)} is no release or renewal by its holder"


def leases_are_respected(record: Record) -> Faults:
    """Lease: where all clocks are right, no lock is taken from a holder that was heard of in time."""
    if any(rate != 1.0 for rate in record.scenario.rates):
        return
    for change in record.changes:
        if not change.is_take_over or change.before is None:
            continue
        lease, silent = change.before["lease_s"], change.time - change.before_since
        is_left = change.ended_by is not None and change.before["epoch"] <= change.ended_by
        if not is_left and (lease is None or silent <= lease):
            yield f"change {change.number} at {say(change)} takes a lock that is {silent:.2f} s old"


def unfinished_tasks_have_a_lock(record: Record) -> Faults:
    """Index: whoever lists the locks finds every unfinished task."""
    locks: set[str] = set()
    unfinished: set[str] = set()
    for change in record.changes:
        kept = locks if change.is_lock else unfinished if change.is_manifest else None
        if kept is None:
            continue
        if change.body is None or change.body.get("ended") or change.body.get("removed"):
            kept.discard(change.task_id)
        else:
            kept.add(change.task_id)
        if change.task_id in unfinished - locks:
            yield f"change {change.number} at {say(change)} leaves {change.task_id} unfinished, without a lock"


def every_task_finishes(record: Record) -> Faults:
    """G5: whatever happened before, the next worker can read the task and bring it to its end."""
    for who, exc in record.unexpected:
        yield f"{who} met {type(exc).__name__}: {exc}"
    for task_id in (f"t{index}" for index in range(record.scenario.tasks)):
        if task_id not in record.finished:
            yield f"{task_id} could not be finished"


def acknowledged_survives(record: Record) -> Faults:
    """G6: every acknowledged write was applied, and what came later only added to it."""
    applied: dict[str, Change] = {}
    for change in record.changes:
        body, before = change.body, change.before
        if body is None or not change.is_stage:
            continue
        applied[body["write_id"]] = change
        is_same_life = before is not None and before["base_epoch"] == body["base_epoch"]
        if is_same_life and before and not _continues(body["history"], before["history"]):
            yield f"change {change.number} at {say(change)} drops history"
    for told in record.log.acknowledged:
        if told.write_id not in applied:
            yield f"{told.by} was told that {told.obj_name} is {told.status}, and it never was"


def commits_as_if_undisturbed(record: Record) -> Faults:
    """End: what a stage commits is what it would be had nothing gone wrong."""
    for change, body in record.live_stages():
        if body["status"] == "COMPLETE":
            found = comparable(body["state"])
            if found != record.undisturbed.get(body["stage_name"]):
                yield f"change {change.number} at {say(change)} commits {found}"


def ends_as_if_undisturbed(record: Record) -> Faults:
    """End: a finished task is complete, canceled or rolled back, all of it, with the stages of one release."""
    for task_id in record.finished:
        manifest = record.bodies[f"{task_id}/task.json"]
        if manifest["removed"]:
            continue
        names = [template["stage_name"] for template in manifest["stage_templates"]]
        if names not in [
            [name for name, _ in record.scenario.pipeline(newer=newer)] for newer in (False, True)
        ]:
            yield f"{task_id} has the stages {names}, which are those of no release"
        stages = [
            record.bodies.get(stage_object_name(task_id, index, name))
            for index, name in enumerate(manifest["stage_objects"] or names)
        ]
        # One that was never begun is CREATED only by a migration.
        live = [
            body
            if body and body["base_epoch"] == manifest["base_epoch"] and body["status"] != "CREATED"
            else None
            for body in stages
        ]
        for name, body in zip(names, live, strict=True):
            if (
                body
                and body["status"] == "COMPLETE"
                and comparable(body["state"]) != record.undisturbed.get(name)
            ):
                yield f"{task_id} has {comparable(body['state'])} of {name}, which is not what its stages make"
        done = [body for body in live if body and body["status"] == "COMPLETE"]
        if live[: len(done)] != done:
            yield f"{task_id} has a COMPLETE stage behind an unfinished one"
        statuses = [body["status"] if body else None for body in live[len(done) :]]
        expected = "COMPLETE" if not statuses else "ROLLED_BACK" if "ROLLED_BACK" in statuses else "CANCELED"
        if manifest["ended_as"] != expected:
            yield f"{task_id} has {len(done)} COMPLETE stages and ended as {manifest['ended_as']}"
        if expected == "CANCELED" and (
            task_id not in record.cancels or statuses != ["CANCELED"] + [None] * (len(statuses) - 1)
        ):
            yield f"{task_id} is canceled, but its stages are not"
        back = statuses.count("ROLLED_BACK")
        if expected == "ROLLED_BACK" and statuses != ["ROLLED_BACK"] * back + [None] * (len(live) - back):
            yield f"{task_id} is rolled back, but its stages are {statuses}"


GUARANTEES: Final[tuple[Callable[[Record], Faults], ...]] = (
    complete_is_final,
    one_commit,
    begun_before_executed,
    older_owners_are_fenced,
    locks_change_hands_in_order,
    leases_are_respected,
    unfinished_tasks_have_a_lock,
    acknowledged_survives,
    saved_items_are_done_once,
    events_are_taken_once,
    waits_out_its_time,
    rolls_back_in_order,
    cancels_what_is_asked_for,
    artifacts_are_whole,
    every_task_finishes,
    commits_as_if_undisturbed,
    ends_as_if_undisturbed,
)
"""All checks; the first line of each one's docstring begins with the name of its guarantee."""


def violations(record: Record) -> list[str]:
    """Everything that is wrong with a run, in words, with the guarantee that it violates."""
    found = []
    for check in GUARANTEES:
        name = (check.__doc__ or "").partition(":")[0]
        found += [f"{name} ({check.__name__}): {fault}" for fault in check(record)]
    return found


def _continues(history: list[Body], before: list[Body]) -> bool:
    """Whether one history begins with the other; what an entry says of progress may change."""
    kept = history[: len(before)]
    return len(kept) == len(before) and all(
        {**new, "message": ""} == {**old, "message": ""} for new, old in zip(kept, before, strict=True)
    )
