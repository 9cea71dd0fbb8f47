"""KeyboardInterrupt, SystemExit and CancelledError are no failures; a stage found RUNNING was interrupted."""

import asyncio
import logging

import pytest

from checkmate import (
    CheckMate,
    InterruptedStageException,
    RetryPolicy,
    StageFailedException,
    StageStatus,
    StorageUnavailableException,
    TaskEngineException,
    TaskIO,
)
from checkmate_core.testing import FaultyTaskIO, RaiseBefore, writes_to

from .pipelines import Logged, Notes, Step, engine_for, is_locked, raw_without_locks, stage_documents, steps

INTERRUPTIONS = [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit]


def stop_in(name: str, error: type[BaseException], log: Logged) -> list[Step]:
    def action(stage: Step, previous: Notes) -> None:
        log(stage, previous)
        if stage.stage_name == name and log.names.count(name) == 1:
            raise error

    return steps(action=action)


@pytest.mark.parametrize("error", INTERRUPTIONS)
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_an_interruption_leaves_running_and_releases_the_lock(
    io: TaskIO, log: Logged, error: type[BaseException], name: str
) -> None:
    undone: list[str] = []
    stages = stop_in(name, error, log)
    for stage in stages:
        stage.undo = lambda stage, _: undone.append(stage.stage_name)
    policy = RetryPolicy.fixed(0, retry_on=lambda _: True)
    with engine_for(io, stages, retry_policy=policy, max_attempts=9) as engine:
        with pytest.raises(error):
            engine.execute()
        assert engine.status is StageStatus.RUNNING
    assert undone == [], "no rollback by the interrupted process"
    assert not is_locked(io)
    index = "abc".index(name)
    assert [stage["status"] for stage in stage_documents(io)] == ["COMPLETE"] * index + ["RUNNING"]
    assert log.names == ["a", "b", "c"][: index + 1]


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_without_strict_recovery_an_interrupted_stage_is_not_executed(
    io: TaskIO, log: Logged, name: str
) -> None:
    with pytest.raises(KeyboardInterrupt), engine_for(io, stop_in(name, KeyboardInterrupt, log)) as engine:
        engine.execute()
    before = raw_without_locks(io)
    executed = list(log.names)
    for arguments in ({}, {"strict_recovery": False}):
        again = engine_for(io, steps(action=log))
        fix = r"execute\(strict_recovery=True\)"
        with pytest.raises(InterruptedStageException, match=fix) as caught, again:
            again.execute(**arguments)
        assert f"stage '{name}' of task task-1" in str(caught.value)
    assert log.names == executed
    assert raw_without_locks(io) == before
    assert not is_locked(io)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_with_strict_recovery_it_warns_and_resumes_there(
    io: TaskIO, log: Logged, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    stages = stop_in(name, KeyboardInterrupt, log)
    with pytest.raises(KeyboardInterrupt), engine_for(io, stages) as engine:
        engine.execute()
    log.names.clear()
    with caplog.at_level(logging.WARNING), engine_for(io, steps(action=log)) as again:
        again.execute(strict_recovery=True)
        assert again.stages[-1].state.trail == ["a", "b", "c"]
        assert again.stages["abc".index(name)].attempts == 2
        assert again.cumulative_attempts == 4
    assert log.names == ["a", "b", "c"]["abc".index(name) :]
    assert f"stage '{name}' of task task-1 was interrupted" in caplog.text


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_run_recovers_by_itself(io: TaskIO, log: Logged, name: str) -> None:
    for expected in (KeyboardInterrupt, None):
        cm = CheckMate[Step, int](io, "task-1", stop_in(name, KeyboardInterrupt, log))
        if expected:
            with pytest.raises(expected):
                cm.run()
            assert cm.status is StageStatus.RUNNING
            assert not cm.is_bound
        else:
            assert cm.run() == 3


def test_a_complete_task_runs_nothing_again(io: TaskIO, log: Logged) -> None:
    for _ in range(3):
        with engine_for(io, steps(action=log)) as engine:
            engine.execute()
            engine.execute(strict_recovery=True)
            assert engine.status is StageStatus.COMPLETE
            assert engine.task_result == 3
    before = raw_without_locks(io)
    assert CheckMate[Step, int](io, "task-1", steps(action=log)).run() == 3
    assert log.names == ["a", "b", "c"]
    assert raw_without_locks(io) == before


def test_a_task_can_be_executed_in_several_binds(io: TaskIO, log: Logged) -> None:
    def fail_once(stage: Step, previous: Notes) -> None:
        log(stage, previous)
        if log.names.count(stage.stage_name) == 1:
            raise ValueError("the first time")

    engine = engine_for(io, steps(action=fail_once))
    for _ in range(3):
        with pytest.raises(TaskEngineException), engine:
            engine.execute()
    with engine:
        engine.execute()
        assert engine.stages[-1].state.trail == ["a", "b", "c"]
    assert log.names == ["a", "a", "b", "b", "c", "c"]
    assert engine.status is StageStatus.UNBOUND


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_ended_the_run_is_not_hidden_by_a_release_that_fails_after_it(
    io: TaskIO, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(stage: Step, _: Notes) -> None:
        raise error

    client = FaultyTaskIO(io)
    expected = StageFailedException if error is ZeroDivisionError else error
    engine = engine_for(client, steps(action=fail))

    def run() -> None:
        with engine:
            client.plan(writes_to("_locks/"), RaiseBefore(), times=None)
            engine.execute()

    with pytest.raises(expected):
        run()
    assert not engine.is_bound
    assert "could not be let go" in caplog.text
    with pytest.raises(StorageUnavailableException), engine_for(client, task_id="other"):
        pass  # nothing else has failed here
