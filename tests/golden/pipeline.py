"""The tasks whose stored form is kept in this folder. Their names and fields must never change."""

from datetime import UTC, datetime
from math import inf
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from checkmate_core import BaseStage, BaseStageState, CheckMate, RetryPolicy, TaskIO

AWKWARD_NAMES = [
    "plain",
    "a/b",
    "../../up",
    "dots...",
    "CON",
    "ünïcödé ☃ 🦉",
    "100%2F",
    "quotes \"' and \\",
    "line\nbreak\ttab",
    " spaces ",
    "é" * 150,
]
PLAIN_NAMES = ["fetch", "work", "finish"]


class Part(BaseModel):
    name: str
    size: int = 0


class SpecialPart(Part):
    extra: str = ""


class GoldenState(BaseStageState):
    text: str | None = None
    number: int | None = None
    ratio: float | None = None
    flag: bool | None = None
    blob: bytes | None = None
    when: datetime | None = None
    parts: list[Part | SpecialPart] | None = None
    table: dict[str, list[int]] | None = None
    seen: list[str] | None = None


class GoldenStage(BaseStage[GoldenState]):
    state: GoldenState = Field(default_factory=GoldenState)
    strength: int = 3
    on_execute: Any = Field(default=None, exclude=True)

    executed: ClassVar[list[str]] = []

    def execute_stage(self, previous_state_copy: GoldenState) -> None:
        self.executed.append(self.stage_name)
        if self.on_execute:
            self.on_execute(self)
        state = self.state
        state.seen = [*(previous_state_copy.seen or []), self.stage_name]
        state.number = (previous_state_copy.number or 0) + self.strength
        state.ratio, state.flag, state.blob = inf, True, b"\x00\xffbytes"
        state.when = datetime(2024, 2, 29, 12, 30, 15, 250000, UTC)
        state.parts = [Part(name="plain"), SpecialPart(name="special", size=7, extra="kept")]
        state.table = {"ünï": [1, 2, 3], "": []}
        state.result = {"seen": len(state.seen), "last": self.stage_name}


class GoldenTask(CheckMate[GoldenStage, dict[str, Any]]):
    pass


def cm_factory_golden(
    io: TaskIO | str,
    task_id: str,
    names: list[str] = PLAIN_NAMES,
    on_execute: Any = None,
    lease: float | None = None,
) -> GoldenTask:
    stages = [
        GoldenStage(
            stage_name=name,
            description=f"number {index}",
            state=GoldenState(text="input\u2028\U0001f989") if index == 0 else GoldenState(),
            on_execute=on_execute,
        )
        for index, name in enumerate(names)
    ]
    policy = RetryPolicy.exponential(2.0, cap=30.0, jitter=0.0, retry_on=(OSError,))
    return GoldenTask(io, task_id, stages, retry_policy=policy, max_attempts=3, lease=lease)
