"""BaseStage: one unit of work of a task."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PrivateAttr, field_validator
from pydantic_core import PydanticSerializationError

from checkmate_core.artifacts import TaskArtifacts
from checkmate_core.copyable_lock import CopyableLock
from checkmate_core.errors import InvalidStateException, TaskEngineException
from checkmate_core.layout import STAGE_NAME_MAX_LENGTH
from checkmate_core.notes import NO_NOTES, StageNotes
from checkmate_core.process import HOST
from checkmate_core.retry import RetryPolicy
from checkmate_core.stage_work import StageWork
from checkmate_core.state import STAGE_STATE, StageStateHistoryEntry
from checkmate_core.status import StageStatus, _StageStateMachine

if TYPE_CHECKING:
    from typing import Self

    from checkmate_core.engine import CheckMateEngine
    from checkmate_core.inspection import TaskInspection
    from checkmate_core.running.attempt import RunningAttempt

STAGE = TypeVar("STAGE", bound="BaseStage[Any]")


class BaseStage(StageWork, BaseModel, ABC, Generic[STAGE_STATE]):
    """One stage of a task. Subclass it and implement `execute_stage`, as a function or as a coroutine.

    Fields of a subclass are its configuration; what it learns goes into its state. This class is
    thread-safe. Copies, pickles and dumps carry no engine and no lock.

    Attributes:
        stage_name: Unique within the task; names the stored object.
        description: For people.
        state: The stage's state.
        timezone: IANA name of the zone of history entries.
        retry_policy: Overrides the engine's; not stored.
        max_attempts: Overrides the engine's; not stored.
        max_interruptions: Overrides the engine's; not stored.
        timeout: Seconds that an attempt may take; None is any time. A coroutine is cut off then, and so is
            an ``isolated`` stage; any other finds out at `check_alive`, `checkpoint`, `progress` or the next
            item of `resumable`, and one that is done before it asks has not failed. Not stored.
        isolated: Whether `execute_stage` runs in a child process of its own: its death is a failed
            attempt then, and a time limit or a lost lock ends it wherever it is. Not stored.
        volatile_engine_ref: The engine that the stage is bound to; set by the engine, never stored.
    """

    model_config = ConfigDict(extra="forbid")

    stage_name: str = Field(
        ...,
        min_length=1,
        max_length=STAGE_NAME_MAX_LENGTH,
        title="Stage Name",
        description="Unique stage name / identifier. This field will be used to generate the state "
        "metadata file/object and persisted during execution",
    )
    description: str = Field(
        default="",
        title="Stage Description",
        description="Human readable stage description intended for short, inline documentation",
    )
    state: STAGE_STATE = Field(..., title="Stage State", description="Stage state data")
    timezone: str = Field(default="UTC", title="Timezone", description="Timezone to use in history entries")
    retry_policy: InstanceOf[RetryPolicy] | None = Field(default=None, exclude=True, repr=False)
    max_attempts: int | None = Field(default=None, ge=1, exclude=True, repr=False)
    max_interruptions: int | None = Field(default=None, ge=1, exclude=True, repr=False)
    timeout: float | None = Field(default=None, gt=0, exclude=True, repr=False)
    isolated: bool = Field(default=False, exclude=True, repr=False)
    volatile_engine_ref: Any = Field(
        default=None,
        title="Task",
        description="Task object reference (volatile), this is set by the Task execution engine",
        exclude=True,
        repr=False,
    )
    _lock: CopyableLock = PrivateAttr(default_factory=CopyableLock)

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, name: str) -> str:
        _zone(name)
        return name

    @abstractmethod
    def execute_stage(self, previous_state_copy: STAGE_STATE) -> Coroutine[Any, Any, None] | None:
        """Executes the task stage.

        Returns nothing on success and raises an exception on failure. Write results to
        ``self.state``; the engine stores it when this returns. Do not change the status here. It
        may run more than once: a stage that was in flight when its process died is executed again.

        Args:
            previous_state_copy: A copy of the previous stage's state; on the first stage, this
                stage's own state. Leave it as it is: a rollback may need it.
        """

    def rollback_stage(self, previous_state_copy: STAGE_STATE) -> Coroutine[Any, Any, None] | None:
        """When a processing error occurs, attempt to rollback to a stable state.

        Called after a failed attempt, before the state is restored, and before an interrupted stage
        is executed again. The default does nothing. If it raises, the stage is in ERROR.

        Args:
            previous_state_copy: As in `execute_stage`.
        """

    def cancel(self) -> Coroutine[Any, Any, None] | None:
        """Clean up when the task is canceled while this is its first incomplete stage."""

    def check_alive(self) -> None:
        """Raise if the task is not this worker's any more. For the loops of a long stage.

        Makes no request, so it can be called as often as one likes, from any thread.

        Raises:
            LockLostException: The lease ran out, or another owner has the task. Let it pass: the
                engine ends the run with it and rolls nothing back.
            StageTimeoutException: The stage is being executed, and its time is over.
            TaskEngineException: The stage is not bound.
        """
        self.engine.check_stage(self)

    @property
    def engine(self) -> CheckMateEngine[Any, Any]:
        """The engine that the stage is bound to.

        Raises:
            TaskEngineException: It is not bound.
        """
        if self.volatile_engine_ref is None:
            raise TaskEngineException(
                f"stage {self.stage_name!r} is not bound to a task; use it within engine.bind() … unbind()"
            )
        engine: CheckMateEngine[Any, Any] = self.volatile_engine_ref
        return engine

    @property
    def has_coroutines(self) -> bool:
        """Whether any of its methods must be awaited."""
        methods = (self.execute_stage, self.rollback_stage, self.cancel)
        return any(inspect.iscoroutinefunction(method) for method in methods)

    @property
    def attempt(self) -> RunningAttempt:
        """The attempt that is under way.

        Raises:
            TaskEngineException: The stage is not being executed.
        """
        return self.engine.attempt_of(self)

    @property
    def notes(self) -> StageNotes:
        """What the engine notes of the stage beside its state."""
        # Not a private attribute: pydantic takes longer to find one than some stages do to run.
        found: StageNotes = self.__dict__.get("_notes", NO_NOTES)
        return found

    def take_notes(self, notes: StageNotes) -> None:
        """Take these for the stage's notes. For the engine."""
        object.__setattr__(self, "_notes", notes)

    @property
    def lock(self) -> CopyableLock:
        """Held while the stage is changed and stored."""
        return self._lock

    @property
    def artifacts(self) -> TaskArtifacts:
        """Large values of the task: ``self.state.vectors = self.artifacts.put("vectors", array)``.

        Raises:
            TaskEngineException: The stage is not bound.
        """
        return TaskArtifacts(self.engine.artifact_place)

    @property
    def status(self) -> StageStatus:
        """Where the stage stands."""
        return self.state.status

    @property
    def attempts(self) -> int:
        """How often the stage was begun."""
        return self.state.attempts

    @property
    def obj_name(self) -> str:
        """The object name for the current stage.

        Raises:
            TaskEngineException: The stage is not bound.
        """
        return self.gen_obj_name()

    @property
    def url(self) -> str:
        """The URL of the stage's object.

        Raises:
            TaskEngineException: The stage is not bound.
        """
        return self.engine.io.build_url(self.obj_name)

    def gen_obj_name(self, engine: TaskInspection[Any, Any] | None = None) -> str:
        """Generate an object name for the current stage.

        Args:
            engine: An optional engine. If not provided, the stage's own engine will be used.

        Raises:
            TaskEngineException: Neither is there, or the stage is not one of that engine's.
        """
        engine = engine or self.engine
        return engine.object_name_of(self)

    def bind_to_engine(self, task_engine: CheckMateEngine[Any, Any]) -> Self:
        """Bind the stage to an engine. If the stage state exists, it is loaded from storage.

        Args:
            task_engine: The engine to bind the stage to; itself bound to its task.

        Returns:
            This stage.

        Raises:
            TaskEngineException: The stage is already bound.
            IncompatibleTaskException: The stored state does not fit.
        """
        if self.volatile_engine_ref is not None:
            raise TaskEngineException(
                f"stage {self.stage_name!r} is already bound to task {self.engine.task_id}; unbind it first"
            )
        self.volatile_engine_ref = task_engine
        try:
            stored = task_engine.stored_state(self)
        except BaseException:
            self.volatile_engine_ref = None
            raise
        if stored is not None:
            self.state = cast("STAGE_STATE", stored)
        self.take_notes(task_engine.stored_notes(self))
        if self.status is StageStatus.UNBOUND:
            _StageStateMachine.check_transition(self.status, StageStatus.CREATED, self._where())
            self.state.status = StageStatus.CREATED
        return self

    def inc_attempts(self) -> int:
        """Increment the number of attempts for the current stage, in memory.

        Returns:
            The updated number of attempts.
        """
        with self._lock:
            self.state.attempts += 1
            return self.state.attempts

    def persistence_file_exists(self) -> bool:
        """Whether the stage has a stored object.

        Raises:
            TaskEngineException: The stage is not bound.
        """
        return self.engine.io.exists(self.obj_name)

    def update_status(
        self,
        message: str,
        status: StageStatus,
        begin_ts: float,
        end_ts: float | None = None,
    ) -> None:
        """Change the status, record the change in history, and store the stage.

        The change is stored before anything in memory changes, so what is in memory is never ahead
        of what is stored.

        Args:
            message: A message describing the status update.
            status: The new status to be set for the stage.
            begin_ts: The timestamp when the status update begins, in seconds since the epoch.
            end_ts: The timestamp when the status update ends.

        Raises:
            InvalidTransitionException: The state machine does not allow the change.
            InvalidStateException: The state cannot be stored as JSON.
            LockLostException: Another owner has the task.
            TaskIOException: The store failed.
        """
        self.change(message, status, begin_ts, end_ts)

    def change(
        self,
        message: str,
        status: StageStatus,
        begin_ts: float,
        end_ts: float | None = None,
        *,
        notes: StageNotes | None = None,
    ) -> None:
        """As `update_status`, and with other notes. For the engine."""
        engine = self.engine
        notes = self.notes if notes is None else notes
        with self._lock:
            _StageStateMachine.check_transition(self.status, status, self._where())
            zone = _zone(self.timezone)
            entry = StageStateHistoryEntry(
                begin=datetime.fromtimestamp(begin_ts, zone),
                end=None if end_ts is None else datetime.fromtimestamp(end_ts, zone),
                message=message,
                status=status,
                host=HOST,
                epoch=engine.fencing_token,
            )
            history = [*self.state.history, entry]
            state = self.state.model_copy(update={"status": status, "history": history})
            engine.store_stage(self, state, notes)
            self.state.status, self.state.history = status, history
            self.take_notes(notes)
        engine.call_observers(self)

    def dump_fields(self, where: str) -> dict[str, Any]:
        """The stage's fields without its state, in JSON terms, by their runtime types.

        Raises:
            InvalidStateException: JSON cannot hold them.
        """
        try:
            text = self.model_dump_json(exclude={"state"}, warnings="none")
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as exc:
            raise InvalidStateException(
                f"the fields of {where} cannot be stored as JSON: {exc}. Exclude the field from dumps "
                "(Field(exclude=True)) if the running process supplies it, or make it plain data"
            ) from exc
        fields: dict[str, Any] = json.loads(text)
        return fields

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied.volatile_engine_ref = None
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        memo[id(self.volatile_engine_ref)] = None
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], "volatile_engine_ref": None}}

    def _where(self) -> str:
        task = f" of task {self.engine.task_id}" if self.volatile_engine_ref is not None else ""
        return f"stage {self.stage_name!r}{task}"


def _zone(name: str) -> tzinfo:
    # UTC must work where there is no time-zone database.
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(
            f"unknown timezone {name!r}: use an IANA name such as 'Europe/Berlin', or UTC"
        ) from exc
