"""TaskSession: one owner's hold on one task, from the lock's acquisition to its release."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tenacity import Retrying, retry_if_exception_type
from tenacity.stop import stop_after_attempt
from tenacity.wait import wait_random

from checkmate_core.changes import StageChanges
from checkmate_core.clock import Clock
from checkmate_core.errors import (
    BindException,
    InvalidTransitionException,
    LockLostException,
    TaskEngineException,
    VersionConflictException,
)
from checkmate_core.imported import qualified_name
from checkmate_core.io.protocol import TaskIO
from checkmate_core.journal import StageChangedError, StaleViewError, TaskJournal
from checkmate_core.layout import lock_object_name
from checkmate_core.lock import BindLock
from checkmate_core.mailbox import CancelWatch, Signal, TaskMailbox
from checkmate_core.manifest import Manifest, dump_templates
from checkmate_core.migration import Migration, plan_migration
from checkmate_core.notes import StageNotes
from checkmate_core.record import StageRecord, check_readable, dump_state, load_state, stage_statuses
from checkmate_core.stage import BaseStage
from checkmate_core.state import STAGE_STATE, BaseStageState, StageStateHistoryEntry
from checkmate_core.status import StageStatus, _StageStateMachine
from checkmate_core.types import Version

_log = logging.getLogger(__name__)

# Each round means that another owner got in between; so many in a row mean that something is broken.
_MAX_ROUNDS = 20
_MAX_REREADS = 2

_KEPT_BY_A_MARK: Final = ("stage_name", "status", "attempts", "history", "state", "schema_version", "notes")
_FROM_CODE: Final = frozenset({StageStatus.RUNNING, StageStatus.COMPLETE, StageStatus.SUSPENDED})


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """What the running process says the task is.

    Attributes:
        io: Where it is stored.
        task_id: Which one.
        stages: The templates.
        max_attempts: Of the engine; stored for whoever loads the task.
        retry_policy: Of the engine, as stored.
        on_error: Of the engine; stored for whoever loads the task.
        max_interruptions: Of the engine; stored for whoever loads the task.
        lock_timeout: Seconds to wait for the lock; None tries once.
        lease: Seconds that the holder of the lock may be silent; None is for ever.
        no_lock: Work without a lock.
        force_create: Refuse a task that exists.
        is_new: The id was made just now, so there is nothing to read.
        clock: Where time comes from.
        changes: How stages of earlier code became these.
    """

    io: TaskIO
    task_id: str
    stages: Sequence[BaseStage[Any]]
    max_attempts: int
    retry_policy: dict[str, Any]
    on_error: Literal["stop", "compensate"]
    max_interruptions: int
    lock_timeout: float | None
    lease: float | None
    no_lock: bool
    force_create: bool
    is_new: bool
    clock: Clock
    changes: StageChanges | None = None


class TaskSession:
    """Opens a task, creating it if it is not there, and holds it until it is closed.

    Order: lock, manifest, stages. Nothing is written before the stages were found fit to be stored
    and to be those of the stored task.

    Attributes:
        journal: The task's stored objects.
        lock: The bind lock; None without one.
        records: The stage objects as last read or written, in the stages' order.
        cancel_watch: Whether somebody asked for the task to be canceled.
    """

    def __init__(self, spec: TaskSpec) -> None:
        """Open the task.

        Raises:
            BindException: The task is locked.
            IncompatibleTaskException: The stored task has other stages.
            InvalidStateException: The stages cannot be stored.
            TaskEngineException: ``force_create``, and the task exists.
            TaskIOException: The store failed.
        """
        self._spec = spec
        self._pid = os.getpid()
        self._templates = dump_templates(spec.stages, spec.task_id)
        self._stage_objects: list[str] = []
        self._migration: Migration | None = None
        self._is_new = spec.is_new
        self._is_created_here = False
        self._min_epoch = 1
        self._has_died = False
        self.lock: BindLock | None = None
        self.records: list[StageRecord | None] = []
        self.cancel_watch = CancelWatch()
        self.journal = TaskJournal(spec.io, spec.task_id, is_fenced=not spec.no_lock, clock=spec.clock)
        try:
            Retrying(
                retry=retry_if_exception_type(StaleViewError),
                stop=stop_after_attempt(_MAX_ROUNDS),
                wait=wait_random(0.0, 0.1),
                sleep=spec.clock.sleep,
                reraise=True,
            )(self._open)
        except StaleViewError as exc:
            raise BindException(
                f"task {spec.task_id} ({self.journal.url}) changed {_MAX_ROUNDS} times while it was being bound; "
                "find out who else works on it, then try again"
            ) from exc

    @property
    def is_finished(self) -> bool:
        """Whether the manifest says that nothing will ever change the task again."""
        return self.journal.manifest.is_over

    def stored_state(self, index: int, state_class: type[STAGE_STATE]) -> STAGE_STATE | None:
        """What is stored of a stage; of one that never began, the inputs that the task was created with.

        None if this session created the task: then they are what its templates hold.

        Raises:
            IncompatibleTaskException: It does not fit the class.
        """
        record = self.records[index]
        if record is not None:
            return record.load_state(state_class, self._spec.io.build_url(self._stage_objects[index]))
        if self._is_created_here:
            return None
        manifest = self.journal.manifest
        return load_state(
            state_class,
            manifest.stage_templates[index]["state"],
            self.journal.url,
            version=manifest.schema_version_of(index),
        )

    def object_name(self, index: int) -> str:
        """Name of the object of a stage."""
        return self._stage_objects[index]

    @property
    def mailbox(self) -> TaskMailbox:
        """What others left for this life of the task."""
        return TaskMailbox(
            self._spec.io,
            self._spec.task_id,
            self.journal.manifest.base_epoch,
            clock=self._spec.clock,
        )

    def read_signal(self, event: str) -> tuple[Version, Signal] | None:
        """The signal of that name, unless a stage has taken it already."""
        found = self.mailbox.read_signal(event)
        if found is None:
            return None
        taken = {write_id for record in self.records if record for write_id in record.notes.events.values()}
        if found[1].write_id not in taken:
            return found
        # Whoever took it died before it was removed.
        self.mailbox.discard_signal(found[1], found[0])
        return None

    def take_death(self) -> bool:
        """Whether the process before this one died while it had the task. True once, at most."""
        has_died, self._has_died = self._has_died, False
        return has_died

    def store_stage(self, index: int, stage_name: str, state: BaseStageState, notes: StageNotes) -> None:
        """Store a stage.

        Raises:
            BindException: In a forked child.
            InvalidStateException: JSON cannot hold the state.
            LockLostException: The lease ran out, or another owner has the task.
            TaskIOException: The store failed.
        """
        self.check_process()
        where = f"stage {stage_name!r} of task {self._spec.task_id}"
        dumped = dump_state(state, where)
        # Once the stage's code has had the state, it may hold what the store does not give back.
        if state.status in _FROM_CODE and self.records[index] is not None:
            check_readable(state, dumped, where)
        self.records[index] = self.journal.write_stage(
            self._stage_objects[index],
            stage_name=stage_name,
            status=state.status,
            attempts=state.attempts,
            history=state.history,
            state=dumped,
            schema_version=type(state).schema_version,
            notes=notes,
        )

    def store_notes(self, index: int, history: list[StageStateHistoryEntry], notes: StageNotes) -> None:
        """Store a stage as it was last stored, but for its history and notes.

        Raises:
            As `store_stage`.
        """
        self.check_process()
        known = self.records[index]
        if known is not None:
            self.records[index] = self.journal.write_stage(
                self._stage_objects[index],
                stage_name=known.stage_name,
                status=known.status,
                attempts=known.attempts,
                history=history,
                state=known.state,
                schema_version=known.schema_version,
                notes=notes,
            )

    def check_process(self) -> None:
        """Refuse to write from a forked child: the task is its parent's.

        Raises:
            BindException: This is a forked child.
        """
        if os.getpid() != self._pid:
            raise BindException(
                f"task {self._spec.task_id} was bound by process {self._pid}, and this is its forked child "
                f"{os.getpid()}. Make an engine of its own in the child"
            )

    @property
    def is_lost(self) -> bool:
        """Whether the lock was lost. Final."""
        return self.lock is not None and self.lock.is_lost

    def check_held(self) -> None:
        """Refuse to go on once the lock was lost, or in a forked child.

        Raises:
            BindException: This is a forked child.
            LockLostException: The lease ran out, or another owner has the lock.
        """
        self.check_process()
        if self.lock is not None:
            self.lock.check_held()

    def remove_task(self) -> None:
        """Remove the task behind the fence: stop its first unfinished stage, bury it, then sweep.

        Raises:
            LockLostException: Another owner has the task.
            TaskIOException: The store failed. Whoever binds next goes on with the removal.
        """
        # A finished task has nobody to keep out but who noted that end.
        while (unfinished := _StageStateMachine.next_written(stage_statuses(self.records))) is not None:
            found = self.records[unfinished]
            if found is not None and found.is_removing:
                break
            try:
                self.records[unfinished] = self.journal.write_stage(
                    self._stage_objects[unfinished],
                    stage_name=self.journal.manifest.stage_names[unfinished],
                    status="REMOVING",
                    attempts=found.attempts if found else 0,
                    history=found.history if found else [],
                    state={},
                )
                break
            except StageChangedError as changed:
                self.records[unfinished] = changed.record
        doomed = self.journal.list_removable()
        self.journal.bury()
        self.journal.sweep(doomed)

    def close(self) -> None:
        """Let the task go. In a forked child this changes nothing.

        Raises:
            StorageUnavailableException: The lock may still be held.
        """
        if self.lock is not None:
            self.lock.release(finished=self._is_lock_useless())

    def _open(self) -> None:
        seen = None if self._is_new else self.journal.read_manifest()
        self._is_new = False
        if seen is not None:
            self._admit(seen)
            self._min_epoch = max(self._min_epoch, seen.epoch + 1)
        self._acquire(seen)
        try:
            self._load(seen)
        except BaseException as exc:
            if isinstance(exc, StaleViewError):
                self._min_epoch = max(self._min_epoch, exc.min_epoch)
            if self.lock is not None:
                # Not as that of a finished task: a tombstone may be no more by now, and our own manifest
                # may yet arrive. An unfinished task without a lock object would be found by nobody.
                self.lock.release()
            raise

    def _admit(self, seen: Manifest) -> None:
        self._migration = None
        if seen.removed is not None:
            return
        if self._spec.force_create:
            raise TaskEngineException(
                f"task {self._spec.task_id} exists ({self.journal.url}) and force_create means a new one. Nothing "
                "was changed. Give another id, drop force_create to resume it, or remove it first"
            )
        url = self.journal.url
        self._migration = plan_migration(seen, self._spec.stages, self._templates, self._spec.changes, url)
        if self._migration is None and (ignored := self._ignored_inputs(seen)):
            _log.warning(
                "task %s exists and resumes with its stored inputs; those given now differ in %s and are ignored",
                self._spec.task_id,
                ", ".join(ignored),
            )

    def _ignored_inputs(self, seen: Manifest) -> list[str]:
        ignored = []
        for index, (stage, given) in enumerate(zip(self._spec.stages, self._templates, strict=True)):
            stored = seen.stage_templates[index]["state"]
            if stored != given["state"]:
                # As this version of the class has them: names may be others, and missing ones have defaults.
                version = seen.schema_version_of(index)
                state = load_state(type(stage.state), stored, self.journal.url, version=version)
                stored = dump_state(state, f"stage {stage.stage_name!r} of task {self._spec.task_id}")
            ignored += [
                f"{given['stage_name']}.{name}"
                for name, value in given["state"].items()
                if value != stored.get(name)
            ]
        return ignored

    def _acquire(self, seen: Manifest | None) -> None:
        if self._spec.no_lock:
            return
        self.lock = BindLock(
            self._spec.io,
            lock_object_name(self._spec.task_id),
            self._spec.lock_timeout,
            lease=self._spec.lease,
            min_epoch=self._min_epoch,
            clock=self._spec.clock,
            after_renewal=self.cancel_watch.look,
        )
        if seen is not None and seen.removed is None:
            self.lock.observe()
        # Nobody can change a finished task, so a lock that its last owner left there guards nothing.
        self.lock.acquire(ended_by=seen.epoch if seen is not None and seen.is_over else None)
        assert self.lock.owner is not None  # noqa: S101 - acquire() has just set it
        self.journal.owner, self.journal.epoch = self.lock.owner, self.lock.epoch
        self.journal.check_held = self.lock.check_held

    def _load(self, seen: Manifest | None) -> None:
        self._has_died = self.lock is None or self.lock.replaced_holder
        if seen is None or seen.removed is not None:
            self._create()
            self.cancel_watch.open(self.mailbox)
            return
        self._stage_objects = seen.objects
        # Nobody can cancel a finished task.
        self.records = self._read_stages(with_cancel_request=not seen.is_over)
        manifest = self.journal.manifest
        if (
            manifest.removed is not None
            or manifest.base_epoch != seen.base_epoch
            or manifest.stage_list != seen.stage_list
        ):
            raise StaleViewError(manifest.epoch + 1)
        stamps = [(manifest.epoch, manifest.owner), *((r.epoch, r.owner) for r in self.records if r)]
        highest = max(epoch for epoch, _ in stamps)
        if self.lock is None:
            self.journal.epoch = highest
        elif any(epoch >= self.journal.epoch and owner != self.journal.owner for epoch, owner in stamps):
            raise StaleViewError(highest + 1)
        if any(record and record.is_removing for record in self.records):
            self.remove_task()
            raise StaleViewError(self.journal.epoch + 1)
        if self._migration is not None:
            self._migrate(self._migration)
        # One that a migration made, of a stage that never began: the manifest says what it is.
        self.records = [record if record and record.is_begun else None for record in self.records]
        self.cancel_watch.open(self.mailbox)
        if self.journal.has_cancel_request:
            self.cancel_watch.look()

    def _migrate(self, migration: Migration) -> None:
        """Give the stored task the stages of this process. See `TaskJournal` for the order of the writes."""
        manifest = self.journal.manifest
        statuses = stage_statuses(self.records)
        if manifest.ended is not None:
            raise StaleViewError
        migration.check(statuses)
        position = _StageStateMachine.next_written(statuses)
        if position is not None:
            self._mark(position, manifest)
        self.journal.change_stages(**migration.manifest_fields(statuses))
        _log.warning("task %s was migrated: %s", self._spec.task_id, "; ".join(migration.changes))
        # What has begun has kept its position and its object.
        begun = [record for record in self.records if record and record.is_begun]
        self.records = [*begun, *[None] * (len(self._spec.stages) - len(begun))]
        self._stage_objects = self.journal.manifest.objects

    def _mark(self, position: int, manifest: Manifest) -> None:
        record = self.records[position]
        if record is None:
            known: dict[str, Any] = {
                "stage_name": manifest.stage_names[position],
                "status": StageStatus.CREATED,
                "attempts": 0,
                "history": [],
                "state": manifest.stage_templates[position]["state"],
                "schema_version": manifest.schema_version_of(position),
            }
        else:
            known = {name: getattr(record, name) for name in _KEPT_BY_A_MARK}
        try:
            self.journal.write_stage(self._stage_objects[position], **known, migrating=True)
        except StageChangedError as changed:
            raise StaleViewError(self.journal.epoch + 1) from changed
        except LockLostException as lost:
            self.check_held()
            raise StaleViewError(self.journal.epoch + 1) from lost

    def _read_stages(self, *, with_cancel_request: bool) -> list[StageRecord | None]:
        def read() -> list[StageRecord | None]:
            found = self.journal.read_all(self._stage_objects, with_cancel_request=with_cancel_request)
            return list(found.values())

        records = read()
        for _ in range(_MAX_REREADS):
            if _is_possible(records):
                break
            # They are read one by one, and until our claim an older owner may go on in between.
            records = read()
        return records

    def _create(self) -> None:
        if self.lock is None:
            self.journal.epoch = self._min_epoch
        spec = self._spec
        try:
            self.journal.begin_life(
                self._templates,
                stage_template_classes=[qualified_name(type(stage)) for stage in spec.stages],
                schema_versions=[type(stage.state).schema_version for stage in spec.stages],
                state_class=qualified_name(type(spec.stages[0].state)),
                max_attempts=spec.max_attempts,
                retry_policy=spec.retry_policy,
                on_error=spec.on_error,
                max_interruptions=spec.max_interruptions,
            )
        except VersionConflictException as exc:
            raise StaleViewError from exc
        self._stage_objects = self.journal.manifest.objects
        self.records = [None] * len(spec.stages)
        self._is_created_here = True

    def _is_lock_useless(self) -> bool:
        try:
            is_finished = self.is_finished
        except TaskEngineException:
            return False
        # A token that was used and stands in no manifest is remembered by the lock alone.
        is_noted = self.journal.manifest.epoch >= self.journal.epoch
        return is_finished and (is_noted or not self.journal.has_claimed)


def _is_possible(records: Sequence[StageRecord | None]) -> bool:
    """Whether these can be the stages of one task at one moment."""
    try:
        _StageStateMachine.check_neighbours(stage_statuses(records), "")
    except InvalidTransitionException:
        return False
    return True
