"""What can be seen of a stored task without a lock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import lock_object_name, manifest_name
from checkmate_core.lock_record import LockRecord
from checkmate_core.manifest import Manifest
from checkmate_core.notes import Progress, StageNotes, Suspension
from checkmate_core.record import StageRecord, stage_statuses
from checkmate_core.state import StageStateHistoryEntry
from checkmate_core.status import StageStatus, _StageStateMachine
from checkmate_core.types import StoredObject


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage of a stored task.

    Attributes:
        name: The stage's name.
        class_name: Qualified name of its class.
        status: Where it stands; CREATED if it never began.
        attempts: How often it was begun.
        history: Every change of its status.
        state: Its state in JSON terms, without bookkeeping; its inputs if it never began.
        epoch: Fencing token of its last writer; None if it never began.
        notes: What the engine notes of it: progress, what it waits for, its next attempt.
        url: Where it is stored.
    """

    name: str
    class_name: str
    status: StageStatus
    attempts: int
    history: tuple[StageStateHistoryEntry, ...]
    state: dict[str, Any]
    epoch: int | None
    url: str
    notes: StageNotes


@dataclass(frozen=True, slots=True)
class TaskView:
    """A stored task at one moment.

    Attributes:
        task_id: The task.
        status: Where it stands.
        stages: Its stages in order.
        created: When it was created; None where that cannot be read.
        ended: When it was finished; None before.
        holder: Who holds its lock, in words; None if nobody.
        is_removing: Its removal has begun; the next bind goes on with it.
        url: Its manifest.
        fault: Why its objects cannot be read, with status UNBOUND; None if they can.
        is_due: Whether a SUSPENDED task may go on by now, or is to be canceled; None for any other.
    """

    task_id: str
    status: StageStatus
    stages: tuple[StageView, ...]
    created: datetime | None
    ended: datetime | None
    holder: str | None
    is_removing: bool
    url: str
    fault: str | None = None
    is_due: bool | None = None

    @property
    def current(self) -> StageView | None:
        """The stage that is written next; None in a finished task."""
        index = _StageStateMachine.next_written([stage.status for stage in self.stages])
        return None if index is None else self.stages[index]

    @property
    def suspension(self) -> Suspension | None:
        """What a SUSPENDED task waits for; None if it does not."""
        waiting = [stage for stage in self.stages if stage.status is StageStatus.SUSPENDED]
        return waiting[0].notes.suspension if waiting else None

    @property
    def progress(self) -> Progress | None:
        """What the running stage last said of itself, as far as it was stored; None without one."""
        running = [stage for stage in self.stages if stage.status is StageStatus.RUNNING]
        return running[0].notes.progress if running else None

    @property
    def stages_complete(self) -> int:
        """How many stages are done."""
        return sum(stage.status is StageStatus.COMPLETE for stage in self.stages)

    @property
    def result(self) -> Any:
        """Result of the most recently completed stage, in JSON terms; None if there is none."""
        complete = [stage for stage in self.stages if stage.status is StageStatus.COMPLETE]
        return complete[-1].state.get("result") if complete else None


def view_task(io: TaskIO, manifest: Manifest, bodies: Mapping[str, StoredObject]) -> TaskView:
    """The task as its manifest and these other objects tell.

    Raises:
        CorruptObjectException: An object cannot be read.
        IncompatibleTaskException: A newer CheckMate wrote one.
        InvalidTransitionException: The stages cannot stand as they do, or were read while they
            changed.
    """
    names = manifest.objects
    records = [_record(io, manifest, name, bodies.get(name)) for name in names]
    stages = tuple(
        _view_stage(record, status, class_name, template, io.build_url(name))
        for record, status, class_name, template, name in zip(
            records,
            stage_statuses(records),
            manifest.stage_template_classes,
            manifest.stage_templates,
            names,
            strict=True,
        )
    )
    lock_name = lock_object_name(manifest.task_id)
    stored = bodies.get(lock_name)
    lock = LockRecord.decode(stored.data, io.build_url(lock_name)) if stored else None
    return TaskView(
        task_id=manifest.task_id,
        status=_StageStateMachine.overall(
            [stage.status for stage in stages], f"task {manifest.task_id} in {io.base_url}"
        ),
        stages=stages,
        created=manifest.created,
        ended=manifest.ended,
        holder=lock.describe_holder() if lock and lock.owner else None,
        is_removing=any(record is not None and record.is_removing for record in records),
        url=io.build_url(manifest_name(manifest.task_id)),
    )


def _record(io: TaskIO, manifest: Manifest, name: str, stored: StoredObject | None) -> StageRecord | None:
    record = StageRecord.decode(stored.data, io.build_url(name)) if stored else None
    # One that never began was made by a migration; the manifest says what the stage is.
    return record if record and record.base_epoch == manifest.base_epoch and record.is_begun else None


def _view_stage(
    record: StageRecord | None, status: StageStatus, class_name: str, template: dict[str, Any], url: str
) -> StageView:
    return StageView(
        name=template["stage_name"],
        class_name=class_name,
        status=status,
        attempts=record.attempts if record else 0,
        history=tuple(record.history) if record else (),
        state=record.state if record else template["state"],
        epoch=record.epoch if record else None,
        url=url,
        notes=record.notes if record else StageNotes(),
    )
