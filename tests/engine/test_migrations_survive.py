"""A migration is cut off, delayed or usurped at every request: nothing is lost, doubled or written late."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from checkmate import (
    IncompatibleTaskException,
    LockLostException,
    StageStatus,
    StorageUnavailableException,
    TaskEngineException,
    TaskIO,
    TaskStore,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import (
    ApplyLater,
    Call,
    CallBefore,
    FaultyTaskIO,
    LoseResponse,
    Operation,
    RaiseBefore,
)

from .changing import GROWN, OLD_CODE, RENAMED, SHRUNK, Release, check_fence, finish, fresh, prepare, usurp
from .pipelines import MANIFEST, Crash, Engine, Logged, document, is_locked, raw_without_locks
from .test_a_crash_at_any_request import MOMENTS, dies_at

SITUATIONS = [
    pytest.param(GROWN, 0, "enqueued", marks=pytest.mark.slow),
    (GROWN, 1, "failed"),
    pytest.param(GROWN, 1, "interrupted", marks=pytest.mark.slow),
    (SHRUNK, 1, "enqueued"),
]
situations = pytest.mark.parametrize(
    ("release", "complete", "then"), SITUATIONS, ids=lambda each: str(getattr(each, "names", each))
)


def requests_of(release: Release, complete: int, then: str) -> int:
    store = MemoryTaskIO()
    prepare(store, complete, then)
    client = FaultyTaskIO(store)
    release.run(client)
    return len(client.calls)


def points(*situation: object) -> Iterator[int]:
    return iter(range(1, requests_of(*situation) + 1))  # type: ignore[arg-type]


@situations
def test_after_a_crash_at_any_request_of_a_migration_one_of_both_codes_goes_on(
    release: Release, complete: int, then: str
) -> None:
    for number, moment in itertools.product(points(release, complete, then), MOMENTS):
        for order in ((OLD_CODE, release), (release, OLD_CODE)):
            store = fresh()
            prepare(store, complete, then)
            with pytest.raises(Crash):
                release.run(dies_at(store, number, moment))
            was_migrated = len(document(store, MANIFEST)["stage_templates"]) != 3
            ran, log = finish(store, *order)
            assert ran is (release if was_migrated else order[0]), (number, moment)
            assert "a" not in log.names or complete == 0
            check_fence(store)


@situations
@pytest.mark.parametrize(
    "fault", [LoseResponse(), RaiseBefore(), ApplyLater(1)], ids=["answer", "request", "late"]
)
def test_a_lost_answer_at_any_request_of_a_migration_is_resolved_or_raised(
    release: Release, complete: int, then: str, fault: object
) -> None:
    for number in points(release, complete, then):
        store = fresh()
        prepare(store, complete, then)
        client = FaultyTaskIO(store)

        def is_hit(call: Call, number: int = number) -> bool:
            is_read = call.operation in (Operation.READ, Operation.LIST, Operation.EXISTS)
            return call.number == number and not (is_read and isinstance(fault, ApplyLater))

        client.plan(is_hit, fault)  # type: ignore[arg-type]
        try:
            release.run(client)
        except StorageUnavailableException:
            assert client.calls[number - 1].operation is Operation.READ, "a write is resolved by itself"
            finish(store, release)
        client.deliver_late()
        assert not is_locked(store)
        finish(store, release)
        check_fence(store)


@pytest.mark.slow
@situations
def test_what_a_dead_migrator_sent_and_arrives_at_any_request_of_its_successor_changes_nothing_wrong(
    release: Release, complete: int, then: str
) -> None:
    """The one that this whole protocol is for: the manifest that is still on its way."""
    after = 3
    store = MemoryTaskIO()
    prepare(store, complete, then)
    with release.engine(client := FaultyTaskIO(store)):
        bind = len(client.calls)
    for number, arrival, successor in itertools.product(
        range(3, bind + after), range(1, 12), (OLD_CODE, release)
    ):
        witness = fresh()
        prepare(witness, complete, then)
        dead = FaultyTaskIO(witness)
        dead.plan(number, ApplyLater(None, Crash()))
        dead.plan(lambda call, number=number: call.number > number, RaiseBefore(Crash()), times=None)  # type: ignore[misc]
        with pytest.raises(Crash):
            release.run(dead)
        client = FaultyTaskIO(witness)
        client.plan(arrival, CallBefore(lambda _, dead=dead: dead.deliver_late()))  # type: ignore[misc]
        usurp(witness, lambda client=client, successor=successor: successor.run(client))  # type: ignore[misc]
        dead.deliver_late()
        finish(witness, OLD_CODE, release)
        check_fence(witness)


def by_whom_it_fits(action: Callable[[Engine], object]) -> Callable[[TaskIO], object]:
    """Old code does it, or new code where the task has been migrated already."""

    def act(store: TaskIO) -> None:
        try:
            action(OLD_CODE.engine(store))
        except IncompatibleTaskException:
            action(GROWN.engine(store))

    return act


def clean(engine: Engine) -> None:
    engine.bind()
    engine.unbind(clean=True)


USURPERS: dict[str, Callable[[TaskIO], object]] = {
    "old code": OLD_CODE.run,
    "new code": GROWN.run,
    "other code": RENAMED.run,
    "migrates only": lambda store: _bind(RENAMED, store),
    "cancel": by_whom_it_fits(lambda engine: engine.cancel()),
    "rollback": by_whom_it_fits(lambda engine: engine.rollback()),
    "clean": by_whom_it_fits(clean),
}


def _bind(release: Release, store: TaskIO) -> None:
    with release.engine(store):
        pass


def check_settled(store: TaskIO) -> None:
    """The task is whole: somebody can run it to its end, or it has ended, or it was removed."""
    if document(store, MANIFEST)["removed"] is not None:
        return
    if TaskStore(store).get("task-1").ended is None:
        finish(store, OLD_CODE, GROWN, RENAMED)  # type: ignore[arg-type]
    assert TaskStore(store).get("task-1").ended is not None


@pytest.mark.parametrize("usurper", list(USURPERS))
@pytest.mark.parametrize(
    ("complete", "then"), [pytest.param(0, "enqueued", marks=pytest.mark.slow), (1, "failed")]
)
@pytest.mark.parametrize("stopped", [GROWN, OLD_CODE], ids=["migrator", "old worker"])
def test_one_that_was_stopped_before_any_request_is_fenced_when_it_goes_on(
    stopped: Release, complete: int, then: str, usurper: str
) -> None:
    action = USURPERS[usurper]
    lost = 0
    for number in points(stopped, complete, then):
        store, log = fresh(), Logged()
        prepare(store, complete, then)
        client = FaultyTaskIO(store)
        seen: list[int] = []

        def pause(_: Call, store: object = store, log: Logged = log, seen: list[int] = seen) -> None:
            usurp(store, lambda: action(store))  # type: ignore[arg-type]
            seen.append(len(log.names))

        client.plan(number, CallBefore(pause))
        try:
            stopped.run(client, log)
        except LockLostException:
            lost += 1
        except TaskEngineException:
            pass
        check_fence(store)
        check_settled(store)
        check_fence(store)
    can_take_it = stopped is OLD_CODE or usurper not in ("old code", "other code", "migrates only")
    assert bool(lost) == can_take_it, "the pauses are where they matter"


def notes_the_end(call: Call) -> bool:
    return call.operation is Operation.WRITE and call.name == MANIFEST and call.number > 5


def test_a_rename_while_the_end_is_being_noted_keeps_the_old_worker_out() -> None:
    """All stages are complete: there is no object to claim, and the manifest decides."""
    store = fresh()
    client = FaultyTaskIO(store)
    client.plan(notes_the_end, CallBefore(lambda _: usurp(store, lambda: RENAMED.run(store))))
    with pytest.raises(LockLostException):
        OLD_CODE.run(client)
    assert finish(store, RENAMED)[1].names == []
    assert TaskStore(store).get("task-1").status is StageStatus.COMPLETE
    check_fence(store)


def test_a_task_whose_end_was_not_noted_is_migrated_and_nothing_runs_again() -> None:
    store = fresh()
    client = FaultyTaskIO(store)
    client.plan(notes_the_end, RaiseBefore(Crash()), times=None)
    with pytest.raises(Crash):
        OLD_CODE.run(client)
    assert document(store, MANIFEST)["ended"] is None
    assert finish(store, RENAMED)[1].names == []
    check_fence(store)


def test_a_mark_that_was_met_is_settled_once_and_then_costs_nothing() -> None:
    store = fresh()
    prepare(store, 1, "failed")
    with RENAMED.engine(store):
        pass
    writes = [each.name for each in store.applied if not each.name.startswith("_locks/")][-2:]
    assert writes == ["task-1/stages/001-b.json", MANIFEST]
    before = raw_without_locks(store)
    with RENAMED.engine(store):
        pass
    assert raw_without_locks(store) == before, "a bind that only looks writes nothing"
    store.applied.clear()
    RENAMED.run(store)
    written = [each.name.rpartition("/")[2] for each in store.applied if not each.name.startswith("_locks/")]
    assert written == ["task.json", "001-b.json", "001-b.json", "002-C.json", "002-C.json", "task.json"]


def test_code_that_read_the_old_list_before_the_lock_notices_the_migration_behind_it() -> None:
    for release in (OLD_CODE, RENAMED):
        store = fresh()
        prepare(store, 1, "failed")
        client = FaultyTaskIO(store)
        client.plan(2, CallBefore(lambda _, store=store: _bind(RENAMED, store)))  # type: ignore[misc]
        if release is RENAMED:
            release.run(client)
        else:
            with suppress(TaskEngineException):
                release.run(client)
                raise AssertionError("the old code has run a migrated task")
        finish(store, RENAMED)
        check_fence(store)
