"""TaskSession: one owner's hold on one task, until its release."""

import os
from typing import Final

from checkmate_core.clock import Clock
from checkmate_core.errors import BindException, TaskEngineException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.journal import StageChangedError, TaskJournal
from checkmate_core.letters.mailbox import CancelWatch, Signal, TaskMailbox
from checkmate_core.lock import BindLock
from checkmate_core.notes import StageNotes
from checkmate_core.record import StageRecord, check_readable, dump_state, load_state, stage_statuses
from checkmate_core.state import STAGE_STATE, BaseStageState, StageStateHistoryEntry
from checkmate_core.status import StageStatus, _StageStateMachine
from checkmate_core.types import Version

_FROM_CODE: Final = frozenset({StageStatus.RUNNING, StageStatus.COMPLETE, StageStatus.SUSPENDED})


class TaskSession:
    """Holds a task that `open_task` opened, until it is closed.

    Attributes:
        journal: The task's stored objects.
        lock: The bind lock; None without one.
        stage_objects: Names of the stages' objects, in the stages' order.
        records: The stage objects as last read or written, in the stages' order.
        cancel_watch: Whether somebody asked for the task to be canceled.
        is_created_here: Whether this session began the task.
        has_died: Whether the process before this one died while it had the task.
    """

    def __init__(self, io: TaskIO, task_id: str, *, is_fenced: bool, clock: Clock) -> None:
        """Hold nothing yet: `open_task` does."""
        self.journal = TaskJournal(io, task_id, is_fenced=is_fenced, clock=clock)
        self.lock: BindLock | None = None
        self.stage_objects: list[str] = []
        self.records: list[StageRecord | None] = []
        self.cancel_watch = CancelWatch()
        self.is_created_here = False
        self.has_died = False
        self._io = io
        self._task_id = task_id
        self._clock = clock
        self._pid = os.getpid()

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
            return record.load_state(state_class, self._io.build_url(self.stage_objects[index]))
        if self.is_created_here:
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
        return self.stage_objects[index]

    @property
    def mailbox(self) -> TaskMailbox:
        """What others left for this life of the task."""
        return TaskMailbox(
            self._io,
            self._task_id,
            self.journal.manifest.base_epoch,
            clock=self._clock,
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
        has_died, self.has_died = self.has_died, False
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
        where = f"stage {stage_name!r} of task {self._task_id}"
        dumped = dump_state(state, where)
        # Once the stage's code has had the state, it may hold what the store does not give back.
        if state.status in _FROM_CODE and self.records[index] is not None:
            check_readable(state, dumped, where)
        self.records[index] = self.journal.write_stage(
            self.stage_objects[index],
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
                self.stage_objects[index],
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
                f"task {self._task_id} was bound by process {self._pid}, and this is its forked child "
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
                    self.stage_objects[unfinished],
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

    def _is_lock_useless(self) -> bool:
        try:
            is_finished = self.is_finished
        except TaskEngineException:
            return False
        # A token that was used and stands in no manifest is remembered by the lock alone.
        is_noted = self.journal.manifest.epoch >= self.journal.epoch
        return is_finished and (is_noted or not self.journal.has_claimed)
