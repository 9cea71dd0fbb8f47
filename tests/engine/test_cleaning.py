"""A task that is cleaned is gone but for its tombstone, and its id can be used again."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from checkmate import (
    CheckMate,
    CheckMateEngine,
    LockLostException,
    PersistenceDataNotFoundException,
    StageStatus,
    TaskIO,
    TaskStore,
)
from checkmate_core.types import Capability

from .leftovers import left_canceled, left_complete, left_created, left_in_error, left_in_retry, left_running
from .pipelines import (
    LOCK,
    MANIFEST,
    TASK,
    Limited,
    Logged,
    Step,
    Witness,
    bury_holder,
    document,
    engine_for,
    is_locked,
    raw,
    stage_documents,
    steps,
)

STATES = [left_created, left_running, left_in_retry, left_in_error, left_complete, left_canceled]


@pytest.mark.parametrize("leave", STATES)
def test_from_every_status_only_a_tombstone_stays(io: TaskIO, leave: Callable[[TaskIO], None]) -> None:
    leave(io)
    engine = engine_for(io)
    engine.bind()
    engine.unbind(clean=True)
    assert set(raw(io)) == {MANIFEST}
    tombstone = document(io, MANIFEST)
    assert tombstone["removed"] is not None
    assert tombstone["stage_templates"] == []
    assert not engine.is_bound
    assert TaskStore(io).list() == []
    with pytest.raises(PersistenceDataNotFoundException, match=TASK):
        TaskStore(io).get(TASK)
    with pytest.raises(PersistenceDataNotFoundException, match="removed 20"):
        CheckMate.load(io, TASK)


@pytest.mark.parametrize("leave", STATES)
def test_the_id_can_be_used_again_even_for_another_task(
    io: TaskIO, leave: Callable[[TaskIO], None], log: Logged
) -> None:
    leave(io)
    with engine_for(io) as engine:
        engine.unbind(clean=True)
        engine.bind()
        engine.unbind(clean=True)
        engine.bind()
    before = document(io, MANIFEST)
    engine.bind()
    engine.unbind(clean=True)
    with engine_for(io, steps("x", "b", action=log), force_create=True) as second:
        token = second.fencing_token
        assert token is not None
        assert second.status is StageStatus.CREATED
        second.execute()
        assert second.stages[1].state.trail == ["x", "b"]
    assert log.names == ["x", "b"]
    assert document(io, MANIFEST)["base_epoch"] == token > before["epoch"]
    assert {stage["base_epoch"] for stage in stage_documents(io)} == {token}


def test_a_clean_in_the_midst_of_a_run_begins_at_the_first_unfinished_stage(memory: TaskIO) -> None:
    store = Witness(memory)
    engine = engine_for(store, stages_interrupted_in_b())
    engine.bind()
    with pytest.raises(KeyboardInterrupt):
        engine.execute()
    before = len(store.applied)
    engine.unbind(clean=True)
    bodies = [(each.name, each.body) for each in store.applied[before:]]
    removing = [name for name, body in bodies if body and body.get("status") == "REMOVING"]
    assert removing == [f"{TASK}/stages/001-b.json"]
    store.check_guarantees()


def test_a_clean_of_a_complete_task_begins_with_the_tombstone(memory: TaskIO) -> None:
    store = Witness(memory)
    engine = engine_for(store)
    engine.bind()
    engine.execute()
    before = len(store.applied)
    engine.unbind(clean=True)
    assert store.applied[before].name == MANIFEST
    store.check_guarantees()


def stages_interrupted_in_b() -> list[Step]:
    def action(stage: Step, _: object) -> None:
        if stage.stage_name == "b":
            raise KeyboardInterrupt

    return steps(action=action)


def test_auto_cleanup_cleans_whatever_became_of_the_task(io: TaskIO) -> None:
    for stages in (steps(), stages_interrupted_in_b()):
        with suppress(KeyboardInterrupt), engine_for(io, stages, auto_cleanup=True) as engine:
            engine.execute()
            assert stage_documents(io)
        assert set(raw(io)) == {MANIFEST}
    assert CheckMate[Step, int](io, TASK, steps(), auto_cleanup=True).run() == 3
    assert set(raw(io)) == {MANIFEST}


def test_garbage_of_an_earlier_life_counts_as_absent_and_is_swapped_over(log: Logged) -> None:
    io = Limited(Capability.REMOVE_IF)
    store = Witness(io)
    with engine_for(store) as engine:
        engine.execute()
        engine.unbind(clean=True)
        assert [stage["status"] for stage in stage_documents(store)] == ["COMPLETE"] * 3, (
            "it cannot be removed"
        )
        assert TaskStore(store).list() == []
        engine.bind()
        assert engine.status is StageStatus.CREATED
    with engine_for(store, steps(action=log)) as again:
        assert again.status is StageStatus.CREATED
        assert not again.stages[0].persistence_file_exists() or again.stages[0].attempts == 0
        assert [stage.status for stage in TaskStore(store).get(TASK).stages] == ["CREATED"] * 3
        again.execute()
        assert again.check_sync()
        assert again.cumulative_attempts == 3
    assert log.names == ["a", "b", "c"]
    store.check_guarantees()


def test_to_clean_needs_a_bound_engine(memory: TaskIO) -> None:
    engine = engine_for(memory)
    with pytest.raises(Exception, match="not bound"):
        engine.unbind(clean=True)
    assert raw(memory) == {}


def test_without_a_lock_a_task_can_be_cleaned_too(io: TaskIO) -> None:
    with engine_for(io, no_lock=True) as engine:
        engine.execute()
        engine.unbind(clean=True)
        assert set(raw(io)) == {MANIFEST}
        engine.bind()
        engine.execute()
        assert engine.task_result == 3


def test_where_nothing_is_conditional_a_clean_still_cleans() -> None:
    io = Limited(Capability.CREATE, Capability.SWAP, Capability.REMOVE_IF)
    with engine_for(io, no_lock=True) as engine:
        engine.execute()
        engine.unbind(clean=True)
        assert set(raw(io)) == {MANIFEST}
        engine.bind()
        engine.execute()


def test_a_former_owner_cannot_touch_the_tombstone_of_a_cleaned_task(io: TaskIO) -> None:
    former, cleaner = engine_for(io), engine_for(io)
    former.bind()
    bury_holder(io)
    cleaner.bind()
    cleaner.unbind(clean=True)
    tombstone = document(io, MANIFEST)
    with pytest.raises(LockLostException):
        former.execute()
    former.unbind()
    assert document(io, MANIFEST) == tombstone
    with engine_for(io) as again:
        assert again.fencing_token is not None
        assert again.fencing_token > tombstone["epoch"], "tokens rise across lives"
        assert again.status is StageStatus.CREATED
        again.execute()


def test_other_tasks_are_left_alone(io: TaskIO) -> None:
    for task_id in ("task-10", "task-", "task"):
        with engine_for(io, task_id=task_id) as engine:
            engine.execute()
    others = raw(io)
    with engine_for(io) as engine:
        engine.execute()
        engine.unbind(clean=True)
        engine.bind()
        engine.unbind(clean=True)
        engine.bind()
    assert {
        name: data for name, data in raw(io).items() if not name.startswith(f"{TASK}/") and name != LOCK
    } == others
    assert not is_locked(io)


def test_a_generated_id_is_cleaned_and_bound_again(memory: TaskIO) -> None:
    engine = CheckMateEngine[Step, int](memory, stage_templates=steps())
    for _ in range(2):
        engine.bind()
        engine.execute()
        engine.unbind(clean=True)
    assert list(raw(memory)) == [f"{engine.task_id}/task.json"]
