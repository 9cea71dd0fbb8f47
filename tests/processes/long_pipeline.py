"""A pipeline whose stages are saved in the middle, wait for an event, put an artifact and are rolled back.

Each item of a loop, and each rollback, leaves one line in a file outside the store, with the fencing token.
"""

import asyncio
import os
import time
from contextlib import suppress
from typing import Any

from pydantic import Field

from checkmate_core import (
    ArtifactRef,
    BaseStage,
    BaseStageState,
    CheckMate,
    Suspend,
    TaskStore,
    TaskSuspendedException,
    VersionConflictException,
)
from checkmate_core.retry import RetryPolicy

from .pipeline import Job, log_execution

ITEMS = 12
EVERY = 3
EVENT = "approved"
PART_SIZE = 1000
CONTENT = b"".join(b"line %d of what is put\n" % number for number in range(300))
NAMES = ("items", "answer", "artifact", "more items", "end")


class LongState(BaseStageState):
    items: list[str] = Field(default_factory=list)
    answer: int | None = None
    answers: list[int] = Field(default_factory=list)
    ref: ArtifactRef | None = None
    size: int | None = None


class LongStage(BaseStage[LongState]):
    """Logs what it does."""

    state: LongState = Field(default_factory=LongState)
    job: Any = Field(default=None, exclude=True)

    @property
    def index(self) -> int:
        return NAMES.index(self.stage_name)

    def rollback_stage(self, previous_state_copy: LongState) -> None:
        self.log("rollbacks", self.index)
        time.sleep(self.job.pause)

    def log(self, what: str, number: int) -> None:
        """One line: the task, the number, this process, the fencing token."""
        log_execution(f"{self.job.log}.{what}", self.engine.task_id, number, self.engine.fencing_token)

    def do_item(self, item: int) -> None:
        self.log(f"items-{self.index}", item)
        self.state.items.append(f"{self.stage_name} {item}")


class Items(LongStage):
    def execute_stage(self, previous_state_copy: LongState) -> None:
        self.log("stages", self.index)
        for item in self.resumable(range(ITEMS), every=EVERY):
            self.do_item(item)
            time.sleep(self.job.pause)
            self.progress(item, ITEMS)


class AsyncItems(LongStage):
    async def execute_stage(self, previous_state_copy: LongState) -> None:
        self.log("stages", self.index)
        async for item in self.aresumable(range(ITEMS), every=EVERY, key=str):
            self.do_item(item)
            await asyncio.sleep(self.job.pause)


class Answer(LongStage):
    def execute_stage(self, previous_state_copy: LongState) -> None:
        self.log("stages", self.index)
        if self.state.answer is None:
            raise Suspend(event=EVENT, field="answer")
        self.state.answers.append(self.state.answer)


class Artifact(LongStage):
    def execute_stage(self, previous_state_copy: LongState) -> None:
        self.log("stages", self.index)
        artifacts = self.artifacts
        artifacts.part_size = PART_SIZE
        self.state.ref = artifacts.put("lines", CONTENT)


class End(LongStage):
    def execute_stage(self, previous_state_copy: LongState) -> None:
        self.log("stages", self.index)
        if self.job.long == "fail":
            raise ValueError("this task fails for good")
        found = self.artifacts.read(self.state.ref)
        assert found == CONTENT
        self.state.size = len(found)
        self.state.result = len(self.state.items)


def cm_factory_long(job: Job, task_id: str) -> CheckMate[LongStage, int]:
    is_isolated = job.long == "isolated"
    kinds: tuple[type[Any], ...] = (Items, Answer, Artifact, AsyncItems, End)
    return CheckMate(
        job.url,
        task_id,
        [
            kind(stage_name=name, job=job, isolated=is_isolated and kind is Items)
            for name, kind in zip(NAMES, kinds, strict=True)
        ],
        retry_policy=RetryPolicy.NONE,
        max_attempts=1,
        max_interruptions=1000,
        on_error="compensate",
        lease=job.lease,
        bind_lock_timeout=job.wait,
    )


def do_long(job: Job, task_id: str) -> str:
    """Run the task, and send it what it waits for."""
    while True:
        task = cm_factory_long(job, task_id)
        try:
            return str(asyncio.run(task.arun()) if job.long == "arun" else task.run())
        except TaskSuspendedException:
            log_execution(f"{job.log}.signals", task_id, 0, None)
            with suppress(VersionConflictException):
                task.signal(EVENT, os.getpid())


def done_of(url: str, task_id: str) -> LongState:
    """The last state of a complete task."""
    return LongState.model_validate(TaskStore(url).get(task_id).stages[-1].state)
