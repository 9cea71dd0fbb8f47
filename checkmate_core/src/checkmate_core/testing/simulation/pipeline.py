"""The task that simulated workers run, with an engine that keeps a log of what it was told."""

import random
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import Field

from checkmate_core.checkmate import CheckMate
from checkmate_core.stage import BaseStage
from checkmate_core.state import BaseStageState, StageStateHistoryEntry
from checkmate_core.status import StageStatus
from checkmate_core.testing.simulation.network import SimulatedTaskIO
from checkmate_core.testing.simulation.process import Process


@dataclass(frozen=True, slots=True)
class Execution:
    """A stage's own code was called: a side effect outside the store.

    Attributes:
        number: How many changes the store had applied by then.
        by: The process.
        task_id: The task.
        obj_name: The stage's object.
        attempt: Which attempt of the stage.
        token: The fencing token.
        owner: The acquisition of the lock.
        life: The life of the task.
    """

    number: int
    by: str
    task_id: str
    obj_name: str
    attempt: int
    token: int | None
    owner: str
    life: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A process was told that a stage is stored.

    Attributes:
        by: The process.
        obj_name: The stage's object.
        status: The stored status.
        life: The life of the task.
        write_id: Of the write.
        history: What was stored of the stage's history.
    """

    by: str
    obj_name: str
    status: StageStatus
    life: int
    write_id: str
    history: tuple[StageStateHistoryEntry, ...]


@dataclass(slots=True)
class Log:
    """What processes saw and did, outside the store."""

    executions: list[Execution] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)


class Tally(BaseStageState):
    """A state in which everything that a stage did, or did twice, leaves its mark."""

    trail: list[str] = Field(default_factory=list)
    total: int = 0


class Link(BaseStage[Tally]):
    """A stage that signs the trail, takes its time, and now and then fails or is interrupted."""

    state: Tally = Field(default_factory=Tally)

    def execute_stage(self, previous_state_copy: Tally) -> None:
        job = cast("Job", self.engine)
        job.note_execution(self)
        self.state.trail.append(self.stage_name)
        job.work(self)
        self.state.total = 3 * previous_state_copy.total + len(self.state.trail)
        self.state.result = self.state.total


class Job(CheckMate[Link, int]):
    """An engine of a simulated process."""

    log: Log
    rng: random.Random
    longest_work = 1.0
    fail_rate = 0.0

    @property
    def process(self) -> Process:
        """The process that the engine works in."""
        return cast("SimulatedTaskIO", self.io).process

    def state_update_hook(self, stage: Link) -> None:
        self.log.acknowledged.append(
            Acknowledged(
                by=self.process.label,
                obj_name=stage.obj_name,
                status=stage.status,
                life=self.session.journal.manifest.base_epoch,
                write_id=self.stored_record(stage).write_id,
                history=tuple(stage.state.history),
            )
        )

    def note_execution(self, stage: Link) -> None:
        """A stage's own code begins."""
        io = cast("SimulatedTaskIO", self.io)
        journal = self.session.journal
        self.log.executions.append(
            Execution(
                number=io.changes_so_far,
                by=io.process.label,
                task_id=self.task_id,
                obj_name=stage.obj_name,
                attempt=stage.attempts,
                token=self.fencing_token,
                owner=journal.owner,
                life=journal.manifest.base_epoch,
            )
        )
        io.note("executes {}", stage.obj_name)

    def work(self, stage: Link) -> None:
        """Take some time, then perhaps fail.

        Raises:
            ValueError: The attempt fails.
        """
        for _ in range(self.rng.randint(1, 2)):
            self.clock.sleep(self.rng.random() * self.longest_work / 2)
            if self.rng.random() < 0.5:
                stage.check_alive()
        if self.rng.random() < self.fail_rate:
            raise ValueError("this attempt fails")


def links(count: int) -> list[Link]:
    """The stages of a task."""
    return [Link(stage_name=f"s{index}") for index in range(count)]


def job_for(io: SimulatedTaskIO, task_id: str, stages: int, **options: Any) -> Job:
    """An engine for a task."""
    return Job(io, task_id, links(stages), **options)
