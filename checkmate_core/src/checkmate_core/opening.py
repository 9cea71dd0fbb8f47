"""How a task is opened: found fit, locked, read, and created or migrated where that is due.

Order: lock, manifest, stages. Nothing is written before the stages were found fit to be stored and to be
those of the stored task.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tenacity import Retrying, retry_if_exception_type
from tenacity.stop import stop_after_attempt
from tenacity.wait import wait_random

from checkmate_core.changing.changes import StageChanges
from checkmate_core.changing.migration import Migration, plan_migration
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
from checkmate_core.journal import StageChangedError, StaleViewError
from checkmate_core.layout import lock_object_name
from checkmate_core.lock import BindLock
from checkmate_core.manifest import Manifest, dump_templates
from checkmate_core.record import StageRecord, dump_state, load_state, stage_statuses
from checkmate_core.session import TaskSession
from checkmate_core.stage import BaseStage
from checkmate_core.status import StageStatus, _StageStateMachine

_log = logging.getLogger(__name__)

# Each round means that another owner got in between; so many in a row mean that something is broken.
_MAX_ROUNDS = 20
_MAX_REREADS = 2

_KEPT_BY_A_MARK: Final = ("stage_name", "status", "attempts", "history", "state", "schema_version", "notes")


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


def open_task(spec: TaskSpec) -> TaskSession:
    """Open a task, creating it if it is not there.

    Raises:
        BindException: The task is locked.
        IncompatibleTaskException: The stored task has other stages.
        InvalidStateException: The stages cannot be stored.
        TaskEngineException: ``force_create``, and the task exists.
        TaskIOException: The store failed.
    """
    session = TaskSession(spec.io, spec.task_id, is_fenced=not spec.no_lock, clock=spec.clock)
    opening = _Opening(spec, session)
    try:
        Retrying(
            retry=retry_if_exception_type(StaleViewError),
            stop=stop_after_attempt(_MAX_ROUNDS),
            wait=wait_random(0.0, 0.1),
            sleep=spec.clock.sleep,
            reraise=True,
        )(opening.open)
    except StaleViewError as exc:
        raise BindException(
            f"task {spec.task_id} ({session.journal.url}) changed {_MAX_ROUNDS} times while it was being bound; "
            "find out who else works on it, then try again"
        ) from exc
    return session


class _Opening:
    """Tries to open one task, again and again while others change it."""

    def __init__(self, spec: TaskSpec, session: TaskSession) -> None:
        self._spec = spec
        self._session = session
        self._templates = dump_templates(spec.stages, spec.task_id)
        self._migration: Migration | None = None
        self._is_new = spec.is_new
        self._min_epoch = 1

    def open(self) -> None:
        """Try once.

        Raises:
            StaleViewError: The task changed meanwhile.
        """
        seen = None if self._is_new else self._session.journal.read_manifest()
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
            if self._session.lock is not None:
                # Not as that of a finished task: a tombstone may be no more by now, and our own manifest
                # may yet arrive. An unfinished task without a lock object would be found by nobody.
                self._session.lock.release()
            raise

    def _admit(self, seen: Manifest) -> None:
        self._migration = None
        if seen.removed is not None:
            return
        if self._spec.force_create:
            raise TaskEngineException(
                f"task {self._spec.task_id} exists ({self._session.journal.url}) and force_create means a new one. Nothing "
                "was changed. Give another id, drop force_create to resume it, or remove it first"
            )
        url = self._session.journal.url
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
                state = load_state(type(stage.state), stored, self._session.journal.url, version=version)
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
        self._session.lock = BindLock(
            self._spec.io,
            lock_object_name(self._spec.task_id),
            self._spec.lock_timeout,
            lease=self._spec.lease,
            min_epoch=self._min_epoch,
            clock=self._spec.clock,
            after_renewal=self._session.cancel_watch.look,
        )
        if seen is not None and seen.removed is None:
            self._session.lock.observe()
        # Nobody can change a finished task, so a lock that its last owner left there guards nothing.
        self._session.lock.acquire(ended_by=seen.epoch if seen is not None and seen.is_over else None)
        assert self._session.lock.owner is not None  # noqa: S101 - acquire() has just set it
        self._session.journal.owner, self._session.journal.epoch = (
            self._session.lock.owner,
            self._session.lock.epoch,
        )
        self._session.journal.check_held = self._session.lock.check_held

    def _load(self, seen: Manifest | None) -> None:
        self._session.has_died = self._session.lock is None or self._session.lock.replaced_holder
        if seen is None or seen.removed is not None:
            self._create()
            self._session.cancel_watch.open(self._session.mailbox)
            return
        self._session.stage_objects = seen.objects
        # Nobody can cancel a finished task.
        self._session.records = self._read_stages(with_cancel_request=not seen.is_over)
        manifest = self._session.journal.manifest
        if (
            manifest.removed is not None
            or manifest.base_epoch != seen.base_epoch
            or manifest.stage_list != seen.stage_list
        ):
            raise StaleViewError(manifest.epoch + 1)
        stamps = [(manifest.epoch, manifest.owner), *((r.epoch, r.owner) for r in self._session.records if r)]
        highest = max(epoch for epoch, _ in stamps)
        if self._session.lock is None:
            self._session.journal.epoch = highest
        elif any(
            epoch >= self._session.journal.epoch and owner != self._session.journal.owner
            for epoch, owner in stamps
        ):
            raise StaleViewError(highest + 1)
        if any(record and record.is_removing for record in self._session.records):
            self._session.remove_task()
            raise StaleViewError(self._session.journal.epoch + 1)
        if self._migration is not None:
            self._migrate(self._migration)
        # One that a migration made, of a stage that never began: the manifest says what it is.
        self._session.records = [
            record if record and record.is_begun else None for record in self._session.records
        ]
        self._session.cancel_watch.open(self._session.mailbox)
        if self._session.journal.has_cancel_request:
            self._session.cancel_watch.look()

    def _migrate(self, migration: Migration) -> None:
        """Give the stored task the stages of this process. See `TaskJournal` for the order of the writes."""
        manifest = self._session.journal.manifest
        statuses = stage_statuses(self._session.records)
        if manifest.ended is not None:
            raise StaleViewError
        migration.check(statuses)
        position = _StageStateMachine.next_written(statuses)
        if position is not None:
            self._mark(position, manifest)
        self._session.journal.change_stages(**migration.manifest_fields(statuses))
        _log.warning("task %s was migrated: %s", self._spec.task_id, "; ".join(migration.changes))
        # What has begun has kept its position and its object.
        begun = [record for record in self._session.records if record and record.is_begun]
        self._session.records = [*begun, *[None] * (len(self._spec.stages) - len(begun))]
        self._session.stage_objects = self._session.journal.manifest.objects

    def _mark(self, position: int, manifest: Manifest) -> None:
        record = self._session.records[position]
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
            self._session.journal.write_stage(self._session.stage_objects[position], **known, migrating=True)
        except StageChangedError as changed:
            raise StaleViewError(self._session.journal.epoch + 1) from changed
        except LockLostException as lost:
            self._session.check_held()
            raise StaleViewError(self._session.journal.epoch + 1) from lost

    def _read_stages(self, *, with_cancel_request: bool) -> list[StageRecord | None]:
        def read() -> list[StageRecord | None]:
            found = self._session.journal.read_all(
                self._session.stage_objects, with_cancel_request=with_cancel_request
            )
            return list(found.values())

        records = read()
        for _ in range(_MAX_REREADS):
            if _is_possible(records):
                break
            # They are read one by one, and until our claim an older owner may go on in between.
            records = read()
        return records

    def _create(self) -> None:
        if self._session.lock is None:
            self._session.journal.epoch = self._min_epoch
        spec = self._spec
        try:
            self._session.journal.begin_life(
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
        self._session.stage_objects = self._session.journal.manifest.objects
        self._session.records = [None] * len(spec.stages)
        self._session.is_created_here = True


def _is_possible(records: Sequence[StageRecord | None]) -> bool:
    """Whether these can be the stages of one task at one moment."""
    try:
        _StageStateMachine.check_neighbours(stage_statuses(records), "")
    except InvalidTransitionException:
        return False
    return True
