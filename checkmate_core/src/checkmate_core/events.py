"""What happens to stages, for observers: logs, progress bars, traces, metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from checkmate_core.notes import Progress
from checkmate_core.status import StageStatus

EventKind: TypeAlias = Literal[
    "started",
    "progressed",
    "retried",
    "completed",
    "failed",
    "suspended",
    "canceled",
    "rolling_back",
    "rolled_back",
    "interrupted",
]


@dataclass(frozen=True, slots=True)
class StageEvent:
    """Something that happened to a stage. All but "progressed" and "interrupted" are told after they were stored.

    Attributes:
        kind: What happened. "retried": an attempt failed and another follows. "failed": for good, or its
            rollback failed. "rolled_back" of a stage that failed comes instead of "failed" where the task is
            compensated. "interrupted": the run was cut off at this stage, by ``error``; nothing was stored.
        base_url: The store.
        task_id: The task.
        stage_name: The stage.
        stage_index: Its position, from 0.
        stages_total: How many stages the task has.
        status: Its status now.
        attempt: How often it was begun.
        message: What its history says.
        begin: When what this tells of began.
        end: When it ended; None while it goes on.
        epoch: Fencing token of the owner; None without a lock.
        progress: What the stage last said of itself.
        error: What failed the attempt, or cut the run off, in this process.
        interruptions: How often in a row its process died in it, without a checkpoint in between.
    """

    kind: EventKind
    base_url: str
    task_id: str
    stage_name: str
    stage_index: int
    stages_total: int
    status: StageStatus
    attempt: int
    message: str
    begin: datetime
    end: datetime | None
    epoch: int | None
    progress: Progress | None = None
    error: BaseException | None = None
    interruptions: int = 0

    @property
    def ends_run(self) -> bool:
        """Whether it is the last event of this `execute`, `cancel` or `rollback`."""
        if self.kind == "completed":
            return self.stage_index == self.stages_total - 1
        if self.kind == "rolled_back":
            return self.stage_index == 0
        return self.kind in ("failed", "suspended", "canceled", "interrupted")


Observer: TypeAlias = Callable[[StageEvent], None]
"""Called in the thread that made the change, so it should be quick.

An exception that it raises is logged, and the run goes on. What is no `Exception` (KeyboardInterrupt, SystemExit)
is how a program is stopped, so it passes, and interrupts the run.
"""

_KINDS: Final[dict[StageStatus, EventKind]] = {
    StageStatus.RUNNING: "started",
    StageStatus.RETRY: "retried",
    StageStatus.COMPLETE: "completed",
    StageStatus.ERROR: "failed",
    StageStatus.SUSPENDED: "suspended",
    StageStatus.CANCELED: "canceled",
    StageStatus.ROLLING_BACK: "rolling_back",
    StageStatus.ROLLED_BACK: "rolled_back",
}


def event_kind(status: StageStatus, *, is_over: bool) -> EventKind:
    """What it is called that a stage got this status."""
    if status is StageStatus.ROLLING_BACK and is_over:
        return "failed"
    return _KINDS[status]
