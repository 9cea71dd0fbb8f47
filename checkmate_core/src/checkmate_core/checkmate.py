"""CheckMate: a pipeline that is ready to run, as a `cm_factory_NAME()` returns it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import ValidationError

from checkmate_core.engine import CheckMateEngine
from checkmate_core.errors import (
    IncompatibleTaskException,
    InvalidTransitionException,
    PersistenceDataNotFoundException,
    TaskSuspendedException,
)
from checkmate_core.events import Observer
from checkmate_core.imported import find_imported
from checkmate_core.inspection import STAGE_RESULT
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.journal import TaskJournal
from checkmate_core.layout import check_task_id
from checkmate_core.lease import DEFAULT_LEASE
from checkmate_core.record import migrated
from checkmate_core.retry import RetryPolicy
from checkmate_core.stage import STAGE, BaseStage
from checkmate_core.state import BaseStageState
from checkmate_core.status import StageStatus

SELF = TypeVar("SELF", bound="CheckMate[Any, Any]")


class CheckMate(CheckMateEngine[STAGE, STAGE_RESULT]):
    """A configured engine that binds, executes and unbinds in one call.

    Takes the arguments of `CheckMateEngine`. ``with cm: pass`` enqueues: the task is stored, and
    any worker that has imported its stages can `load` and `run` it.
    """

    _last_status: StageStatus | None = None
    _last_state: BaseStageState | None = None

    @classmethod
    def load(
        cls: type[SELF],
        io: TaskIO | str,
        task_id: str,
        *,
        retry_policy: RetryPolicy | None = None,
        max_attempts: int | None = None,
        bind_lock_timeout: float | None = None,
        no_lock: bool = False,
        lease: float | None = DEFAULT_LEASE,
        observers: Sequence[Observer] = (),
    ) -> SELF:
        """A stored task, ready to run here. Reads the manifest; needs no lock.

        The stages come with the inputs they were stored with, the engine with its stored retry
        settings. Fields that are excluded from dumps are not stored and have their defaults.

        Args:
            io: The store, or its URL.
            task_id: The task.
            retry_policy: Instead of the stored one.
            max_attempts: Instead of the stored one.
            bind_lock_timeout: As in `CheckMateEngine`.
            no_lock: As in `CheckMateEngine`.
            lease: As in `CheckMateEngine`.
            observers: As in `CheckMateEngine`.

        Raises:
            PersistenceDataNotFoundException: There is no such task, or it was removed.
            IncompatibleTaskException: A stage class or an exception class of the retry policy is not
                imported in this process, or does not fit what is stored.
            TaskIOException: The store failed.
        """
        io = open_task_io(io) if isinstance(io, str) else io
        journal = TaskJournal(io, check_task_id(task_id), is_fenced=False)
        manifest = journal.read_manifest()
        if manifest is None or manifest.removed is not None:
            gone = f" (removed {manifest.removed:%Y-%m-%d %H:%M} UTC)" if manifest else ""
            raise PersistenceDataNotFoundException(f"there is no task {task_id} in {io.base_url}{gone}")
        stages: list[BaseStage[Any]] = []
        for index, name in enumerate(manifest.stage_template_classes):
            template = manifest.stage_templates[index]
            stage_class = find_imported(name)
            if stage_class is None or not issubclass(stage_class, BaseStage):
                raise IncompatibleTaskException(
                    f"task {task_id} needs the stage class {name}, which nothing in this process has imported. Import "
                    "the module that defines it, then load the task (class names from a store are never imported). If the "
                    "class has another name now, bind the task with CheckMateEngine(…, changes=StageChanges(classes=…))"
                )
            state_class = stage_class.model_fields["state"].annotation
            if isinstance(state_class, type) and issubclass(state_class, BaseStageState):
                version = manifest.schema_version_of(index)
                state = migrated(state_class, template["state"], journal.url, version)
                template = {**template, "state": state}
            try:
                stages.append(stage_class.model_validate_json(json.dumps(template)))
            except ValidationError as exc:
                raise IncompatibleTaskException(
                    f"stage {template.get('stage_name')!r} of task {task_id} ({journal.url}) does not fit {name}: "
                    f"{exc.error_count()} fault(s), chained. Nothing was changed. Run the code that created it"
                ) from exc
        return cls(
            io,
            task_id,
            stages,
            retry_policy=RetryPolicy.parse(manifest.retry_policy) if retry_policy is None else retry_policy,
            on_error=manifest.on_error,
            max_interruptions=manifest.max_interruptions,
            observers=observers,
            max_attempts=manifest.max_attempts if max_attempts is None else max_attempts,
            bind_lock_timeout=bind_lock_timeout,
            no_lock=no_lock,
            lease=lease,
        )

    def run(self, wait: float | None = None) -> STAGE_RESULT | None:
        """Bind the task, execute what is not complete, unbind, and return the task's result.

        A task that is complete already returns its result and runs nothing. A stage that was in
        flight when its process died is executed again: holding the lock proves that nobody else
        runs it.

        Args:
            wait: Seconds to wait for the lock; None is the engine's ``bind_lock_timeout``.

        Raises:
            BindException: The task is locked by somebody else.
            StageFailedException: A stage failed for good; its own exception is the cause.
            TaskCanceledException: The task was canceled.
            TaskRolledBackException: The task was rolled back.
            TaskSuspendedException: The task waits for a time or an event. It is stored and let go; run it
                again once that has come.
            TaskEngineException: As `bind` and `execute` raise it.
        """
        with self._waiting(wait), self:
            self.execute(strict_recovery=True)
            return self._outcome()

    async def arun(self, wait: float | None = None) -> STAGE_RESULT | None:
        """`run`, for coroutines. If it is canceled, the task is let go and can be run again anywhere."""
        with self._waiting(wait):
            async with self:
                await self.aexecute(strict_recovery=True)
                return self._outcome()

    def unbind(self, clean: bool = False) -> None:
        """As `CheckMateEngine.unbind`; status and state stay readable."""
        if self.is_bound:
            self._last_state = self._latest_state()
            try:
                self._last_status = super().status
            except InvalidTransitionException:
                self._last_status = None
        super().unbind(clean)

    @property
    def status(self) -> StageStatus:
        """The status of the task: now while bound, as it was at the last `unbind` afterwards.

        Raises:
            InvalidTransitionException: An impossible pair of neighbouring stages.
        """
        return super().status if self.is_bound or self._last_status is None else self._last_status

    @property
    def state(self) -> BaseStageState:
        """The state of the last stage that was begun: now while bound, else at the last `unbind`."""
        if self._last_state is not None and not self.is_bound:
            return self._last_state
        return self._latest_state()

    @contextmanager
    def _waiting(self, wait: float | None) -> Iterator[None]:
        timeout = self.bind_lock_timeout
        self.bind_lock_timeout = timeout if wait is None else wait
        try:
            yield
        finally:
            self.bind_lock_timeout = timeout

    def _outcome(self) -> STAGE_RESULT | None:
        if self.status is StageStatus.SUSPENDED:
            stage = self.stages[self.first_unfinished()]
            raise TaskSuspendedException(
                f"task {self.task_id} is suspended in stage {stage.stage_name!r} until {stage.notes.suspension}. Run it "
                "again once that has come"
            )
        return self.task_result

    def _latest_state(self) -> BaseStageState:
        begun = [stage for stage in self.stages if stage.attempts]
        state: BaseStageState = (begun[-1] if begun else self.stages[0]).state
        return state
