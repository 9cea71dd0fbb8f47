"""What is undone after a failure and before an interrupted stage runs again."""

import pytest

from checkmate import RetryPolicy, StageFailedException, StageStatus, TaskIO

from .pipelines import Notes, Step, engine_for, stage_documents, steps


class Undo:
    """Fails in stage b, and remembers what its rollback saw."""

    def __init__(self, error: BaseException, times: int = 10**9) -> None:
        self.error, self.left = error, times
        self.seen: list[tuple[list[str], int, list[str]]] = []
        self.executions = 0

    def act(self, stage: Step, previous: Notes) -> None:
        if stage.stage_name != "b":
            return
        self.executions += 1
        stage.state.count = 42
        previous.trail.append("changed by the stage")
        if self.left:
            self.left -= 1
            raise self.error

    def undo(self, stage: Step, previous: Notes) -> None:
        self.seen.append((list(stage.state.trail), stage.state.count, list(previous.trail)))

    def stages(self) -> list[Step]:
        made = steps("a", "b", action=lambda stage, previous: self.act(stage, previous))
        for stage in made:
            stage.undo = lambda stage, previous: self.undo(stage, previous)
        return made


def test_a_rollback_sees_the_state_of_the_failure_and_a_fresh_copy_of_the_previous_one(io: TaskIO) -> None:
    undo = Undo(ValueError("no"))
    with engine_for(io, undo.stages(), retry_policy=RetryPolicy.fixed(0), max_attempts=2) as engine:
        with pytest.raises(StageFailedException):
            engine.execute()
        assert undo.seen == [(["a", "b"], 42, ["a"])] * 2
        assert engine.stages[1].state.count == 0
        assert engine.stages[1].state.trail == ["a"], "what was carried forward stays"
        assert engine.stages[1].state.result is None
        assert engine.stages[0].state.trail == ["a"]
        assert engine.check_sync()


def test_an_interrupted_stage_is_rolled_back_before_it_runs_again(io: TaskIO) -> None:
    undo = Undo(KeyboardInterrupt(), times=1)
    with pytest.raises(KeyboardInterrupt), engine_for(io, undo.stages()) as engine:
        engine.execute()
    assert undo.seen == []
    with engine_for(io, undo.stages()) as again:
        again.execute(strict_recovery=True)
        assert again.stages[1].state.trail == ["a", "b"]
    assert undo.seen == [(["a"], 0, ["a"])], "the state that was stored, not that of the dead process"
    assert undo.executions == 2


def test_the_same_engine_goes_on_after_an_interruption_as_a_fresh_one_would(io: TaskIO) -> None:
    undo = Undo(KeyboardInterrupt(), times=1)
    with engine_for(io, undo.stages()) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.execute()
        engine.execute(strict_recovery=True)
        assert engine.stages[1].state.trail == ["a", "b"]
        assert engine.check_sync()
    assert undo.seen == [(["a"], 0, ["a"])]


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_rollback_that_raises_ends_in_error_with_both_causes_and_no_retry(
    io: TaskIO, interrupted: bool
) -> None:
    original: BaseException = KeyboardInterrupt() if interrupted else ValueError("the stage")

    class Broken(Undo):
        def undo(self, stage: Step, previous: Notes) -> None:
            stage.state.count = 7
            raise RuntimeError("the rollback")

    broken = Broken(original)
    if interrupted:
        with pytest.raises(KeyboardInterrupt), engine_for(io, broken.stages()) as engine:
            engine.execute()
    engine = engine_for(io, broken.stages(), retry_policy=RetryPolicy.fixed(0), max_attempts=5)
    with pytest.raises(StageFailedException, match="RuntimeError: the rollback") as caught, engine:
        engine.execute(strict_recovery=True)
    assert isinstance(caught.value.__cause__, RuntimeError)
    if not interrupted:
        assert caught.value.__cause__.__cause__ is original
    assert broken.executions == 1
    assert stage_documents(io)[1]["status"] == "ERROR"
    assert stage_documents(io)[1]["state"]["count"] == 0
    assert "the rollback" in stage_documents(io)[1]["history"][-1]["message"]


def test_after_a_broken_rollback_the_task_can_be_mended(io: TaskIO) -> None:
    undo = Undo(ValueError(), times=1)
    stages = undo.stages()

    def broken(stage: Step, previous: Notes) -> None:
        raise RuntimeError

    stages[1].undo = broken
    with pytest.raises(StageFailedException), engine_for(io, stages) as engine:
        engine.execute()
    with engine_for(io, undo.stages()) as mended:
        mended.execute()
        assert mended.status is StageStatus.COMPLETE
        assert mended.stages[1].state.trail == ["a", "b"]


def test_an_interruption_within_a_rollback_leaves_the_stage_running(io: TaskIO) -> None:
    undo = Undo(ValueError(), times=1)
    stages = undo.stages()

    def interrupted(stage: Step, previous: Notes) -> None:
        raise KeyboardInterrupt

    stages[1].undo = interrupted
    with pytest.raises(KeyboardInterrupt), engine_for(io, stages) as engine:
        engine.execute()
    assert stage_documents(io)[1]["status"] == "RUNNING"
    with engine_for(io, undo.stages()) as again:
        again.execute(strict_recovery=True)
    assert len(undo.seen) == 1


def test_the_first_stage_rolls_back_with_its_own_state(io: TaskIO) -> None:
    found: list[bool] = []

    def fail(stage: Step, previous: Notes) -> None:
        raise ValueError

    stage = Step(
        stage_name="a", action=fail, undo=lambda stage, previous: found.append(previous is stage.state)
    )
    with pytest.raises(StageFailedException), engine_for(io, [stage]) as engine:
        engine.execute()
    assert found == [True]
