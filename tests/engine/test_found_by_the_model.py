"""Faults that the model of the ownership protocol found (tests/model), each on the real thing."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from checkmate import (
    BindLock,
    CheckMateEngine,
    IncompatibleTaskException,
    LockLostException,
    StageChanges,
    StageStatus,
    StorageUnavailableException,
    TaskIO,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import ApplyLater, Call, CallBefore, FaultyTaskIO, Operation, writes_to
from checkmate_core.types import StoredObject

from .pipelines import (
    LOCK,
    MANIFEST,
    TASK,
    Crash,
    Engine,
    Logged,
    Step,
    bury_holder,
    document,
    engine_for,
    stage_documents,
)


@pytest.fixture
def memory() -> MemoryTaskIO:
    return MemoryTaskIO("memory://found")


def remove(io: TaskIO) -> None:
    engine = engine_for(io)
    engine.bind()
    engine.unbind(clean=True)


def test_a_bind_that_fails_leaves_the_lock_for_a_manifest_that_comes_late(memory: MemoryTaskIO) -> None:
    """It had read a tombstone, so it removed its lock; then nobody would have found the unfinished task."""
    remove(memory)
    client = FaultyTaskIO(memory)
    client.plan(writes_to(MANIFEST), ApplyLater(), times=5)
    with pytest.raises(StorageUnavailableException):
        engine_for(client).bind()
    client.deliver_late()
    assert document(memory, MANIFEST)["removed"] is None
    assert document(memory, LOCK)["owner"] is None


def test_a_late_note_that_a_task_was_canceled_changes_nothing_once_a_newer_owner_has_claimed_it(
    memory: MemoryTaskIO,
) -> None:
    """The newer owner claimed a stage that nobody could write any more, and the manifest was open still."""
    cleaner, canceler = FaultyTaskIO(memory), FaultyTaskIO(memory)

    def die(call: Call) -> None:
        raise Crash

    def clean_in_part(call: Call) -> None:
        BindLock(memory, LOCK).force_unlock()
        engine = engine_for(cleaner)
        engine.bind()
        cleaner.plan(writes_to(MANIFEST), CallBefore(die))
        with pytest.raises(Crash):
            engine.unbind(clean=True)

    engine = engine_for(canceler)
    engine.bind()
    canceler.plan(writes_to(MANIFEST), CallBefore(clean_in_part))
    engine.cancel()
    engine.unbind()
    assert [(stage["status"], stage["epoch"]) for stage in stage_documents(memory)] == [("CANCELED", 1)]
    remove(memory)
    assert document(memory, MANIFEST)["removed"] is not None


def test_a_token_that_was_used_on_a_removed_task_is_not_used_again(memory: MemoryTaskIO) -> None:
    """An older owner swept its own mark of the removal away before a newer one had written anything."""
    cleaner, newer = engine_for(memory), engine_for(memory)
    cleaner.bind()
    BindLock(memory, LOCK).force_unlock()
    newer.bind()
    cleaner.unbind(clean=True)
    with pytest.raises(LockLostException):
        newer.execute()
    used = newer.fencing_token
    newer.unbind()
    with engine_for(memory) as again:
        assert used is not None
        assert again.fencing_token is not None
        assert again.fencing_token > used


def test_stages_that_were_read_while_an_older_owner_went_on_are_read_again(memory: TaskIO) -> None:
    """One by one, so that they may look as no task can: two stages in flight."""
    older = engine_for(memory)
    older.bind()
    first, second = older.stages[:2]
    first.inc_attempts()
    first.update_status("Attempt 1", StageStatus.RUNNING, 0.0)
    bury_holder(memory)

    def go_on(_: object) -> None:
        first.update_status("Completed", StageStatus.COMPLETE, 0.0)
        second.inc_attempts()
        second.update_status("Attempt 1", StageStatus.RUNNING, 0.0)

    client = FaultyTaskIO(memory)
    client.plan(
        lambda call: call.operation is Operation.READ and "/stages/001" in call.name, CallBefore(go_on)
    )
    with engine_for(client) as successor:
        assert [stage.status for stage in successor.stages] == ["COMPLETE", "RUNNING", "CREATED"]
        successor.execute(strict_recovery=True)
        assert successor.status is StageStatus.COMPLETE


class Torn(FaultyTaskIO):
    """Reads of several objects at once see the first of them before something happens, and the others after."""

    def __init__(self, io: TaskIO, meanwhile: Callable[[], object]) -> None:
        super().__init__(io)
        self._meanwhile = meanwhile

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        found = super().read_many(obj_names[:1])
        self._meanwhile()
        return found | super().read_many(obj_names[1:])


def test_whoever_read_the_old_list_of_stages_and_the_stages_of_the_new_one_reads_again(
    memory: MemoryTaskIO,
) -> None:
    """A migration came between the two, and the claim went to an object that the task had no more."""
    is_marked, swap, is_reached, end = (threading.Event() for _ in range(4))

    def reach(stage: Step, previous: Any) -> None:
        is_reached.set()
        assert end.wait(60)

    def engine(io: TaskIO, names: str, action: Any, **options: Any) -> Engine:
        steps = [Step(stage_name=name, action=action if name != "a" else None) for name in names]
        return CheckMateEngine(io, TASK, steps, lease=None, **options)

    def pause(call: Call) -> None:
        is_marked.set()
        assert swap.wait(60)

    def let_go_on() -> None:
        swap.set()
        assert is_reached.wait(60)

    def migrate_and_execute() -> None:
        with engine(client, "ac", reach, changes=StageChanges(renamed={"b": "c"})) as migrator:
            migrator.execute()

    with engine(memory, "ab", None):
        pass
    client, log = FaultyTaskIO(memory), Logged()
    client.plan(writes_to(MANIFEST), CallBefore(pause))
    other = threading.Thread(target=migrate_and_execute)
    other.start()
    assert is_marked.wait(60)
    BindLock(memory, LOCK).force_unlock()
    try:
        with (
            pytest.raises(IncompatibleTaskException),
            engine(Torn(memory, let_go_on), "ab", log) as reader,
        ):
            reader.execute()
    finally:
        swap.set()
        end.set()
        other.join()
    assert log.names == []
    assert [stage["status"] for stage in stage_documents(memory)] == ["COMPLETE", "COMPLETE"]
