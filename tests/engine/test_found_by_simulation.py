"""Faults that the simulator found, each as the shortest sequence that shows it."""

import pytest

from checkmate import BindException, StageStatus, TaskCanceledException, TaskIO
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import Call, CallAfter, CallBefore, FaultyTaskIO, Operation, writes_to

from .pipelines import LOCK, MANIFEST, Crash, document, engine_for, stage_documents


@pytest.fixture
def memory() -> MemoryTaskIO:
    return MemoryTaskIO("memory://found")


def run(io: TaskIO) -> None:
    with engine_for(io) as engine:
        engine.execute()


def remove(io: TaskIO) -> None:
    engine = engine_for(io)
    engine.bind()
    engine.unbind(clean=True)


def test_a_cleaner_that_pauses_at_the_tombstone_removes_nothing_of_the_next_life(
    memory: MemoryTaskIO,
) -> None:
    """It listed what to remove when the task id was in use again, and its lease had not run out."""
    client = FaultyTaskIO(memory)
    cleaner = engine_for(client)
    cleaner.bind()
    cleaner.execute()
    client.plan(writes_to(MANIFEST), CallAfter(lambda call: run(memory)))
    cleaner.unbind(clean=True)
    assert [stage["status"] for stage in stage_documents(memory)] == ["COMPLETE"] * 3
    with engine_for(memory) as again:
        assert again.status is StageStatus.COMPLETE


@pytest.mark.parametrize("is_removed", [True, False])
def test_who_read_that_a_task_is_over_does_not_take_the_lock_of_its_next_life(
    memory: MemoryTaskIO, is_removed: bool
) -> None:
    """Of two that use a removed task id again, the later one took the earlier one's live lock."""
    run(memory)
    if is_removed:
        remove(memory)
    client = FaultyTaskIO(memory)
    first = engine_for(memory)

    def begin_next_life(call: Call) -> None:
        if not is_removed:
            remove(memory)
        first.bind()

    client.plan(lambda call: call.operation is Operation.READ, CallAfter(begin_next_life))
    with pytest.raises(BindException, match="is held by"):
        engine_for(client).bind()
    first.execute()
    first.unbind()
    assert [stage["status"] for stage in stage_documents(memory)] == ["COMPLETE"] * 3


def test_whoever_finds_a_task_canceled_notes_its_end(memory: MemoryTaskIO) -> None:
    """A canceler that died in between left the task among the unfinished ones for ever."""

    def die(call: Call) -> None:
        raise Crash

    client = FaultyTaskIO(memory)
    canceler = engine_for(client)
    canceler.bind()
    client.plan(writes_to(MANIFEST), CallBefore(die))
    with pytest.raises(Crash):
        canceler.cancel()
    canceler.unbind()
    assert document(memory, MANIFEST)["ended"] is None
    with pytest.raises(TaskCanceledException), engine_for(memory) as finder:
        finder.execute()
    assert document(memory, MANIFEST)["ended_as"] == "CANCELED"
    assert not memory.exists(LOCK)
