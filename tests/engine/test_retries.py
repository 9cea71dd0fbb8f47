"""When a failed stage is tried again, how long it waits, and how its attempts are counted."""

import warnings
from typing import Any

import pytest

from checkmate import (
    CheckMateEngine,
    InvalidStateException,
    MissingStateException,
    RetryPolicy,
    StageFailedException,
    StageStatus,
    TaskIO,
)

from .pipelines import Failing, FakeClock, Notes, Step, engine_for, stage_documents, steps


def statuses(io: TaskIO, index: int = 0) -> list[str]:
    return [entry["status"] for entry in stage_documents(io)[index]["history"]]


def test_a_stage_is_tried_until_it_succeeds(io: TaskIO, clock: FakeClock) -> None:
    failing = Failing(2)
    with engine_for(
        io, steps("a", action=failing), clock=clock, retry_policy=RetryPolicy.fixed(7.0), max_attempts=5
    ) as engine:
        engine.execute()
        assert engine.stages[0].attempts == engine.cumulative_attempts == 3
        assert engine.stages[0].state.trail == ["a"], "each attempt begins with the state from before it"
        assert engine.check_sync()
    assert clock.sleeps == [7.0, 7.0]
    assert statuses(io) == ["RUNNING", "RETRY", "RUNNING", "RETRY", "RUNNING", "COMPLETE"]


def test_max_attempts_counts_all_attempts(io: TaskIO, clock: FakeClock) -> None:
    failing = Failing()
    with engine_for(
        io, steps("a", "b", action=failing), clock=clock, retry_policy=RetryPolicy.fixed(1.0), max_attempts=3
    ) as engine:
        with pytest.raises(
            StageFailedException, match=r"stage 'a' of task task-1 failed after 3 attempt.*no"
        ) as caught:
            engine.execute()
        assert caught.value.__cause__ is failing.error
        assert engine.status is StageStatus.ERROR
        assert [stage.status for stage in engine.stages] == [StageStatus.ERROR, StageStatus.CREATED]
        assert engine.task_result is None
        assert engine.check_sync()
    assert failing.calls == 3
    assert len(clock.sleeps) == 2, "no wait after the last"
    assert statuses(io) == ["RUNNING", "RETRY"] * 2 + ["RUNNING", "ERROR"]


def test_without_a_policy_a_stage_is_tried_once(io: TaskIO, clock: FakeClock) -> None:
    failing = Failing()
    with (
        pytest.raises(StageFailedException),
        engine_for(io, steps("a", action=failing), clock=clock) as engine,
    ):
        engine.execute()
    assert failing.calls == 1
    assert clock.sleeps == []


def test_each_execute_of_a_failed_task_gets_fresh_attempts_and_begins_at_the_failed_stage(io: TaskIO) -> None:
    failing = Failing(5)

    def action(stage: Step, previous: Notes) -> None:
        ran.append(stage.stage_name)
        if stage.stage_name == "b":
            failing(stage, previous)

    ran: list[str] = []
    for expected in (2, 4):
        with engine_for(
            io, steps("a", "b", action=action), retry_policy=RetryPolicy.fixed(0), max_attempts=2
        ) as engine:
            with pytest.raises(StageFailedException):
                engine.execute()
            assert failing.calls == expected
    with engine_for(
        io, steps("a", "b", action=action), retry_policy=RetryPolicy.fixed(0), max_attempts=2
    ) as engine:
        engine.execute()
        assert engine.stages[1].attempts == 6
        assert engine.stages[1].state.trail == ["a", "b"]
    assert ran == ["a", "b", "b", "b", "b", "b", "b"]


def test_the_same_bound_engine_can_try_again(io: TaskIO) -> None:
    with engine_for(io, steps("a", action=Failing(1))) as engine:
        with pytest.raises(StageFailedException):
            engine.execute()
        engine.execute()
        assert engine.status is StageStatus.COMPLETE
        assert engine.stages[0].state.trail == ["a"]


def test_a_stage_overrides_the_engine(io: TaskIO, clock: FakeClock) -> None:
    failing = Failing()
    own = Step(stage_name="a", action=failing, retry_policy=RetryPolicy.fixed(3.0), max_attempts=4)
    with (
        pytest.raises(StageFailedException),
        engine_for(io, [own], clock=clock, retry_policy=RetryPolicy.fixed(1.0), max_attempts=2) as engine,
    ):
        engine.execute()
    assert failing.calls == 4
    assert clock.sleeps == [3.0] * 3


def test_a_stage_can_be_excepted_from_the_engines_policy(io: TaskIO) -> None:
    failing = Failing()
    own = Step(stage_name="a", action=failing, retry_policy=RetryPolicy.NONE)
    with (
        pytest.raises(StageFailedException),
        engine_for(io, [own], retry_policy=RetryPolicy.fixed(1.0), max_attempts=5) as engine,
    ):
        engine.execute()
    assert failing.calls == 1


@pytest.mark.parametrize(
    ("condition", "error", "calls"),
    [
        ({"retry_on": OSError}, OSError(), 3),
        ({"retry_on": OSError}, FileNotFoundError(), 3),
        ({"retry_on": OSError}, ValueError(), 1),
        ({"retry_on": (OSError, KeyError)}, KeyError(), 3),
        ({"retry_on": (OSError, KeyError)}, ValueError(), 1),
        ({"retry_on": lambda error: "busy" in str(error)}, ValueError("busy"), 3),
        ({"retry_on": lambda error: "busy" in str(error)}, ValueError("gone"), 1),
        ({"give_up_on": ValueError}, ValueError(), 1),
        ({"give_up_on": ValueError}, OSError(), 3),
        ({"give_up_on": (ValueError, KeyError)}, KeyError(), 1),
        ({"give_up_on": lambda error: "gone" in str(error)}, OSError("gone"), 1),
        ({"retry_on": OSError, "give_up_on": FileNotFoundError}, FileNotFoundError(), 1),
        ({}, MissingStateException("x"), 1),
        ({"retry_on": MissingStateException}, MissingStateException("x"), 1),
        ({"retry_on": lambda _: True}, InvalidStateException("x"), 1),
        ({}, Exception("any"), 3),
    ],
)
@pytest.mark.parametrize("constructor", [RetryPolicy.fixed, RetryPolicy.exponential])
def test_conditions_decide_what_is_retried(
    memory: TaskIO, constructor: Any, condition: dict[str, Any], error: Exception, calls: int
) -> None:
    failing = Failing(error=error)
    engine = engine_for(
        memory, steps("a", action=failing), retry_policy=constructor(1.0, **condition), max_attempts=3
    )
    with pytest.raises(StageFailedException) as caught, engine:
        engine.execute()
    assert caught.value.__cause__ is error
    assert failing.calls == calls


def test_a_condition_that_raises_ends_in_an_error_with_both_causes(memory: TaskIO) -> None:
    def condition(error: BaseException) -> bool:
        raise RuntimeError("the condition is broken")

    engine = engine_for(
        memory,
        steps("a", action=Failing()),
        retry_policy=RetryPolicy.fixed(1, retry_on=condition),
        max_attempts=3,
    )
    with pytest.raises(StageFailedException) as caught, engine:
        engine.execute()
    assert chain(caught.value) >= {StageFailedException, RuntimeError, ValueError}
    assert statuses(memory)[-1] == "ERROR"


def chain(error: BaseException | None) -> set[type]:
    found = set()
    while error is not None:
        found.add(type(error))
        error = error.__cause__ or error.__context__
    return found


def test_settings_that_a_stage_makes_useful_do_not_warn(memory: TaskIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stages = [Step(stage_name=name, max_attempts=3) for name in "ab"]
        CheckMateEngine(memory, stage_templates=stages, retry_policy=RetryPolicy.fixed())


def test_a_missing_input_is_not_retried_and_names_what_is_missing(io: TaskIO) -> None:
    def action(stage: Step, _: Notes) -> None:
        calls.append(1)
        stage.state.require("count", "source")

    calls: list[int] = []
    with (
        pytest.raises(StageFailedException, match="Notes lacks source") as caught,
        engine_for(
            io, steps("a", action=action), retry_policy=RetryPolicy.fixed(1.0), max_attempts=5
        ) as engine,
    ):
        engine.execute()
    assert isinstance(caught.value.__cause__, MissingStateException)
    assert len(calls) == 1


def test_an_interruption_uses_none_of_the_attempts(io: TaskIO) -> None:
    class Stop(KeyboardInterrupt):
        pass

    outcomes: list[BaseException] = [ValueError(), Stop(), Stop(), ValueError(), Stop(), ValueError()]

    def action(stage: Step, _: Notes) -> None:
        raise outcomes.pop(0)

    for _ in range(4):
        try:
            with engine_for(
                io, steps("a", action=action), retry_policy=RetryPolicy.fixed(0), max_attempts=3
            ) as engine:
                engine.execute(strict_recovery=True)
        except Stop:
            continue
        except StageFailedException:
            break
    assert outcomes == []
    assert statuses(io).count("RETRY") == 2
    assert statuses(io)[-1] == "ERROR"


def test_interrupted_in_the_wait_the_next_execute_tries_at_once(io: TaskIO, clock: FakeClock) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    clock.on_sleep = interrupt
    failing = Failing(1)
    with (
        pytest.raises(KeyboardInterrupt),
        engine_for(
            io, steps("a", action=failing), clock=clock, retry_policy=RetryPolicy.fixed(60), max_attempts=2
        ) as engine,
    ):
        engine.execute()
    assert stage_documents(io)[0]["status"] == "RETRY"
    with engine_for(
        io, steps("a", action=failing), retry_policy=RetryPolicy.fixed(60), max_attempts=2
    ) as again:
        assert again.status is StageStatus.RETRY
        again.execute()
    assert failing.calls == 2
