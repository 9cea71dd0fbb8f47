"""StageHost: the side of an engine that its stages and its plans talk to."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from pydantic import ValidationError

from checkmate_core.artifacts import ArtifactPlace
from checkmate_core.errors import IncompatibleTaskException, InvalidTransitionException, TaskEngineException
from checkmate_core.inspection import STAGE_RESULT
from checkmate_core.journal import StageChangedError
from checkmate_core.letters.mailbox import Signal
from checkmate_core.notes import NO_NOTES, Progress, StageNotes
from checkmate_core.observed import ObservedTask
from checkmate_core.record import StageRecord, dump_state, faults_of, load_state
from checkmate_core.running.attempt import RunningAttempt
from checkmate_core.running.isolation import run_isolated
from checkmate_core.stage import STAGE, BaseStage
from checkmate_core.state import BaseStageState, StageStateHistoryEntry
from checkmate_core.status import CANCELABLE_STATES, FINISHED_STATES, StageStatus
from checkmate_core.types import Version


@dataclass(frozen=True, slots=True)
class Wakeup:
    """Why a suspended stage goes on.

    Attributes:
        state: Its state, with the event's data.
        signal: The event; None if its time came.
        version: Version of the signal's object.
    """

    state: BaseStageState
    signal: Signal | None = None
    version: Version | None = None


class StageHost(ObservedTask[STAGE, STAGE_RESULT]):
    """Members of `CheckMateEngine` for its stages and plans. Applications have no use for them.

    Attributes:
        on_error: What follows when a stage failed for good.
        max_interruptions: How often in a row a process may die in a stage.
    """

    on_error: Literal["stop", "compensate"]
    max_interruptions: int
    _attempt: RunningAttempt | None = None

    def store_stage(self, stage: BaseStage[Any], state: BaseStageState, notes: StageNotes) -> None:
        """Store ``state`` and ``notes`` as the stage's. For `BaseStage.change`."""
        self.session.store_stage(self.index_of(stage), stage.stage_name, state, notes)

    def save_stage(self, stage: BaseStage[Any], notes: StageNotes, *, with_state: bool) -> None:
        """Store the running stage's notes, and its state unless that is to stay as it was stored.

        Raises:
            TaskEngineException: The state is to be stored, and the stage is not being executed any more.
            LockLostException: Another owner has the task.
            TaskIOException: The store failed.
        """
        with stage.lock:
            record = self.stored_record(stage)
            if self._attempt is None or record.status is not StageStatus.RUNNING:
                if with_state:
                    raise TaskEngineException(
                        f"stage {stage.stage_name!r} of task {self.task_id} is not being executed any more; a thread "
                        "that it began must end before `execute_stage` returns"
                    )
                return
            history = _told(stage.state.history, stage.attempts, notes.progress)
            if with_state:
                notes = notes.but(interruptions=0)
                state = stage.state.model_copy(update={"history": history})
                store = partial(self.store_stage, stage, state, notes)
            else:
                notes = notes.but(cursors=record.notes.cursors)
                store = partial(self.session.store_notes, self.index_of(stage), history, notes)
            try:
                store()
            except StageChangedError as changed:
                if changed.record.owner != record.owner:
                    raise
                # A save of ours that had been given up without an answer has arrived after all.
                store()
            stage.state.history = history
            stage.take_notes(notes)

    def begin_attempt(self, stage: BaseStage[Any], write_cost: float) -> RunningAttempt:
        """Let the stage ask for things from now on."""
        self._attempt = RunningAttempt(self, stage, timeout=stage.timeout, write_cost=write_cost)
        return self._attempt

    def end_attempt(self) -> None:
        """The stage's code is done with."""
        self._attempt = None

    def attempt_of(self, stage: BaseStage[Any]) -> RunningAttempt:
        """The attempt that is under way. For the stage.

        Raises:
            TaskEngineException: The stage is not being executed.
        """
        if self._attempt is None or self._attempt.stage is not stage:
            raise TaskEngineException(
                f"stage {stage.stage_name!r} of task {self.task_id} is not being executed; this is for the code of "
                "`execute_stage`"
            )
        return self._attempt

    def executor_of(self, stage: BaseStage[Any]) -> Callable[..., object]:
        """What executes the stage: its method, or a child process that calls it."""
        return partial(run_isolated, self, stage) if stage.isolated else stage.execute_stage

    def stored_state(self, stage: BaseStage[Any]) -> BaseStageState | None:
        """What is stored of the stage, None if it is new. For `BaseStage.bind_to_engine`."""
        return self.session.stored_state(self.index_of(stage), type(stage.state))

    def stored_notes(self, stage: BaseStage[Any]) -> StageNotes:
        """The notes that are stored of a stage. For `BaseStage.bind_to_engine`."""
        record = self.session.records[self.index_of(stage)]
        return record.notes if record else NO_NOTES

    def load_state(self, stage: BaseStage[Any], record: StageRecord) -> BaseStageState:
        """The state in a record."""
        found: BaseStageState = record.load_state(type(stage.state), stage.url)
        return found

    def adopt(self, stage: BaseStage[Any], record: StageRecord) -> None:
        """Take this record for what is stored of a stage."""
        stage.state = self.load_state(stage, record)
        stage.take_notes(record.notes)
        self.session.records[self.index_of(stage)] = record

    def reload(self, stage: BaseStage[Any]) -> None:
        """Go back to what is stored of a stage."""
        self.adopt(stage, self.stored_record(stage))

    def stored_record(self, stage: BaseStage[Any]) -> StageRecord:
        """The stage as last read or written.

        Raises:
            TaskEngineException: It never began.
        """
        record = self.session.records[self.index_of(stage)]
        if record is None:
            raise TaskEngineException(f"stage {stage.stage_name!r} of task {self.task_id} was never stored")
        return record

    def note_end(self) -> None:
        """Note in the store that the task is finished, if it is."""
        if self.status in FINISHED_STATES:
            self.session.journal.end_life(self.status)

    def check_alive(self) -> None:
        """Raise if this engine lost the task.

        Raises:
            LockLostException: The lease ran out, or another owner has the lock.
            TaskEngineException: The engine is not bound.
        """
        self.session.check_held()

    def check_stage(self, stage: BaseStage[Any]) -> None:
        """Raise if the stage must not go on. For `BaseStage.check_alive`.

        Raises:
            LockLostException: The lease ran out, or another owner has the lock.
            StageTimeoutException: It is being executed, and its time is over.
            TaskEngineException: The engine is not bound.
        """
        if self._attempt is not None and self._attempt.stage is stage:
            self._attempt.check()
        else:
            self.check_alive()

    @property
    def artifact_place(self) -> ArtifactPlace:
        """Where the task's artifacts are. For `BaseStage.artifacts`."""
        return ArtifactPlace(
            io=self.io,
            task_id=self.task_id,
            base_epoch=self.session.journal.manifest.base_epoch,
            check_held=self.check_alive,
        )

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for the task to be canceled, as far as this engine has seen."""
        return self._session is not None and self._session.cancel_watch.is_requested

    def look_for_cancel(self) -> None:
        """Look for a cancel request. One request."""
        self.session.cancel_watch.look()

    def check_cancelable(self) -> None:
        """Raise unless the task can be canceled as it stands.

        Raises:
            InvalidTransitionException: It cannot.
        """
        if self.status not in CANCELABLE_STATES:
            raise InvalidTransitionException(
                f"task {self.task_id} is {self.status} and cannot be canceled "
                f"(only {', '.join(sorted(CANCELABLE_STATES))} can)"
            )

    def check_can_roll_back(self) -> None:
        """Raise unless the task can be rolled back as it stands.

        Raises:
            InvalidTransitionException: It is finished.
        """
        if self.status in FINISHED_STATES:
            raise InvalidTransitionException(
                f"task {self.task_id} is {self.status}, so it is finished and cannot be rolled back"
            )

    def look_for_wakeup(self, stage: BaseStage[Any]) -> Wakeup | None:
        """Why a suspended stage may go on; None if it may not yet.

        Raises:
            IncompatibleTaskException: The event's data does not fit the state.
        """
        suspension = stage.notes.suspension
        if suspension is None:
            return Wakeup(stage.state)
        if suspension.event is not None and suspension.field is not None:
            found = self.session.read_signal(suspension.event)
            if found is not None:
                version, signal = found
                return Wakeup(self._with_data(stage, suspension.field, signal), signal, version)
        if suspension.is_due(datetime.fromtimestamp(self.clock.now(), UTC)):
            return Wakeup(stage.state)
        return None

    def discard(self, wakeup: Wakeup) -> None:
        """Remove a signal whose data is stored with the stage."""
        if wakeup.signal is not None and wakeup.version is not None:
            self.session.mailbox.discard_signal(wakeup.signal, wakeup.version)

    def _with_data(self, stage: BaseStage[Any], field: str, signal: Signal) -> BaseStageState:
        where = f"stage {stage.stage_name!r} of task {self.task_id}"
        bookkeeping = self.stored_record(stage).bookkeeping()
        data = {**dump_state(stage.state, where), **bookkeeping, field: signal.data}
        try:
            found: BaseStageState = load_state(type(stage.state), data, stage.url)
        except IncompatibleTaskException as exc:
            cause = exc.__cause__
            faults = faults_of(cause) if isinstance(cause, ValidationError) else str(exc)
            raise IncompatibleTaskException(
                f"the data of event {signal.event!r} does not fit {field!r} of {where}, which waits for it: {faults}. "
                "Send the event again with data that does (replace=True, `checkmate signal --replace`)"
            ) from exc
        return found


def _told(
    history: list[StageStateHistoryEntry], attempt: int, progress: Progress | None
) -> list[StageStateHistoryEntry]:
    """The history with the running attempt's progress in its entry, so that progress adds no entries."""
    if progress is None:
        return history
    message = f"Attempt {attempt}: {progress}"
    return [*history[:-1], history[-1].model_copy(update={"message": message})]
