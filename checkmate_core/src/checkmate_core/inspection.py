"""The side of an engine that tells of its task and changes nothing by telling."""

import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from checkmate_core.errors import TaskEngineException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import lock_object_name, stage_object_name
from checkmate_core.lock_record import LockRecord, read_lock
from checkmate_core.manifest import TaskEngineState
from checkmate_core.report import LIGHTWHITE_EX, Source, render_engine
from checkmate_core.session import TaskSession
from checkmate_core.stage import STAGE, BaseStage
from checkmate_core.status import StageStatus, _StageStateMachine

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    # Nothing in a constructor's arguments tells the result's type; without a default every user
    # would have to annotate.
    STAGE_RESULT = TypeVarWithDefault("STAGE_RESULT", default=Any)
else:
    STAGE_RESULT = TypeVar("STAGE_RESULT")

_log = logging.getLogger("checkmate_core.engine")


class TaskInspection(Generic[STAGE, STAGE_RESULT]):
    """Read-only members of `CheckMateEngine`.

    Attributes:
        io: The store.
        task_id: The task.
        task_state: The stages as they were given.
        stages: The stages: bound ones while bound, else copies of the templates.
    """

    io: TaskIO
    task_id: str
    task_state: TaskEngineState[STAGE]
    stages: list[STAGE]
    _session: TaskSession | None
    _positions: dict[str, int]

    @property
    def is_bound(self) -> bool:
        """Whether this engine owns the task now."""
        return self._session is not None

    @property
    def fencing_token(self) -> int | None:
        """Number that grows with every owner of the task; None when unbound or without a lock.

        Hand it to systems of your own that take part in a stage, and let them refuse a lower one:
        then a worker that has lost the task unnoticed cannot do harm there either.
        """
        return self._session.journal.epoch if self._session and self._session.lock else None

    @property
    def lock_lost(self) -> bool:
        """Whether this engine lost the task while bound: its lease ran out, or somebody else has it.

        Final until `unbind`. The next write raises `LockLostException`; a long stage can ask
        earlier, from any thread and without a request, or call `BaseStage.check_alive`. False when
        unbound or without a lock.
        """
        return self._session is not None and self._session.is_lost

    @property
    def lock_obj_name(self) -> str:
        """The lock object's name for the task."""
        return lock_object_name(self.task_id)

    @property
    def has_lockfile(self) -> bool:
        """Whether the task's lock object has an owner, even when the engine is not bound.

        Do not take it to mean that there is still a running process.
        """
        lock = self.read_lock()
        return lock is not None and lock.owner is not None

    @property
    def status(self) -> StageStatus:
        """The status of the overall task, from the status of each stage.

        Raises:
            InvalidTransitionException: An impossible pair of neighbouring stages.
        """
        return _StageStateMachine.overall(
            [stage.status for stage in self.stages], f"task {self.task_id} in {self.io.base_url}"
        )

    @property
    def cumulative_attempts(self) -> int:
        """The cumulative number of attempts for all stages."""
        return sum(stage.attempts for stage in self.stages)

    @property
    def task_result(self) -> STAGE_RESULT | None:
        """The result of the most recently completed stage, or None if no stage is completed."""
        complete = [stage for stage in self.stages if stage.status is StageStatus.COMPLETE]
        return cast("STAGE_RESULT | None", complete[-1].state.result) if complete else None

    @property
    def session(self) -> TaskSession:
        """This engine's hold on the task.

        Raises:
            TaskEngineException: The engine is not bound.
        """
        if self._session is None:
            raise TaskEngineException(
                f"the engine is not bound to task {self.task_id}; call bind(), or use it in a with block"
            )
        return self._session

    def index_of(self, stage: BaseStage[Any]) -> int:
        """Position of a stage, by its name.

        Raises:
            TaskEngineException: The task has no such stage.
        """
        try:
            return self._positions[stage.stage_name]
        except KeyError as exc:
            raise TaskEngineException(f"task {self.task_id} has no stage {stage.stage_name!r}") from exc

    def object_name_of(self, stage: BaseStage[Any]) -> str:
        """Name of the object of a stage; of an unbound engine's, the one that it has in a new task.

        Raises:
            TaskEngineException: The task has no such stage.
        """
        index = self.index_of(stage)
        if self._session is not None:
            return self._session.object_name(index)
        return stage_object_name(self.task_id, index, stage.stage_name)

    def first_unfinished(self, start: int = 0) -> int:
        """Position of the first stage that is not complete; the number of stages if there is none.

        Args:
            start: Where to begin to look; whatever comes before it is known to be complete.
        """
        for index in range(start, len(self.stages)):
            if self.stages[index].status is not StageStatus.COMPLETE:
                return index
        return len(self.stages)

    def read_lock(self) -> LockRecord | None:
        """The lock object as it is stored now; None if there is none."""
        return read_lock(self.io, self.lock_obj_name)

    def check_sync(self) -> bool:
        """Whether the stages in memory and in the store are the same.

        Raises:
            TaskEngineException: The engine is not bound.
        """
        _ = self.session
        return self.dump_stages("memory") == self.dump_stages("persistence")

    def dump_stages(
        self,
        source: Source = "memory",
        color: str = LIGHTWHITE_EX,
        basenames_only: bool = False,
        source_in_heading: bool = False,
    ) -> str:
        """A Markdown summary of all stages, their state, and their stored objects.

        Meant for unit tests and debugging. Of a bound task in sync both sources give the same text.

        Args:
            source: "memory" for the current state, "persistence" for what is stored.
            color: ANSI sequence for headings; an empty string for none.
            basenames_only: Show the last part of object names only.
            source_in_heading: Name the source in the heading; leave it False to compare sources.

        Raises:
            TaskEngineException: The source is neither.
        """
        return render_engine(self, source, color, basenames_only, source_in_heading)

    def log_stages(
        self, source: Source = "memory", color: str = LIGHTWHITE_EX, basenames_only: bool = False
    ) -> None:
        """Logs what `dump_stages` gives, at level INFO.

        Raises:
            TaskEngineException: The source is neither "memory" nor "persistence".
        """
        _log.info("%s", self.dump_stages(source, color, basenames_only, source_in_heading=True))
