"""CheckMateEngine: binds a task, executes its stages, lets it go."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal
from uuid import uuid4

from checkmate_core.changing.changes import StageChanges
from checkmate_core.changing.dry_run import BindPreview, preview_bind
from checkmate_core.clock import SYSTEM_CLOCK, Clock
from checkmate_core.errors import TaskEngineException
from checkmate_core.events import Observer
from checkmate_core.hosting import StageHost
from checkmate_core.imported import qualified_name
from checkmate_core.inspection import STAGE_RESULT
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.layout import check_task_id
from checkmate_core.lease import DEFAULT_LEASE, check_lease
from checkmate_core.letters.signaling import send_signal
from checkmate_core.manifest import TaskEngineState, check_stage_list
from checkmate_core.opening import TaskSpec, open_task
from checkmate_core.retry import RetryPolicy, check_attempts
from checkmate_core.running.cancellation import cancel_plan
from checkmate_core.running.driver import adrive, drive
from checkmate_core.running.execution import execute_plan
from checkmate_core.running.plan import Plan
from checkmate_core.running.rollback import rollback_plan
from checkmate_core.session import TaskSession
from checkmate_core.stage import STAGE
from checkmate_core.threads import in_loop, in_storage_thread

_log = logging.getLogger(__name__)


class CheckMateEngine(StageHost[STAGE, STAGE_RESULT]):
    """Multi-stage task execution framework.

    The scope of the engine is to manage the execution of a series of stages. Each stage is executed
    sequentially until it is completed, canceled by the user, exhausts retries, or encounters an
    unrecoverable error. Between `bind` and `unbind`, best written as a ``with`` block, this process
    owns the task.

    Warning:
        The engine is not thread-safe and should not be shared between threads. Many engines in many
        threads are fine. A forked child must make its own.

    Attributes:
        io: The store.
        task_id: The task.
        task_state: The stages as they were given.
        stages: The stages: bound ones while bound, else copies of the templates.
        retry_policy: When a failed stage is tried again.
        max_attempts: How often a stage is tried, in all.
        bind_lock_timeout: Seconds that `bind` waits for the lock; None tries once.
        auto_cleanup: Whether `unbind` removes the stored task.
        no_lock: Whether the task is worked on without a lock.
        force_create: Whether `bind` refuses a task that exists.
        lease: Seconds that this worker may be silent before another may take the task over.
        on_error: What follows when a stage has failed for good.
        max_interruptions: How often in a row a process may die in a stage before it is stopped.
        observers: Called with each event of a stage; more may be added.
        stage_changes: How stages of earlier code became these.
        clock: Where waits and times come from.
    """

    clock: Clock = SYSTEM_CLOCK

    def __init__(
        self,
        io: TaskIO | str,
        task_id: str | None = None,
        stage_templates: Sequence[STAGE] | None = None,
        retry_policy: RetryPolicy = RetryPolicy.NONE,
        max_attempts: int = 1,
        bind_lock_timeout: float | None = None,
        auto_cleanup: bool = False,
        no_lock: bool = False,
        force_create: bool = False,
        *,
        lease: float | None = DEFAULT_LEASE,
        on_error: Literal["stop", "compensate"] = "stop",
        max_interruptions: int = 3,
        observers: Sequence[Observer] = (),
        changes: StageChanges | None = None,
    ) -> None:
        """Initializes an engine. Makes no request.

        Args:
            io: The input/output handler for the task, or the URL of one.
            task_id: The unique identifier for the task: an existing one is resumed, a new one
                created. None makes a new id.
            stage_templates: A list of stage templates to be used in the task; copied.
            retry_policy: The policy for retrying stages. A stage may override it.
            max_attempts: The maximum number of attempts for a stage. A stage may override it.
            bind_lock_timeout: The timeout for acquiring the bind lock, in seconds. None tries once.
            auto_cleanup: Whether to automatically clean up after the task. This forces a cleanup
                on unbind even if the task did not complete successfully.
            no_lock: Whether to disable the bind lock. Then nothing keeps a second worker away and
                there is no fencing token: where the store can swap, the second one to write a stage
                gets `LockLostException`, but both may have executed it; where it cannot, the last
                writer wins silently. For tasks that are surely run by one process at a time.
            force_create: Whether to force the creation of a new task. This allows an external
                process to generate the task_id and pass it in. An existing task is refused, never
                overwritten.
            lease: How many seconds this worker may be silent before another, on any host, may take
                the task over. The lock is renewed at a third of that, in a daemon thread. None: the
                lock is held until it is released or unlocked by hand.
            on_error: What follows when a stage has failed for good. "stop": it is in ERROR, and the next
                `execute` resumes there. "compensate": the completed stages are rolled back, too, in reverse
                order, and the task is finished.
            max_interruptions: How often in a row a process may die in a stage, without a checkpoint in
                between, before the stage is stopped in ERROR. A stage may override it.
            observers: Called with a `StageEvent` for each thing that happens to a stage. They cannot break
                the run.
            changes: How stages of earlier code became these. A stored task with other stages is changed
                at bind as this says, and refused where it says nothing.

        Raises:
            TaskEngineException: No stage templates; the retry policy is NONE and max_attempts is
                not 1; max_attempts or max_interruptions is less than 1; the task id cannot name a task; the
                lease is no number above 0; on_error is neither; changes are none of these stages.
            UnsupportedBackendException: Nothing serves the URL.
        """
        if not stage_templates:
            raise TaskEngineException("a task needs at least one stage: pass stage_templates=[…]")
        check_attempts("max_attempts", max_attempts, retry_policy)
        check_lease(lease)
        if on_error not in ("stop", "compensate"):
            raise TaskEngineException(f'on_error is {on_error!r}; it must be "stop" or "compensate"')
        if max_interruptions < 1:
            raise TaskEngineException(f"max_interruptions is {max_interruptions}; it must be at least 1")
        if changes is not None:
            changes.check([stage.stage_name for stage in stage_templates])
        for stage in stage_templates:
            if stage.retry_policy == RetryPolicy.NONE and stage.max_attempts is None:
                continue  # excepted from the engine's retries on purpose
            check_attempts(
                f"max_attempts of stage {stage.stage_name!r}",
                stage.max_attempts or max_attempts,
                stage.retry_policy or retry_policy,
                warn_if_useless=True,
            )
        self.task_id = check_task_id(task_id if task_id is not None else uuid4().hex)
        self.io = open_task_io(io) if isinstance(io, str) else io
        self.task_state: TaskEngineState[STAGE] = TaskEngineState[Any](
            stage_template_classes=[qualified_name(type(stage)) for stage in stage_templates],
            stage_templates=[stage.model_copy(deep=True) for stage in stage_templates],
        )
        self.retry_policy = retry_policy
        self.max_attempts = max_attempts
        self.bind_lock_timeout = bind_lock_timeout
        self.auto_cleanup = auto_cleanup
        self.no_lock = no_lock
        self.force_create = force_create
        self.lease = lease
        self.on_error = on_error
        self.max_interruptions = max_interruptions
        self.observers = list(observers)
        self.stage_changes = changes
        self.stages: list[STAGE] = self._fresh_stages()
        self._positions = {stage.stage_name: index for index, stage in enumerate(self.stages)}
        self._is_new_id = task_id is None
        self._session: TaskSession | None = None

    def __enter__(self) -> "CheckMateEngine[STAGE, STAGE_RESULT]":
        """Bind the task. See `bind`."""
        self.bind()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        """Unbind the task; exceptions propagate. Of two, the one that ended the block: the other is logged."""
        try:
            self.unbind()
        except TaskEngineException as exc:
            if exc_value is None:
                raise
            _log.warning("task %s could not be let go: %s", self.task_id, exc)
        return False

    def bind(self) -> None:
        """Binds the engine to the task: acquires the lock, creates or reads the stored task.

        Raises:
            TaskEngineException: Already bound; stage names are not unique; ``force_create`` and the
                task exists.
            BindException: The task is locked by somebody else.
            IncompatibleTaskException: The stored task does not fit these stages.
            InvalidStateException: The stages cannot be stored as JSON.
            TaskIOException: The store failed.
        """
        if self._session is not None:
            raise TaskEngineException(f"task {self.task_id} is already bound by this engine; unbind it first")
        templates = self.task_state.stage_templates
        names = [stage.stage_name for stage in templates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise TaskEngineException(
                f"stage names must be unique, but task {self.task_id} has {', '.join(map(repr, twice))} twice"
            )
        check_stage_list(templates, self.task_id)
        session = open_task(
            TaskSpec(
                io=self.io,
                task_id=self.task_id,
                stages=templates,
                max_attempts=self.max_attempts,
                retry_policy=self.retry_policy.dump(),
                on_error=self.on_error,
                max_interruptions=self.max_interruptions,
                lock_timeout=self.bind_lock_timeout,
                lease=self.lease,
                no_lock=self.no_lock,
                force_create=self.force_create,
                is_new=self._is_new_id,
                clock=self.clock,
                changes=self.stage_changes,
            )
        )
        self._is_new_id = False
        self._session = session
        self.stages = self._fresh_stages()
        try:
            for stage in self.stages:
                stage.bind_to_engine(self)
        except BaseException:
            self.stages, self._session = self._fresh_stages(), None
            session.close()
            raise

    def unbind(self, clean: bool = False) -> None:
        """Lets the task go and restores the original stage templates.

        Args:
            clean: If True, the stored task is removed. Only a tombstone stays, so that a late write
                of an earlier worker cannot bring it back.

        Raises:
            TaskEngineException: The engine is not bound.
            LockLostException: ``clean``, and another owner has the task.
            TaskIOException: The store failed. The engine is unbound nevertheless.
        """
        session = self.session
        try:
            if clean or self.auto_cleanup:
                session.check_held()
                session.remove_task()
        finally:
            self.stages, self._session = self._fresh_stages(), None
            session.close()

    def execute(self, strict_recovery: bool = False) -> None:
        """Executes the task from its first unfinished stage. Does nothing if it is complete.

        Returns, too, when a stage suspends the task: its `status` is SUSPENDED then, and executing it again,
        whenever and wherever, goes on once the time or the event has come. A task that is being rolled back
        is rolled back to its end. A cancel request that is seen between two stages cancels the task.

        Args:
            strict_recovery: A stage that is marked RUNNING was in flight when its process ended, so
                it is in an unknown state. When this is True, that is a warning and the stage is
                rolled back and executed again; otherwise an exception is raised.

        Raises:
            InterruptedStageException: A stage was in flight and ``strict_recovery`` is False.
            StageFailedException: A stage failed for good; its own exception is the cause.
            TaskCanceledException: The task was canceled.
            TaskRolledBackException: The task was rolled back.
            LockLostException: The lease ran out, or another owner has the task. The stage that was
                running is not rolled back: it is the other owner's now.
            TaskEngineException: The engine is not bound, or stored state cannot be.
        """
        self._run(execute_plan(self, strict_recovery=strict_recovery))

    def cancel(self) -> None:
        """Cancels the task: its first incomplete stage's `cancel` runs, then it is CANCELED.

        An engine that is not bound binds for as long as this takes.

        Raises:
            TaskEngineException: The task is in a state that cannot be canceled.
        """
        if self._session is None:
            with self:
                self.cancel()
            return
        self.check_cancelable()
        self._run(cancel_plan(self))

    def rollback(self) -> None:
        """Rolls the task back: `rollback_stage` of every stage that was begun, the last one first.

        Each is stored as ROLLED_BACK before the one before it is rolled back, so a crash in the middle is
        followed by the rest: here again, or by `execute`. An engine that is not bound binds for as long
        as this takes.

        Raises:
            InvalidTransitionException: The task is complete, canceled or rolled back.
            StageFailedException: A `rollback_stage` raised; the next call goes on at that stage.
            LockLostException: The lease ran out, or another owner has the task.
        """
        if self._session is None:
            with self:
                self.rollback()
            return
        self.check_can_roll_back()
        self._run(rollback_plan(self))

    def signal(self, event: str, data: Any = None, *, replace: bool = False) -> None:
        """Sends an event to the task, for a stage that waits for it, or will.

        Needs no lock; the task takes the event when it is executed next. An event is taken once.

        Args:
            event: Its name.
            data: What it says; JSON.
            replace: Replace an event of that name that was not taken yet.

        Raises:
            PersistenceDataNotFoundException: There is no such task.
            VersionConflictException: An event of that name waits already.
            TaskEngineException: JSON cannot hold the data, or it is too large, or the task is finished.
            TaskIOException: The store failed.
        """
        send_signal(self.io, self.task_id, event, data, replace=replace, clock=self.clock)

    def preview(self) -> BindPreview:
        """What `bind` would make of the stored task: whether it fits, what would change, or why it is refused.

        Writes nothing and needs no lock. `checkmate check` asks it for every unfinished task of a store.

        Raises:
            PersistenceDataNotFoundException: There is no such task.
            StorageUnavailableException: The store did not answer for good.
        """
        return preview_bind(self.io, self.task_id, self.task_state.stage_templates, self.stage_changes)

    async def abind(self) -> None:
        """`bind`, for coroutines. One that is canceled leaves nothing bound."""
        try:
            await in_storage_thread(self.bind)
        except asyncio.CancelledError:
            if self._session is not None:
                await in_storage_thread(self.unbind)
            raise

    async def aunbind(self, clean: bool = False) -> None:
        """`unbind`, for coroutines."""
        await in_storage_thread(partial(self.unbind, clean))

    async def aexecute(self, strict_recovery: bool = False) -> None:
        """`execute`, for coroutines. The event loop is never blocked by storage.

        Stages whose `execute_stage` is a coroutine run in the loop, others in a thread. If it is canceled,
        the stage stays RUNNING, as after any interruption; a stage in a thread is waited for, and ends
        early where it calls `check_alive`, `checkpoint`, `progress` or `resumable`.
        """
        self.check_alive()
        await adrive(self.watch(execute_plan(self, strict_recovery=strict_recovery)), self.clock)

    async def acancel(self) -> None:
        """`cancel`, for coroutines."""
        if self._session is None:
            async with self:
                await self.acancel()
            return
        self.check_cancelable()
        self.check_alive()
        await adrive(self.watch(cancel_plan(self)), self.clock)

    async def arollback(self) -> None:
        """`rollback`, for coroutines."""
        if self._session is None:
            async with self:
                await self.arollback()
            return
        self.check_can_roll_back()
        self.check_alive()
        await adrive(self.watch(rollback_plan(self)), self.clock)

    async def __aenter__(self) -> "CheckMateEngine[STAGE, STAGE_RESULT]":
        """Bind the task. See `abind`."""
        await self.abind()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        """Unbind the task, as `__exit__` does."""
        return await in_storage_thread(partial(self.__exit__, exc_type, exc_value, traceback))

    def _run(self, plan: Plan) -> None:
        self.check_alive()
        if in_loop() and any(stage.has_coroutines for stage in self.stages):
            plan.close()
            raise TaskEngineException(
                f"task {self.task_id} has stages that are coroutines, and this thread runs an event loop: await "
                "aexecute(), acancel() or arollback() instead"
            )
        drive(self.watch(plan), self.clock)

    def _fresh_stages(self) -> list[STAGE]:
        return [stage.model_copy(deep=True) for stage in self.task_state.stage_templates]
