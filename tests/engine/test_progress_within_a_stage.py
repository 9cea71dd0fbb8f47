"""Checkpoints, resumable loops and progress: what a long stage keeps of a cut or failed attempt."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkmate import (
    IncompatibleTaskException,
    InvalidStateException,
    LockLostException,
    RetryPolicy,
    StageEvent,
    StageFailedException,
    StorageUnavailableException,
    TaskEngineException,
    TaskIO,
    TaskStore,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import CountingTaskIO
from checkmate_core.types import Version

from .pipelines import (
    TASK,
    Engine,
    FakeClock,
    Notes,
    Step,
    Witness,
    bury_holder,
    document,
    engine_for,
    raw_without_locks,
    stage_documents,
    steps,
)


class DiedError(BaseException):
    """The process died here."""


class Sometimes(CountingTaskIO):
    """A store that cannot be reached while it is down."""

    is_down = False

    def write(self, *args: Any, **options: Any) -> Version:
        if self.is_down:
            raise StorageUnavailableException("down")
        return super().write(*args, **options)


def looping(
    items: Iterable[str],
    body: Callable[[Step, str], object] = lambda *_: None,
    **options: Any,
) -> Callable[[Step, Notes], None]:
    """An action that adds each item to the trail."""
    options.setdefault("every", 1)

    def action(stage: Step, _: Notes) -> None:
        for item in stage.resumable(items, **options):
            body(stage, item)
            stage.state.trail.append(item)

    return action


def die_at(*wanted: str) -> Callable[[Step, str], None]:
    left = list(wanted)

    def body(_: Step, item: str) -> None:
        if item in left:
            left.remove(item)
            raise DiedError

    return body


def fail_at(*wanted: str) -> Callable[[Step, str], None]:
    left = list(wanted)

    def body(stage: Step, item: str) -> None:
        if item in left:
            left.remove(item)
            stage.state.count = 99
            raise ValueError(item)

    return body


def run(io: TaskIO, action: Any, **options: Any) -> Engine:
    engine = engine_for(io, steps("work", action=action), **options)
    with engine:
        engine.execute(strict_recovery=True)
    return engine


def trail(io: TaskIO) -> list[str]:
    found: list[str] = stage_documents(io)[0]["state"]["trail"]
    return found


ITEMS = ["i0", "i1", "i2", "i3", "i4"]


def test_a_loop_goes_on_behind_the_last_saved_item(io: TaskIO) -> None:
    action = looping(ITEMS, die_at("i2"))
    with pytest.raises(DiedError):
        run(io, action)
    assert trail(io) == ["work", "i0", "i1"]
    run(io, action)
    # What the stage does before its loop is its own to do once.
    assert trail(io) == ["work", "i0", "i1", "work", "i2", "i3", "i4"]


@pytest.mark.parametrize("keep", [True, False])
def test_what_a_stage_saved_on_purpose_outlives_a_failed_attempt(io: TaskIO, *, keep: bool) -> None:
    options = {"retry_policy": RetryPolicy.fixed(0), "max_attempts": 3} if keep else {}
    action = looping(ITEMS, fail_at("i3"))
    if keep:
        run(io, action, **options)
    else:
        with pytest.raises(StageFailedException):
            run(io, action)
        assert trail(io) == ["work", "i0", "i1", "i2"]
        assert stage_documents(io)[0]["state"]["count"] == 0
        run(io, action)
    assert [each for each in trail(io) if each != "work"] == ITEMS


def test_items_behind_the_last_save_are_done_again_and_never_twice_in_the_state(io: TaskIO) -> None:
    action = looping(ITEMS, die_at("i3"), every=2)
    with pytest.raises(DiedError):
        run(io, action)
    assert trail(io) == ["work", "i0", "i1"]
    run(io, action)
    assert [each for each in trail(io) if each != "work"] == ITEMS


def test_with_a_key_the_items_before_may_change(io: TaskIO) -> None:
    action = looping(ITEMS, die_at("i2"), key=lambda item: item)
    with pytest.raises(DiedError):
        run(io, action)
    run(io, looping(["new", "i1", "i2", "i4"], key=lambda item: item))
    assert [each for each in trail(io) if each != "work"] == ["i0", "i1", "i2", "i4"]


@pytest.mark.parametrize(
    ("items", "key"), [(["i0"], None), (["i0", "i2", "i3"], lambda item: item)], ids=["counted", "keyed"]
)
def test_items_that_lack_the_last_saved_one_are_refused(
    io: TaskIO, items: list[str], key: Callable[[str], object] | None
) -> None:
    with pytest.raises(DiedError):
        run(io, looping(ITEMS, die_at("i2"), key=key))
    saved = document(io, f"{TASK}/stages/000-work.json")["state"]
    with pytest.raises(StageFailedException) as caught:
        run(io, looping(items, key=key))
    assert isinstance(caught.value.__cause__, IncompatibleTaskException)
    assert "'items'" in str(caught.value.__cause__)
    assert "item 2" in str(caught.value.__cause__)
    assert document(io, f"{TASK}/stages/000-work.json")["state"] == saved


def test_two_loops_have_two_names(io: TaskIO) -> None:
    def action(stage: Step, _: Notes) -> None:
        for item in stage.resumable(ITEMS, name="first", every=1):
            stage.state.trail.append(item)
        for item in stage.resumable(ITEMS, name="second", every=1):
            fail(stage, item)
            stage.state.trail.append(item.upper())

    fail = fail_at("i1")
    run(io, action, retry_policy=RetryPolicy.fixed(0), max_attempts=2)
    assert [each for each in trail(io) if each != "work"] == ITEMS + [item.upper() for item in ITEMS]


def test_one_name_for_two_loops_is_refused(io: TaskIO) -> None:
    def action(stage: Step, _: Notes) -> None:
        list(stage.resumable(ITEMS))
        list(stage.resumable(ITEMS))

    with pytest.raises(StageFailedException, match="two loops named 'items'"):
        run(io, action)


def test_every_must_be_a_number_of_items(io: TaskIO) -> None:
    with pytest.raises(StageFailedException, match="every=0"):
        run(io, looping(ITEMS, every=0))


@given(
    count=st.integers(0, 12),
    every=st.integers(1, 5),
    deaths=st.lists(st.integers(0, 12), max_size=4),
    keyed=st.booleans(),
)
def test_whatever_kills_it_each_item_is_in_the_state_once(
    *, count: int, every: int, deaths: list[int], keyed: bool
) -> None:
    io = Witness(MemoryTaskIO())
    items = [f"i{number}" for number in range(count)]
    body = die_at(*(f"i{number}" for number in deaths if number < count))
    action = looping(items, body, every=every, key=(lambda item: item) if keyed else None)
    for _ in range(len(deaths) + 1):
        try:
            run(io, action, max_interruptions=99)
        except DiedError:
            continue
        break
    assert [each for each in trail(io) if each != "work"] == items
    io.check_guarantees()


def test_saves_take_two_percent_of_the_time_at_most(memory: TaskIO, clock: FakeClock) -> None:
    class Slow(CountingTaskIO):
        """Each write takes half a second."""

        def write(self, *args: Any, **options: Any) -> Any:
            clock.time += 0.5
            return super().write(*args, **options)

    io = Slow(memory)
    seconds = 0.1
    begin = clock.time
    run(
        io,
        looping([str(number) for number in range(10_000)], lambda *_: clock.pass_time(seconds), every=None),
        clock=clock,
        lease=None,
    )
    saves = io.counts.writes - 5  # lock, manifest, RUNNING, COMPLETE, the manifest's end
    work = 10_000 * seconds
    assert 0.015 * work <= saves * 0.5 <= 0.02 * work
    assert clock.time - begin <= work * 1.02 + 3


def test_saves_come_once_a_second_at_most(memory: TaskIO, clock: FakeClock) -> None:
    io = CountingTaskIO(memory)
    run(
        io,
        looping([str(number) for number in range(10_000)], lambda *_: clock.pass_time(0.001), every=None),
        clock=clock,
        lease=None,
    )
    assert io.counts.writes - 5 in (9, 10)


def test_a_checkpoint_is_what_a_resumed_attempt_begins_with(io: TaskIO) -> None:
    seen: list[int] = []

    def action(stage: Step, _: Notes) -> None:
        seen.append(stage.state.count)
        stage.state.count += 1
        stage.checkpoint()
        stage.state.count += 100
        if len(seen) < 3:
            raise DiedError

    for _ in range(2):
        with pytest.raises(DiedError):
            run(io, action)
    run(io, action)
    assert seen == [0, 1, 2]


def test_a_checkpoint_that_cannot_be_read_back_is_refused_and_nothing_is_written(io: TaskIO) -> None:
    def action(stage: Step, _: Notes) -> None:
        stage.state.count = "many"  # type: ignore[assignment]
        before.append(raw_without_locks(io))
        stage.checkpoint()

    before: list[dict[str, bytes]] = []
    witness = Witness(io)
    with pytest.raises(StageFailedException) as caught:
        run(witness, action)
    assert isinstance(caught.value.__cause__, InvalidStateException)
    statuses = [
        change.body["status"] for change in witness.applied if change.body and "/stages/" in change.name
    ]
    assert statuses == ["RUNNING", "ERROR"]


def test_a_checkpoint_needs_a_stage_that_is_executed(io: TaskIO) -> None:
    with engine_for(io) as engine:
        stage = engine.stages[0]
        calls: list[Callable[[], object]] = [
            stage.checkpoint,
            lambda: stage.resumable([]),
            lambda: stage.progress(1),
        ]
        for call in calls:
            with pytest.raises(TaskEngineException, match="not being executed"):
                call()
    with pytest.raises(TaskEngineException, match="not bound"):
        steps()[0].checkpoint()


def test_a_thread_that_outlives_its_stage_saves_nothing(io: TaskIO) -> None:
    refused: list[str] = []

    def action(stage: Step, _: Notes) -> None:
        attempt = stage.attempt

        def late() -> None:
            ended.wait()
            try:
                attempt.save()
            except TaskEngineException as exc:
                refused.append(str(exc))

        threads.append(threading.Thread(target=late))
        threads[0].start()

    ended, threads = threading.Event(), list[threading.Thread]()
    engine = engine_for(io, steps("work", action=action))
    with engine:
        engine.execute()
        before = raw_without_locks(io)
        ended.set()
        threads[0].join()
        assert raw_without_locks(io) == before
    assert "not being executed any more" in refused[0]


def test_a_lost_task_ends_the_loop_and_rolls_nothing_back(memory: TaskIO) -> None:
    undone: list[str] = []

    def steal(stage: Step, item: str) -> None:
        if item == "i2":
            bury_holder(memory)
            with engine_for(memory, steps("work")) as thief:
                thief.execute(strict_recovery=True)

    step = steps("work", action=looping(ITEMS, steal))[0]
    step.undo = lambda *_: undone.append("work")
    with pytest.raises(LockLostException), engine_for(memory, [step]) as engine:
        engine.execute()
    assert undone == []
    # The thief's own run, which has no loop, is what stands there.
    assert trail(memory) == ["work", "i0", "i1", "work"]
    assert TaskStore(memory).get(TASK).status == "COMPLETE"


def test_a_store_that_is_away_for_a_while_does_not_end_the_loop(memory: TaskIO) -> None:
    io = Sometimes(memory)

    def body(_: Step, item: str) -> None:
        io.is_down = item == "i2"

    run(io, looping(ITEMS, body))
    assert [each for each in trail(memory) if each != "work"] == ITEMS


def test_an_explicit_checkpoint_that_fails_ends_the_run_and_not_the_attempt(memory: TaskIO) -> None:
    io = Sometimes(memory)

    def action(stage: Step, _: Notes) -> None:
        io.is_down = True
        try:
            stage.checkpoint()
        except StorageUnavailableException:
            pass  # a stage that carries on regardless
        finally:
            io.is_down = False

    with pytest.raises(StorageUnavailableException):
        run(io, action, retry_policy=RetryPolicy.fixed(0), max_attempts=5)
    assert [entry["status"] for entry in stage_documents(memory)[0]["history"]] == ["RUNNING"]


def test_progress_is_told_at_once_and_stored_when_it_is_due(memory: TaskIO, clock: FakeClock) -> None:
    events: list[StageEvent] = []
    stored: list[Any] = []

    def action(stage: Step, _: Notes) -> None:
        for number in range(1, 101):
            stage.state.count = number
            stage.progress(number, 100, "thinking")
            clock.pass_time(0.1)
            stored.append(TaskStore(memory).get(TASK))

    io = CountingTaskIO(memory)
    run(io, action, clock=clock, lease=None, observers=[events.append])
    told = [event.progress for event in events if event.kind == "progressed"]
    assert [progress.done for progress in told if progress] == list(range(1, 101))
    assert io.counts.writes - 5 in range(8, 11)
    view = stored[-1]
    assert view.progress.total == 100
    assert 80 < view.progress.done <= 100
    assert f"Attempt 1: {view.progress.done:g} of 100: thinking" == view.stages[0].history[-1].message
    # The state was in the middle of something: it is as it was stored.
    assert view.stages[0].state["count"] == 0
    history = TaskStore(memory).get(TASK).stages[0].history
    assert [entry.status for entry in history] == ["RUNNING", "COMPLETE"]


def test_a_loop_tells_of_its_progress_by_itself(memory: TaskIO) -> None:
    def look(_: Step, item: str) -> None:
        seen.append(TaskStore(memory).get(TASK).progress)

    seen: list[Any] = []
    run(memory, looping(ITEMS, look))
    assert [progress and (progress.done, progress.total) for progress in seen] == [
        None,
        *((number, 5) for number in range(1, 5)),
    ]
