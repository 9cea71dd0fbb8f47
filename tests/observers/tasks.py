"""Tasks that things happen to, for observers."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import Field

from checkmate import BaseStage, BaseStageState, CheckMateEngine, RetryPolicy, StageEvent, TaskIO, TaskStore
from tests.engine.pipelines import TASK, Crash, FakeClock

Action: TypeAlias = Callable[["Step"], object]
Engine: TypeAlias = CheckMateEngine["Step", Any]
Drive: TypeAlias = Callable[[Engine], None]


class State(BaseStageState):
    verdict: str | None = None
    mode: str = "work"


class Step(BaseStage[State]):
    """A stage that does what the test says."""

    state: State = Field(default_factory=State)
    action: Action | None = Field(default=None, exclude=True, repr=False)
    undo: Action | None = Field(default=None, exclude=True, repr=False)

    def execute_stage(self, previous_state_copy: State) -> None:
        if self.action:
            self.action(self)

    def rollback_stage(self, previous_state_copy: State) -> None:
        if self.undo:
            self.undo(self)


class Awaited(Step):
    """The same as a coroutine."""

    async def execute_stage(self, previous_state_copy: State) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        if self.action:
            self.action(self)


class Isolated(BaseStage[State]):
    """A stage in a process of its own."""

    stage_name: str = "isolated"
    state: State = Field(default_factory=State)
    isolated: bool = Field(default=True, exclude=True)

    def execute_stage(self, previous_state_copy: State) -> None:
        self.progress(1, 2, "in a child")
        if self.attempts == 1:
            os._exit(3)


def synchronously(engine: Engine) -> None:
    with engine:
        engine.execute(strict_recovery=True)


def in_a_loop(engine: Engine) -> None:
    async def run() -> None:
        async with engine:
            await engine.aexecute(strict_recovery=True)

    asyncio.run(run())


def engine_for(io: TaskIO, *stages: BaseStage[Any], **options: Any) -> Engine:
    """An engine of task-1 that never really waits, and tries each stage twice."""
    options.setdefault("task_id", TASK)
    options.setdefault("retry_policy", RetryPolicy.fixed(1))
    options.setdefault("max_attempts", 2)
    clock = options.pop("clock", None) or FakeClock()
    engine = CheckMateEngine[Any, Any](io, stage_templates=list(stages), **options)
    engine.clock = clock
    return engine


@dataclass
class Heard:
    """An observer that looks at the store when it is told something."""

    io: TaskIO
    events: list[StageEvent] = field(default_factory=list)

    def __call__(self, event: StageEvent) -> None:
        self.events.append(event)
        if event.kind not in ("progressed", "interrupted"):
            stored = TaskStore(self.io).get(event.task_id).stages[event.stage_index]
            assert (stored.status, stored.attempts) == (event.status, event.attempt)
            assert stored.history[-1].message == event.message

    @property
    def story(self) -> list[str]:
        """The events in short."""
        return [f"{event.kind} {event.stage_name}" for event in self.events]


def fails(*attempts: int, error: BaseException | None = None) -> Action:
    """What fails in these attempts; in all, if there are none."""

    def action(stage: Step) -> None:
        if not attempts or stage.attempts in attempts:
            raise error or ValueError(f"attempt {stage.attempts} of {stage.stage_name}")

    return action


def died_in_b(io: TaskIO) -> None:
    """A task of stages a and b whose process died in b."""

    def die(stage: Step) -> None:
        raise Crash

    engine = engine_for(io, Step(stage_name="a"), Step(stage_name="b", action=die), no_lock=True)
    # Never unbound, as a process that dies lets nothing go.
    engine.bind()
    with suppress(Crash):
        engine.execute()
