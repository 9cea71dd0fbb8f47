"""What observers are told, when, in which thread; and that none of them can break a run."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from checkmate import (
    CheckMateEngine,
    LockLostException,
    RetryPolicy,
    StageEvent,
    StageFailedException,
    StageStatus,
    Suspend,
    TaskCanceledException,
    TaskIO,
    TaskStore,
)
from tests.engine.pipelines import TASK, bury_holder

from .tasks import (
    Awaited,
    Drive,
    Engine,
    Heard,
    Isolated,
    Step,
    died_in_b,
    engine_for,
    fails,
    synchronously,
)


@pytest.mark.parametrize("kind", [Step, Awaited])
def test_a_run_is_told_stage_by_stage_each_after_it_was_stored(
    io: TaskIO, heard: Heard, drive: Drive, kind: type[Step]
) -> None:
    drive(engine_for(io, kind(stage_name="a"), kind(stage_name="b"), observers=[heard]))
    assert heard.story == ["started a", "completed a", "started b", "completed b"]
    last = heard.events[-1]
    assert (last.base_url, last.task_id, last.stage_index, last.stages_total) == (io.base_url, TASK, 1, 2)
    assert (last.status, last.attempt, last.epoch, last.error) == (StageStatus.COMPLETE, 1, 1, None)
    assert last.end is not None
    assert last.begin <= last.end
    assert [event.ends_run for event in heard.events] == [False, False, False, True]


def test_a_failed_attempt_is_told_with_its_exception(io: TaskIO, heard: Heard, drive: Drive) -> None:
    drive(engine_for(io, Step(stage_name="a", action=fails(1)), observers=[heard]))
    assert heard.story == ["started a", "retried a", "started a", "completed a"]
    assert [str(event.error) for event in heard.events if event.error] == ["attempt 1 of a"]
    assert [event.attempt for event in heard.events] == [1, 1, 2, 2]


def test_a_stage_that_gives_up_is_told_once_and_ends_the_run(io: TaskIO, heard: Heard, drive: Drive) -> None:
    with pytest.raises(StageFailedException):
        drive(engine_for(io, Step(stage_name="a", action=fails()), observers=[heard]))
    assert heard.story == ["started a", "retried a", "started a", "failed a"]
    assert str(heard.events[-1].error) == "attempt 2 of a"
    assert heard.events[-1].ends_run


def test_a_compensation_is_told_backwards(io: TaskIO, heard: Heard, drive: Drive) -> None:
    stages = [Step(stage_name="a"), Step(stage_name="b", action=fails()), Step(stage_name="c")]
    with pytest.raises(StageFailedException):
        drive(
            engine_for(
                io,
                *stages,
                on_error="compensate",
                max_attempts=1,
                retry_policy=RetryPolicy.NONE,
                observers=[heard],
            )
        )
    assert heard.story == [
        *("started a", "completed a", "started b"),
        *("rolled_back b", "rolling_back a", "rolled_back a"),
    ]
    [failed] = [event for event in heard.events if event.error]
    assert (failed.kind, failed.stage_name) == ("rolled_back", "b")
    assert [event.ends_run for event in heard.events].index(True) == len(heard.events) - 1


def test_a_rollback_that_fails_is_told_as_a_failure(io: TaskIO, heard: Heard) -> None:
    engine = engine_for(
        io,
        Step(stage_name="a", undo=fails(error=OSError("disk"))),
        Step(stage_name="b", action=_suspend),
        observers=[heard],
    )
    synchronously(engine)
    with pytest.raises(StageFailedException):
        engine.rollback()
    assert heard.story[-3:] == ["rolled_back b", "rolling_back a", "failed a"]
    assert str(heard.events[-1].error) == "disk"
    assert heard.events[-1].status is StageStatus.ROLLING_BACK


def test_a_wait_and_its_end_are_told(io: TaskIO, heard: Heard, drive: Drive) -> None:
    def wait(stage: Step) -> None:
        if stage.state.verdict is None:
            raise Suspend(event="verdict")

    drive(engine_for(io, Step(stage_name="a", action=wait), observers=[heard]))
    assert heard.story == ["started a", "suspended a"]
    assert heard.events[-1].ends_run
    engine = engine_for(io, Step(stage_name="a", action=wait), observers=[heard])
    engine.signal("verdict", "approved")
    drive(engine)
    assert heard.story[2:] == ["started a", "completed a"]


def test_a_cancellation_is_told(io: TaskIO, heard: Heard) -> None:
    engine_for(io, Step(stage_name="a"), observers=[heard]).cancel()
    assert heard.story == ["canceled a"]
    assert heard.events[0].ends_run


def test_a_cancel_request_that_ends_a_stage_is_told(io: TaskIO, heard: Heard, drive: Drive) -> None:
    def work(stage: Step) -> None:
        TaskStore(io).request_cancel(TASK)
        stage.engine.look_for_cancel()
        stage.raise_if_canceled()

    with pytest.raises(TaskCanceledException):
        drive(engine_for(io, Step(stage_name="a", action=work), observers=[heard]))
    assert heard.story == ["started a", "canceled a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_run_that_is_cut_off_is_told(io: TaskIO, heard: Heard, drive: Drive, error: BaseException) -> None:
    with pytest.raises(type(error)):
        drive(engine_for(io, Step(stage_name="a", action=fails(1, error=error)), observers=[heard]))
    assert heard.story == ["started a", "interrupted a"]
    assert heard.events[-1].error is error
    assert heard.events[-1].status is StageStatus.RUNNING
    drive(engine_for(io, Step(stage_name="a"), observers=[heard]))
    assert heard.story[2:] == ["started a", "completed a"]


def test_a_run_that_loses_its_lock_is_told_at_the_next_stage(io: TaskIO, heard: Heard, drive: Drive) -> None:
    def lose(event: StageEvent) -> None:
        if event.kind == "completed":
            bury_holder(io)
            synchronously(engine_for(io, Step(stage_name="a"), Step(stage_name="b")))

    with pytest.raises(LockLostException):
        drive(engine_for(io, Step(stage_name="a"), Step(stage_name="b"), observers=[heard, lose]))
    assert heard.story == ["started a", "completed a", "interrupted b"]
    assert isinstance(heard.events[-1].error, LockLostException)


def test_a_resumed_task_tells_how_often_its_process_died(io: TaskIO, heard: Heard, drive: Drive) -> None:
    died_in_b(io)
    drive(engine_for(io, Step(stage_name="a"), Step(stage_name="b"), no_lock=True, observers=[heard]))
    assert heard.story == ["started b", "completed b"]
    assert [event.interruptions for event in heard.events] == [1, 0]
    assert heard.events[0].attempt == 2


def test_an_isolated_stage_is_told_of_by_the_parent(io: TaskIO, heard: Heard) -> None:
    synchronously(engine_for(io, Isolated(), observers=[heard]))
    assert heard.story == [
        *("started isolated", "progressed isolated", "retried isolated"),
        *("started isolated", "progressed isolated", "completed isolated"),
    ]
    assert isinstance(heard.events[2].error, ChildProcessError)
    assert str(heard.events[1].progress) == "1 of 2: in a child"


@pytest.mark.parametrize("kind", [Step, Awaited])
def test_progress_is_told_at_once_and_not_stored_each_time(
    io: TaskIO, heard: Heard, drive: Drive, kind: type[Step]
) -> None:
    def work(stage: Step) -> None:
        for number in range(3):
            stage.progress(number, 3, "counting")

    drive(engine_for(io, kind(stage_name="a", action=work), observers=[heard]))
    assert heard.story == ["started a", *["progressed a"] * 3, "completed a"]
    assert [event.progress.done for event in heard.events[1:4] if event.progress] == [0, 1, 2]


def test_the_hook_comes_first_and_the_observers_in_their_order(io: TaskIO, drive: Drive) -> None:
    told: list[str] = []

    class Hooked(CheckMateEngine[Step, Any]):
        def state_update_hook(self, stage: Step) -> None:
            stored = TaskStore(io).get(TASK).stages[0].status
            told.append(f"hook: {stage.status}, stored {stored}")

    def first(event: StageEvent) -> None:
        told.append(f"first: {event.kind}")

    def second(event: StageEvent) -> None:
        told.append(f"second: {event.kind}")

    engine = Hooked(io, TASK, [Step(stage_name="a")], observers=[first])
    engine.observers.append(second)
    drive(engine)
    assert told == [
        *("hook: RUNNING, stored RUNNING", "first: started", "second: started"),
        *("hook: COMPLETE, stored COMPLETE", "first: completed", "second: completed"),
    ]


def test_an_observer_that_raises_is_logged_and_breaks_nothing(
    io: TaskIO, heard: Heard, drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: StageEvent) -> None:
        raise ValueError("no such display")

    class Hooked(CheckMateEngine[Step, Any]):
        def state_update_hook(self, stage: Step) -> None:
            raise ValueError("no such hook")

    def work(stage: Step) -> None:
        stage.progress(1)

    drive(Hooked(io, TASK, [Step(stage_name="a", action=work)], observers=[broken, heard]))
    assert heard.story == ["started a", "progressed a", "completed a"]
    assert TaskStore(io).get(TASK).status is StageStatus.COMPLETE
    logged = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert logged.count(f"an observer failed at stage 'a' of task {TASK}") == 3
    assert logged.count(f"state_update_hook failed at stage 'a' of task {TASK}") == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_stops_a_program_passes_an_observer_and_leaves_a_task_to_resume(
    io: TaskIO, heard: Heard, drive: Drive, error: type[BaseException]
) -> None:
    def stop(event: StageEvent) -> None:
        if event.kind == "started":
            raise error

    with pytest.raises(error):
        drive(engine_for(io, Step(stage_name="a", action=fails()), observers=[stop, heard]))
    assert heard.story == ["interrupted a"]
    assert TaskStore(io).get(TASK).status is StageStatus.RUNNING
    drive(engine_for(io, Step(stage_name="a")))
    assert TaskStore(io).get(TASK).status is StageStatus.COMPLETE


def test_a_slow_observer_keeps_the_lock_and_blocks_no_event_loop(io: TaskIO) -> None:
    async def run() -> tuple[set[str], Engine]:
        loop = asyncio.get_running_loop()
        threads = set()

        def slow(event: StageEvent) -> None:
            threads.add(threading.current_thread().name.partition("_")[0])
            # Comes back only if the loop still turns.
            is_turning = threading.Event()
            loop.call_soon_threadsafe(is_turning.set)
            assert is_turning.wait(30)
            if event.kind == "started":
                renewed = io.read(f"_locks/{TASK}.lock").version
                while io.read(f"_locks/{TASK}.lock").version == renewed:
                    threading.Event().wait(0.02)

        engine = CheckMateEngine[Any, Any](io, TASK, [Awaited(stage_name="a")], lease=0.6, observers=[slow])
        async with engine:
            await engine.aexecute()
        return threads, engine

    threads, _ = asyncio.run(run())
    assert threads == {"checkmate-storage"}
    assert TaskStore(io).get(TASK).status is StageStatus.COMPLETE


def test_an_asyncio_task_that_is_canceled_tells_it_from_a_storage_thread(io: TaskIO) -> None:
    told: list[tuple[str, bool]] = []

    async def run() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell(event: StageEvent) -> None:
            told.append((event.kind, threading.current_thread() is threading.main_thread()))
            loop.call_soon_threadsafe(begun.set)

        engine = engine_for(io, Sleeping(stage_name="a"), observers=[tell])
        async with engine:
            running = asyncio.create_task(engine.aexecute())
            await begun.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(run())
    assert told == [("started", False), ("interrupted", False)]


class Sleeping(Step):
    async def execute_stage(self, previous_state_copy: Any) -> None:  # type: ignore[override]
        await asyncio.Event().wait()


def test_a_synchronous_run_tells_its_observers_in_its_own_thread(io: TaskIO) -> None:
    threads = set()
    engine = engine_for(
        io, Step(stage_name="a"), observers=[lambda event: threads.add(threading.current_thread())]
    )
    synchronously(engine)
    assert threads == {threading.main_thread()}


def _suspend(stage: Step) -> None:
    raise Suspend(event="verdict")
