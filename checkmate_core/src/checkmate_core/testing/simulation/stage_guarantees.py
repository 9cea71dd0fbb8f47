"""What is promised of stages that are saved in the middle, wait, are canceled and rolled back."""

from collections import defaultdict
from datetime import datetime
from typing import Final

from checkmate_core.layout import artifact_index_name, artifact_object_name
from checkmate_core.testing.simulation.artifacts import content_of
from checkmate_core.testing.simulation.pipeline import EVENT, sign_of
from checkmate_core.testing.simulation.process import WALL_TIME
from checkmate_core.testing.simulation.record import Faults, Record, say
from checkmate_core.testing.simulation.store import Change, stage_of
from checkmate_core.testing.simulation.trace import Body
from checkmate_core.transfer import digest

_BACKWARDS: Final = ("ROLLING_BACK", "ROLLED_BACK")


def saved_items_are_done_once(record: Record) -> Faults:
    """Items: what is saved of a loop is never done again in that life."""
    saves = defaultdict(list)
    for change, body in record.live_stages():
        cursor = body["notes"]["cursors"].get("items")
        if cursor:
            saves[change.stage, change.life].append((change.number, body["epoch"], cursor["done"]))
    for deed in record.log.items:
        for number, epoch, done in saves[stage_of(deed.obj_name), deed.life]:
            # A later owner's saves mean nothing to one who has not met its fence yet.
            if number < deed.number and epoch <= (deed.token or 0) and deed.item < done:
                yield f"{deed.by} did item {deed.item} of {deed.obj_name}, which change {number} had saved"
                break


def events_are_taken_once(record: Record) -> Faults:
    """Event: an event is taken by one stage, and its data is in what that commits, once."""
    sent: dict[str, tuple[int, int]] = {}
    takers: dict[str, str] = {}
    taken: dict[tuple[str, int | None], list[str]] = defaultdict(list)
    for change in record.changes:
        if change.is_signal and change.body and not change.body["is_taken"]:
            sent[change.body["write_id"]] = (change.body["base_epoch"], change.body["data"])
        if change.is_signal and change.before and (change.body is None or change.body["is_taken"]):
            is_for_this_life = change.before["base_epoch"] == change.life
            if is_for_this_life and change.before["write_id"] not in takers:
                yield f"change {change.number} removes {change.name}, which nobody has taken"
        if (body := change.live_body) is None or body["status"] == "REMOVING":
            continue
        ours = taken[change.name, change.life]
        event = body["notes"]["events"].get(EVENT)
        if event is not None and event not in ours[-1:]:
            ours.append(event)
            if takers.setdefault(event, change.name) != change.name or event in ours[:-1]:
                yield f"change {change.number} at {say(change)} takes an event that {takers[event]} had"
            if event not in sent or sent[event][0] != change.life:
                yield f"change {change.number} at {say(change)} takes an event that nobody sent to this life"
        if body["status"] == "COMPLETE":
            mail = body["state"]["mail"].get(sign_of(body["stage_name"]), [])
            if mail != [sent[each][1] for each in ours if each in sent]:
                yield f"change {change.number} at {say(change)} commits the data {mail} of {len(ours)} event(s)"


def rolls_back_in_order(record: Record) -> Faults:
    """Rollback: the last stage first, each at least once, and nothing goes forward any more."""
    tasks: dict[tuple[str, int | None], dict[str, str]] = defaultdict(dict)
    going_back: dict[tuple[str, int | None], int] = {}
    begun: dict[tuple[str, int | None, str], int] = {}
    for change, body in record.live_stages():
        key, status = (change.task_id, change.life), body["status"]
        statuses = tasks[key]
        before = statuses.get(change.name)
        statuses[change.name] = status
        begun.setdefault((change.name, change.life, body["owner"]), change.number)
        if status not in _BACKWARDS:
            if key in going_back and status != "REMOVING":
                yield f"change {change.number} at {say(change)} goes forward after change {going_back[key]}"
            continue
        going_back.setdefault(key, change.number)
        yield from _judge_rollback(record, change, statuses, before, begun)


def _judge_rollback(
    record: Record,
    change: Change,
    statuses: dict[str, str],
    before: str | None,
    begun: dict[tuple[str, int | None, str], int],
) -> Faults:
    body = change.body or {}
    where = f"change {change.number} at {say(change)}"
    # One that was never begun is CREATED only by a migration.
    is_nothing = ("CREATED", "ROLLED_BACK")
    left = [name for name, status in statuses.items() if name > change.name and status not in is_nothing]
    if left:
        yield f"{where} while {left[0]} is {statuses[left[0]]}"
    if before == "ROLLED_BACK" and body["status"] == "ROLLING_BACK":
        yield f"{where}, which was rolled back"
    if not record.scenario.compensates and change.task_id not in record.rollbacks:
        yield f"{where}, which nobody had asked for"
    if body["status"] == "ROLLED_BACK" and before not in (None, "ROLLED_BACK"):
        since = begun[change.name, change.life, body["owner"]]
        if not any(
            (deed.obj_name, deed.owner) == (change.name, body["owner"])
            and since < deed.number <= change.number
            for deed in record.log.undone
        ):
            yield f"{where}, whose rollback_stage was not called"


def cancels_what_is_asked_for(record: Record) -> Faults:
    """Cancel: no stage begins once a request was seen, and nothing is canceled without one for this life."""
    seen: dict[str, tuple[int, str]] = {}
    for told in record.log.acknowledged:
        if told.saw_cancel_request:
            seen.setdefault(told.owner, (told.number, told.obj_name))
    for deed in record.log.executions:
        number, obj_name = seen.get(deed.owner, (deed.number, deed.obj_name))
        if number <= deed.number and obj_name != deed.obj_name:
            yield f"{deed.by} executed {deed.obj_name}, having seen a cancel request when {obj_name} was stored"
    requests: set[tuple[str, int | None]] = set()
    for change in record.changes:
        if change.is_cancel_request and change.body:
            requests.add((change.task_id, change.body["base_epoch"]))
        body = change.live_body
        if not body or body["status"] != "CANCELED":
            continue
        reasons = {
            deed.is_asked_by_letter
            for deed in record.log.cleaned_up
            if (deed.obj_name, deed.owner) == (change.name, body["owner"]) and deed.number <= change.number
        }
        if not reasons:
            yield f"change {change.number} at {say(change)} without a call of cancel()"
        elif reasons == {True} and (change.task_id, change.life) not in requests:
            yield f"change {change.number} at {say(change)}, and nobody asked for that in this life"


def artifacts_are_whole(record: Record) -> Faults:
    """Artifact: whatever a stored state refers to is there, and is what was put."""
    yield from record.log.misread
    there: dict[str, Body] = {}
    for change in record.changes:
        life = change.artifact_life
        if life is not None:
            there.pop(change.name, None)
            if change.body is not None:
                there[change.name] = change.body
            elif life == change.life:
                yield f"change {change.number} removes {change.name} from a living task"
        if (body := change.live_body) is None or body["status"] == "REMOVING" or change.life is None:
            continue
        if ref := body["state"]["ref"]:
            missing = _missing(change.task_id, change.life, ref, there)
            if missing:
                yield f"change {change.number} at {say(change)} refers to {missing}, which is not there"


def _missing(task_id: str, life: int, ref: Body, there: dict[str, Body]) -> str | None:
    index = artifact_index_name(task_id, life, ref["sha256"])
    if index not in there or ref["sha256"] != digest(content_of(ref["name"])):
        return index
    parts = [artifact_object_name(task_id, life, part) for part in there[index]["parts"]]
    for name, part in zip(parts, there[index]["parts"], strict=True):
        if name not in there or there[name]["content"] != part:
            return name
    return None


def waits_out_its_time(record: Record) -> Faults:
    """Wait: where all clocks are right, a stage that waits for a time does not go on before."""
    if any(rate != 1.0 for rate in record.scenario.rates):
        return
    until: dict[tuple[str, int | None], float] = {}
    for change, body in record.live_stages():
        place = (change.name, change.life)
        due = until.pop(place, 0.0)
        if body["status"] == "RUNNING" and WALL_TIME + change.time < due:
            yield f"change {change.number} at {say(change)} comes {due - WALL_TIME - change.time:.2f} s too early"
        suspension = body["notes"]["suspension"]
        if body["status"] == "SUSPENDED" and suspension["until"]:
            until[place] = datetime.fromisoformat(suspension["until"]).timestamp()
