"""Stages in a child process of their own."""

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest
from pydantic import Field

from checkmate import (
    ArtifactRef,
    BaseStage,
    BaseStageState,
    CheckMate,
    MissingStateException,
    RetryPolicy,
    StageEvent,
    StageFailedException,
    StageTimeoutException,
    Suspend,
    TaskCanceledException,
    TaskIO,
    TaskStore,
    TaskSuspendedException,
)
from checkmate_core.io.memory import MemoryTaskIO

TASK = "task-1"


class State(BaseStageState):
    mode: str = "work"
    pid: int | None = None
    items: list[int] = Field(default_factory=list)
    answer: str | None = None
    blob: ArtifactRef | None = None


class OddError(Exception):
    """An exception that pickles and does not come back."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


class Isolated(BaseStage[State]):
    stage_name: str = "isolated"
    state: State = Field(default_factory=State)
    isolated: bool = Field(default=True, exclude=True)

    def execute_stage(self, previous_state_copy: State) -> None:
        self.state.pid = os.getpid()
        getattr(self, self.state.mode)()
        self.state.result = "done"

    def work(self) -> None:
        self.state.items.append(1)

    def items_until_killed(self) -> None:
        for item in self.resumable(range(5), every=1):
            if item == 3 and self.attempts == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            self.state.items.append(item)

    def fail(self) -> None:
        raise MissingStateException("it lacks something")

    def fail_oddly(self) -> None:
        raise OddError("very", "odd")

    def hang(self) -> None:
        self.progress(1, 2, "hanging")
        time.sleep(600)

    def suspend(self) -> None:
        if self.state.answer is None:
            raise Suspend(event="answer")

    def wait_for_cancel(self) -> None:
        self.checkpoint()
        while not self.cancel_requested:
            time.sleep(0.01)
        self.raise_if_canceled()

    def put(self) -> None:
        self.state.blob = self.artifacts.put("blob", b"x" * 100_000)

    def cancel(self) -> None:
        self.state.items.append(os.getpid())


class AsyncIsolated(Isolated):
    async def execute_stage(self, previous_state_copy: State) -> None:  # type: ignore[override]
        self.state.pid = os.getpid()
        async for item in self.aresumable(range(3), every=1):
            await asyncio.sleep(0)
            self.state.items.append(item)


@pytest.fixture
def io(checkmate_file_url: str) -> TaskIO:
    from checkmate import open_task_io

    return open_task_io(checkmate_file_url)


def task(io: TaskIO, mode: str = "work", **options: Any) -> CheckMate[Any, Any]:
    timeout = options.pop("timeout", None)
    return CheckMate(io, TASK, [Isolated(state=State(mode=mode), timeout=timeout)], **options)


def stored(io: TaskIO) -> dict[str, Any]:
    return TaskStore(io).get(TASK).stages[0].state


def test_it_runs_elsewhere_and_its_state_comes_back(io: TaskIO) -> None:
    cm = task(io)
    assert cm.run() == "done"
    assert stored(io)["items"] == [1]
    assert stored(io)["pid"] not in (None, os.getpid())


def test_in_an_event_loop_and_with_coroutines_too(io: TaskIO) -> None:
    cm: CheckMate[Any, Any] = CheckMate(io, TASK, [AsyncIsolated()])
    asyncio.run(cm.arun())
    assert stored(io)["items"] == [0, 1, 2]
    assert stored(io)["pid"] != os.getpid()


def test_its_death_is_a_failed_attempt_and_what_it_saved_is_kept(io: TaskIO) -> None:
    task(io, "items_until_killed", retry_policy=RetryPolicy.fixed(0), max_attempts=2).run()
    assert stored(io)["items"] == [0, 1, 2, 3, 4]
    messages = [entry.message for entry in TaskStore(io).get(TASK).stages[0].history]
    assert "died (exit code -9)" in messages[1]


def test_what_it_raises_comes_back(io: TaskIO) -> None:
    with pytest.raises(StageFailedException) as caught:
        task(io, "fail", retry_policy=RetryPolicy.fixed(0), max_attempts=5).run()
    assert isinstance(caught.value.__cause__, MissingStateException)
    assert TaskStore(io).get(TASK).stages[0].attempts == 1


def test_what_cannot_come_back_is_told_of(io: TaskIO) -> None:
    with pytest.raises(StageFailedException, match="OddError: very odd"):
        task(io, "fail_oddly").run()


def test_its_time_limit_ends_it_wherever_it_is(io: TaskIO) -> None:
    with pytest.raises(StageFailedException) as caught:
        task(io, "hang", timeout=2.0).run()
    assert isinstance(caught.value.__cause__, StageTimeoutException)


def test_a_canceled_task_of_asyncio_ends_it(io: TaskIO) -> None:
    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        cm = task(io, "hang", observers=[lambda event: loop.call_soon_threadsafe(tell, event)])

        def tell(event: StageEvent) -> None:
            if event.kind == "progressed":
                begun.set()

        running = asyncio.ensure_future(cm.arun())
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert TaskStore(io).get(TASK).status == "RUNNING"
    assert TaskStore(io).get(TASK).holder is None


def test_it_can_suspend_the_task(io: TaskIO) -> None:
    with pytest.raises(TaskSuspendedException):
        task(io, "suspend").run()
    TaskStore(io).signal(TASK, "answer", "yes")
    assert task(io, "suspend").run() == "done"
    assert stored(io)["answer"] == "yes"


def test_it_hears_of_a_cancel_request(io: TaskIO) -> None:
    def ask() -> None:
        begun.wait()
        TaskStore(io).request_cancel(TASK)

    begun = threading.Event()
    asking = threading.Thread(target=ask)
    asking.start()
    # The lease is short, as the request is seen when it is renewed.
    with pytest.raises(TaskCanceledException):
        task(io, "wait_for_cancel", lease=6.0, observers=[lambda event: begun.set()]).run()
    asking.join()
    assert TaskStore(io).get(TASK).status == "CANCELED"
    # `cancel` is the parent's to call.
    assert stored(io)["items"] == [os.getpid()]


def test_it_puts_artifacts_where_it_can_open_the_store(io: TaskIO) -> None:
    task(io, "put").run()
    ref = ArtifactRef.model_validate(stored(io)["blob"])
    assert TaskStore(io).artifacts(TASK).read(ref) == b"x" * 100_000
    with pytest.raises(StageFailedException, match="isolated stages have no artifacts"):
        task(MemoryTaskIO("memory://isolated"), "put").run()


def test_it_must_be_picklable(io: TaskIO) -> None:
    class Local(Isolated):
        pass

    with pytest.raises(StageFailedException, match="must be picklable"):
        CheckMate[Any, Any](io, TASK, [Local()]).run()
