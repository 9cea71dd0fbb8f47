"""Stages that are coroutines, and engines in an event loop: one core, two drivers."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from pydantic import Field

from checkmate import (
    BaseStage,
    CheckMate,
    RetryPolicy,
    StageFailedException,
    StageStatus,
    StageTimeoutException,
    Suspend,
    TaskEngineException,
    TaskIO,
    TaskStore,
    TaskSuspendedException,
)
from checkmate_core.io.memory import MemoryTaskIO

from .pipelines import TASK, FakeClock, Notes, Step, is_locked, stage_documents, steps

Body = Callable[["Coroutine", Notes], Awaitable[object]]


class Coroutine(BaseStage[Notes]):
    """A stage whose methods are awaited."""

    state: Notes = Field(default_factory=Notes)
    body: Body | None = Field(default=None, exclude=True, repr=False)
    undo: Body | None = Field(default=None, exclude=True, repr=False)
    threads: list[int] = Field(default_factory=list, exclude=True, repr=False)

    async def execute_stage(self, previous_state_copy: Notes) -> None:
        self.state.trail.append(self.stage_name)
        if self.body:
            await self.body(self, previous_state_copy)

    async def rollback_stage(self, previous_state_copy: Notes) -> None:
        if self.undo:
            await self.undo(self, previous_state_copy)

    async def cancel(self) -> None:
        await asyncio.sleep(0)
        self.state.trail.append("canceled")


def task(io: TaskIO, *stages: Any, **options: Any) -> CheckMate[Any, Any]:
    cm: CheckMate[Any, Any] = CheckMate(io, TASK, list(stages), **options)
    return cm


def trail(io: TaskIO) -> list[str]:
    found: list[str] = stage_documents(io)[-1]["state"]["trail"]
    return found


def test_coroutines_and_functions_run_in_one_task_in_a_loop_or_without(io: TaskIO) -> None:
    places: list[tuple[str, bool, bool]] = []

    def place(stage: Any) -> None:
        is_looping = asyncio._get_running_loop() is not None
        places.append((stage.stage_name, threading.current_thread() is threading.main_thread(), is_looping))

    async def body(stage: Coroutine, _: Notes) -> None:
        place(stage)

    def stages() -> list[Any]:
        return [
            Coroutine(stage_name="a", body=body),
            Step(stage_name="b", action=lambda stage, _: place(stage)),
        ]

    asyncio.run(task(io, *stages()).arun())
    assert places == [("a", True, True), ("b", False, False)]
    assert trail(io) == ["a", "b"]
    places.clear()
    other = MemoryTaskIO()
    task(other, *stages()).run()
    assert places == [("a", True, True), ("b", True, False)]
    assert trail(other) == ["a", "b"]


def test_every_decision_is_the_same_in_both(io: TaskIO) -> None:
    """One plan: histories, states and requests of a task with a bit of everything are equal."""

    async def flaky(stage: Coroutine, _: Notes) -> None:
        async for item in stage.aresumable(["x", "y", "z"], every=1):
            if item == "y" and stage.attempts == 1:
                raise ValueError(item)
            stage.state.trail.append(item)
        if stage.state.source is None:
            raise Suspend(event="go", field="source")

    async def undo(stage: Coroutine, _: Notes) -> None:
        undone.append(stage.stage_name)

    def make(store: TaskIO) -> CheckMate[Any, Any]:
        cm = task(
            store,
            *[Coroutine(stage_name="a", body=flaky, undo=undo), *steps("b")],
            retry_policy=RetryPolicy.fixed(1.0),
            max_attempts=2,
        )
        cm.clock = FakeClock()
        return cm

    undone: list[str] = []
    other = MemoryTaskIO()
    for store in (io, other):
        run = make(store)
        with pytest.raises(TaskSuspendedException, match="event 'go'"):
            asyncio.run(run.arun()) if store is io else run.run()
        TaskStore(store).signal(TASK, "go", "data")
        again = make(store)
        asyncio.run(again.arun()) if store is io else again.run()
    seen = [
        [(body["status"], body["attempts"], body["state"], [entry["message"] for entry in body["history"]])]
        for store in (io, other)
        for body in stage_documents(store)
    ]
    assert seen[:2] == seen[2:]
    assert undone == ["a", "a"]
    assert trail(io) == ["a", "x", "a", "y", "z", "a", "b"]


def test_a_canceled_task_of_asyncio_leaves_one_that_can_be_resumed(io: TaskIO) -> None:
    async def wait_for_ever(stage: Coroutine, _: Notes) -> None:
        stage.state.trail.append("begun")
        await stage.acheckpoint()
        reached.set()
        await asyncio.Event().wait()

    async def main() -> None:
        running = asyncio.ensure_future(task(io, *steps("a"), Coroutine(stage_name="b", body=wait)).arun())
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not is_locked(io)

    wait, reached = wait_for_ever, asyncio.Event()
    asyncio.run(main())
    assert [stage.status for stage in TaskStore(io).get(TASK).stages] == ["COMPLETE", "RUNNING"]
    cm = task(io, *steps("a"), Coroutine(stage_name="b"))
    asyncio.run(cm.arun())
    assert trail(io) == ["a", "b", "begun", "b"]


def test_a_canceled_task_waits_for_its_thread_and_the_thread_ends_early(io: TaskIO) -> None:
    ended: list[float] = []
    reached = asyncio.Event()
    loop: Any = None

    def long(stage: Step, _: Notes) -> None:
        loop.call_soon_threadsafe(reached.set)
        try:
            for _item in stage.resumable(range(10_000)):
                time.sleep(0.01)
        finally:
            ended.append(time.monotonic())

    async def main() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(task(io, *steps("a", action=long)).arun())
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ended
        assert not is_locked(io)

    asyncio.run(main())
    assert TaskStore(io).get(TASK).status is StageStatus.RUNNING


@pytest.mark.parametrize("moment", range(1, 40, 3))
def test_cancellation_at_any_moment_leaves_the_lock_free_and_the_task_whole(
    memory: TaskIO, moment: int
) -> None:
    async def main() -> None:
        running = asyncio.ensure_future(
            task(memory, *(Coroutine(stage_name=name) for name in ("a", "b", "c"))).arun()
        )
        for _ in range(moment):
            await asyncio.sleep(0)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert not is_locked(memory)

    asyncio.run(main())
    asyncio.run(task(memory, *(Coroutine(stage_name=name) for name in ("a", "b", "c"))).arun())
    assert list(dict.fromkeys(trail(memory))) == ["a", "b", "c"]
    assert TaskStore(memory).get(TASK).status is StageStatus.COMPLETE


def test_many_tasks_share_a_loop(memory: TaskIO) -> None:
    everybody, waiting = asyncio.Event(), 0

    async def meet(stage: Coroutine, _: Notes) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 20:
            everybody.set()
        # Only if all of them run at once does any come past this.
        await asyncio.wait_for(everybody.wait(), 60)

    async def main() -> None:
        tasks = [
            CheckMate(memory, f"t{number}", [Coroutine(stage_name="meet", body=meet)]) for number in range(20)
        ]
        await asyncio.gather(*(each.arun() for each in tasks))

    asyncio.run(main())
    assert {view.status for view in TaskStore(memory).list()} == {StageStatus.COMPLETE}


def test_the_loop_goes_on_while_the_store_does_not_answer(memory: TaskIO) -> None:
    """Every request waits for the loop itself, so one made in the loop would never end."""
    loop: Any = None

    class Slow(MemoryTaskIO):
        def read(self, *args: Any) -> Any:
            beat()
            return super().read(*args)

        def read_many(self, *args: Any) -> Any:
            beat()
            return super().read_many(*args)

        def write(self, *args: Any, **options: Any) -> Any:
            beat()
            return super().write(*args, **options)

        def remove(self, *args: Any, **options: Any) -> Any:
            beat()
            return super().remove(*args, **options)

    def beat() -> None:
        heard = threading.Event()
        loop.call_soon_threadsafe(heard.set)
        assert heard.wait(30), "the event loop is blocked"

    async def body(stage: Coroutine, _: Notes) -> None:
        async for _item in stage.aresumable(range(3), every=1):
            await stage.acheckpoint()
            stage.progress(1)
        if stage.attempts == 1:
            raise ValueError

    async def main() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"retry_policy": RetryPolicy.fixed(0), "max_attempts": 2}
        cm = task(Slow(), Coroutine(stage_name="a", body=body), *steps("b"), **options)
        async with cm:
            await cm.aexecute()
        other = CheckMate(Slow(), "other", [Coroutine(stage_name="a")])
        await other.acancel()
        third = CheckMate(Slow(), "third", [Coroutine(stage_name="a")])
        await third.arollback()

    asyncio.run(main())


def test_what_would_block_a_loop_is_refused_in_one(io: TaskIO) -> None:
    refused: list[str] = []

    async def body(stage: Coroutine, _: Notes) -> None:
        for call in (stage.checkpoint, lambda: list(stage.resumable(range(2), every=1))):
            with pytest.raises(TaskEngineException) as caught:
                call()
            refused.append(str(caught.value))

    async def main() -> None:
        cm = task(io, Coroutine(stage_name="a", body=body))
        with pytest.raises(TaskEngineException, match="aexecute"):
            cm.run()
        await cm.arun()

    asyncio.run(main())
    assert "use acheckpoint() in a coroutine" in refused[0]
    assert "use aresumable() in a coroutine" in refused[1]


def test_items_may_come_from_an_asynchronous_iterable(io: TaskIO) -> None:
    async def source() -> Any:
        for item in ("x", "y", "z"):
            await asyncio.sleep(0)
            yield item

    async def body(stage: Coroutine, _: Notes) -> None:
        async for item in stage.aresumable(source(), every=1):
            if item == "z" and stage.attempts == 1:
                raise ValueError
            stage.state.trail.append(item)

    options: dict[str, Any] = {"retry_policy": RetryPolicy.fixed(0), "max_attempts": 2}
    task(io, Coroutine(stage_name="a", body=body), **options).run()
    assert trail(io) == ["a", "x", "y", "a", "z"]


@pytest.mark.parametrize("in_loop", [True, False])
def test_a_coroutine_is_cut_off_at_its_time_limit(io: TaskIO, *, in_loop: bool) -> None:
    ended: list[str] = []

    async def body(stage: Coroutine, _: Notes) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    cm = task(io, Coroutine(stage_name="a", body=body, timeout=0.05))
    with pytest.raises(StageFailedException) as caught:
        asyncio.run(cm.arun()) if in_loop else cm.run()
    assert isinstance(caught.value.__cause__, StageTimeoutException)
    assert ended == ["cleaned up"]
    assert TaskStore(io).get(TASK).status is StageStatus.ERROR


def test_a_timeout_of_the_stages_own_is_not_taken_for_its_time_limit(io: TaskIO) -> None:
    async def body(stage: Coroutine, _: Notes) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    with pytest.raises(StageFailedException) as caught:
        task(io, Coroutine(stage_name="a", body=body, timeout=60)).run()
    assert type(caught.value.__cause__) is TimeoutError


def test_whatever_a_stage_raises_comes_out_of_its_thread(io: TaskIO) -> None:
    for error in (StopIteration("odd"), ValueError("plain")):

        def fail(stage: Step, _: Notes, error: Exception = error) -> None:
            raise error

        with pytest.raises(StageFailedException) as caught:
            asyncio.run(CheckMate(io, type(error).__name__, steps("a", action=fail)).arun())
        # The language itself lets no coroutine raise StopIteration.
        assert error in (caught.value.__cause__, getattr(caught.value.__cause__, "__cause__", None))


def test_cancel_and_rollback_await_the_stages_methods(io: TaskIO) -> None:
    async def undo(stage: Coroutine, _: Notes) -> None:
        await asyncio.sleep(0)
        undone.append(stage.stage_name)

    async def fail(stage: Coroutine, _: Notes) -> None:
        raise ValueError

    undone: list[str] = []
    asyncio.run(CheckMate(io, "canceled", [Coroutine(stage_name="a")]).acancel())
    assert stage_documents(io, "canceled")[0]["state"]["trail"] == ["canceled"]
    stages = [Coroutine(stage_name="a", undo=undo), Coroutine(stage_name="b", undo=undo, body=fail)]
    with pytest.raises(StageFailedException):
        asyncio.run(task(io, *stages, on_error="compensate").arun())
    assert undone == ["b", "a"]
    assert TaskStore(io).get(TASK).status is StageStatus.ROLLED_BACK
