"""Tasks as earlier processes left them."""

import pytest

from checkmate import RetryPolicy, StageFailedException, TaskIO

from .pipelines import FakeClock, Notes, Step, engine_for, steps


def left_created(io: TaskIO) -> None:
    with engine_for(io):
        pass


def left_running(io: TaskIO) -> None:
    with pytest.raises(KeyboardInterrupt), engine_for(io, in_b(KeyboardInterrupt())) as engine:
        engine.execute()


def left_in_retry(io: TaskIO) -> None:
    clock = FakeClock()

    def interrupt() -> None:
        raise KeyboardInterrupt

    clock.on_sleep = interrupt
    with (
        pytest.raises(KeyboardInterrupt),
        engine_for(
            io, in_b(ValueError()), clock=clock, retry_policy=RetryPolicy.fixed(9), max_attempts=2
        ) as engine,
    ):
        engine.execute()


def left_in_error(io: TaskIO) -> None:
    with pytest.raises(StageFailedException), engine_for(io, in_b(ValueError())) as engine:
        engine.execute()


def left_complete(io: TaskIO) -> None:
    with engine_for(io) as engine:
        engine.execute()


def left_canceled(io: TaskIO) -> None:
    engine_for(io).cancel()


def in_b(error: BaseException) -> list[Step]:
    def action(stage: Step, _: Notes) -> None:
        if stage.stage_name == "b":
            raise error

    return steps(action=action)
