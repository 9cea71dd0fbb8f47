"""A pipeline with artifacts, and stores to look at from below."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from pydantic import Field

from checkmate import ArtifactRef, BaseStage, BaseStageState, CheckMateEngine, TaskIO
from checkmate_core.artifacts import ArtifactPlace, TaskArtifacts

from .pipelines import TASK, FakeClock

PART = 64
CONTENT = random.Random(7).randbytes(10 * PART + 5)
"""Eleven parts, all different."""


class Album(BaseStageState):
    photo: ArtifactRef | None = None
    count: int = 0


class Take(BaseStage[Album]):
    """Puts an artifact."""

    stage_name: str = "take"
    state: Album = Field(default_factory=Album)
    content: bytes = Field(default=CONTENT, exclude=True, repr=False)
    action: Callable[["Take"], object] | None = Field(default=None, exclude=True, repr=False)

    def execute_stage(self, previous_state_copy: Album) -> None:
        if self.action:
            self.action(self)
        self.state.photo = self.artifacts.put("photo", self.content)


class Look(BaseStage[Album]):
    """Reads it."""

    stage_name: str = "look"
    state: Album = Field(default_factory=Album)

    def execute_stage(self, previous_state_copy: Album) -> None:
        self.state.result = len(self.artifacts.read(self.state.photo))


def album_engine(io: TaskIO, **options: Any) -> CheckMateEngine[Any, int]:
    engine = CheckMateEngine[Any, int](
        io,
        TASK,
        [Take(**{key: options.pop(key) for key in ("content", "action") if key in options}), Look()],
        **options,
    )
    engine.clock = FakeClock()
    return engine


def artifacts_of(io: TaskIO, life: int = 1, check_held: Callable[[], object] = lambda: None) -> TaskArtifacts:
    return TaskArtifacts(ArtifactPlace(io=io, task_id=TASK, base_epoch=life, check_held=check_held))


def artifact_objects(io: TaskIO) -> list[str]:
    return sorted(info.name for info in io.list(f"{TASK}/artifacts/"))


def sent_twice(names: list[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]
