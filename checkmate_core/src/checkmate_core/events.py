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
]


@dataclass(frozen=True, slots=True)
class StageEvent:
    """Something that happened to a stage. All but "progressed" are told after they were stored.

    Attributes:
        kind: What happened. "retried": an attempt failed and another follows. "failed": for good.
            "rolled_back" of a stage that failed comes instead of "failed" where the task is compensated.
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
    """

    kind: EventKind
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


Observer: TypeAlias = Callable[[StageEvent], None]
"""Called in the thread that made the change, so it should be quick. What it raises is logged."""

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


def event_kind(status: StageStatus) -> EventKind:
    """What it is called that a stage got this status."""
    return _KINDS[status]
