"""A pipeline of as many stages as a test wants, one of which may fail."""

from typing import Any

from pydantic import Field

from checkmate_core import BaseStage, BaseStageState, CheckMate, RetryPolicy, TaskIO


class CountedState(BaseStageState):
    number: int | None = None


class Counted(BaseStage[CountedState]):
    state: CountedState = Field(default_factory=CountedState)
    on_execute: Any = Field(default=None, exclude=True)

    def execute_stage(self, previous_state_copy: CountedState) -> None:
        if self.on_execute:
            self.on_execute(self)
        self.state.number = (previous_state_copy.number or 0) + 1
        self.state.result = self.state.number


class FailedOnPurposeError(Exception):
    pass


class FailUntil:
    """Makes a stage fail until its attempt of this number."""

    def __init__(self, stage_name: str, attempt: int) -> None:
        self.stage_name = stage_name
        self.attempt = attempt

    def __call__(self, stage: Counted) -> None:
        if stage.stage_name == self.stage_name and stage.attempts < self.attempt:
            raise FailedOnPurposeError


def cm_factory_counted(
    io: TaskIO,
    stages: int,
    task_id: str | None = "t",
    *,
    force_create: bool = False,
    no_lock: bool = False,
    max_attempts: int = 1,
    on_execute: Any = None,
) -> CheckMate[Counted, int]:
    return CheckMate(
        io,
        task_id,
        [Counted(stage_name=f"s{index}", on_execute=on_execute) for index in range(stages)],
        retry_policy=RetryPolicy.fixed(0) if max_attempts > 1 else RetryPolicy.NONE,
        max_attempts=max_attempts,
        force_create=force_create,
        no_lock=no_lock,
    )
