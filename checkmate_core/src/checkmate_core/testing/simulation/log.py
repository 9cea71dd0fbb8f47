"""What simulated processes saw and did, outside the store."""

from dataclasses import dataclass, field

from checkmate_core.state import StageStateHistoryEntry
from checkmate_core.status import StageStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """A stage's own code did something: a side effect outside the store.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDone(Deed):
    """An item of a resumable loop was done.

    Attributes:
        item: Which one.
    """

    item: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedUp(Deed):
    """A stage's `cancel` was called.

    Attributes:
        is_asked_by_letter: The engine had been told to execute the task, and met a cancel request.
    """

    is_asked_by_letter: bool


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A process was told that a stage is stored.

    Attributes:
        number: How many changes the store had applied by then.
        by: The process.
        obj_name: The stage's object.
        status: The stored status.
        owner: The acquisition of the lock.
        life: The life of the task.
        write_id: Of the write.
        history: What was stored of the stage's history.
        saw_cancel_request: Whether the engine had seen a cancel request by then.
    """

    number: int
    by: str
    obj_name: str
    status: StageStatus
    owner: str
    life: int
    write_id: str
    history: tuple[StageStateHistoryEntry, ...]
    saw_cancel_request: bool


@dataclass(slots=True)
class Log:
    """All of it.

    Attributes:
        executions: `execute_stage` was called.
        items: An item of a loop was done.
        undone: `rollback_stage` was called.
        cleaned_up: `cancel` was called.
        acknowledged: A change of a stage's status was stored.
        misread: Artifacts that were not what had been put, in words.
    """

    executions: list[Deed] = field(default_factory=list)
    items: list[ItemDone] = field(default_factory=list)
    undone: list[Deed] = field(default_factory=list)
    cleaned_up: list[CleanedUp] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    misread: list[str] = field(default_factory=list)
