"""A task is canceled at its first stage that is not complete, and never executed after that."""

from collections.abc import Callable

import pytest

from checkmate import (
    CANCELABLE_STATES,
    CheckMate,
    InvalidTransitionException,
    StageStatus,
    TaskCanceledException,
    TaskEngineException,
    TaskIO,
    TaskStore,
)

from .leftovers import left_canceled, left_complete, left_created, left_in_error, left_in_retry, left_running
from .pipelines import (
    LOCK,
    TASK,
    Logged,
    Step,
    engine_for,
    is_locked,
    raw,
    stage_documents,
    steps,
)


def told(stages: list[Step], names: list[str]) -> list[Step]:
    for stage in stages:
        stage.on_cancel = lambda stage: names.append(stage.stage_name)
    return stages


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize(("leave", "where"), [(left_created, "a"), (left_running, "b"), (left_in_retry, "b")])
def test_it_is_canceled_where_it_stands(
    io: TaskIO, leave: Callable[[TaskIO], None], where: str, bound: bool, log: Logged
) -> None:
    leave(io)
    names: list[str] = []
    engine = engine_for(io, told(steps(action=log), names))
    if bound:
        with engine:
            engine.cancel()
            assert engine.status is StageStatus.CANCELED
            assert engine.check_sync()
    else:
        engine.cancel()
        assert not engine.is_bound
    assert names == [where]
    assert stage_documents(io)[-1]["stage_name"] == where
    assert stage_documents(io)[-1]["status"] == "CANCELED"
    assert stage_documents(io)[-1]["history"][-1]["message"] == "Task canceled"
    assert not io.exists(LOCK), "a finished task"
    assert TaskStore(io).get(TASK).ended is not None
    assert log.names == []


@pytest.mark.parametrize("leave", [left_in_error, left_complete, left_canceled])
def test_elsewhere_a_cancel_is_refused_and_changes_nothing(
    io: TaskIO, leave: Callable[[TaskIO], None]
) -> None:
    leave(io)
    before = {name: data for name, data in raw(io).items() if name != LOCK}
    names: list[str] = []
    with pytest.raises(InvalidTransitionException, match=f"{TASK}.*cannot be canceled"):
        engine_for(io, told(steps(), names)).cancel()
    assert names == []
    assert {name: data for name, data in raw(io).items() if name != LOCK} == before
    assert not is_locked(io)


def test_the_states_that_can_be_canceled_are_those_of_the_constant() -> None:
    assert {
        StageStatus.UNBOUND,
        StageStatus.CREATED,
        StageStatus.RUNNING,
        StageStatus.RETRY,
        StageStatus.SUSPENDED,
    } == CANCELABLE_STATES


def test_a_task_that_was_never_stored_can_be_canceled(io: TaskIO) -> None:
    engine_for(io).cancel()
    assert TaskStore(io).get(TASK).status is StageStatus.CANCELED


def test_a_canceled_task_is_not_executed(io: TaskIO, log: Logged) -> None:
    left_canceled(io)
    before = raw(io)
    for strict in (False, True):
        engine = engine_for(io, steps(action=log))
        with pytest.raises(TaskCanceledException, match="stage 'a' of task task-1 is CANCELED"), engine:
            engine.execute(strict_recovery=strict)
    cm = CheckMate[Step, int](io, TASK, steps(action=log))
    with pytest.raises(TaskCanceledException):
        cm.run()
    assert cm.status is StageStatus.CANCELED
    assert log.names == []
    assert raw(io) == before


@pytest.mark.parametrize("leave", [left_created, left_running])
def test_a_cancel_that_raises_leaves_the_task_as_it_was(io: TaskIO, leave: Callable[[TaskIO], None]) -> None:
    leave(io)
    before = [stage["status"] for stage in stage_documents(io)]
    stages = steps()
    error = RuntimeError("cannot clean up")

    def broken(stage: Step) -> None:
        raise error

    for stage in stages:
        stage.on_cancel = broken
    with pytest.raises(TaskEngineException, match=r"cannot clean up.*not canceled") as caught:
        engine_for(io, stages).cancel()
    assert caught.value.__cause__ is error
    assert [stage["status"] for stage in stage_documents(io)] == before
    assert not is_locked(io)
    engine_for(io).cancel()
    assert stage_documents(io)[-1]["status"] == "CANCELED"


def test_an_interrupted_cancel_propagates_and_releases(io: TaskIO) -> None:
    stages = steps()

    def interrupted(stage: Step) -> None:
        raise KeyboardInterrupt

    stages[0].on_cancel = interrupted
    with pytest.raises(KeyboardInterrupt):
        engine_for(io, stages).cancel()
    assert not is_locked(io)
    assert stage_documents(io) == []


def test_a_task_locked_by_another_cannot_be_canceled_behind_its_back(io: TaskIO) -> None:
    with engine_for(io) as holder:
        before = raw(io)
        with pytest.raises(TaskEngineException, match="held by"):
            engine_for(io).cancel()
        assert raw(io) == before
        holder.execute()
