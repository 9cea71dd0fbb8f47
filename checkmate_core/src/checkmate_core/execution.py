"""How a task runs, as a plan of steps that says what to do and leaves doing it to a driver.

The plan is a generator: it yields a step, and gets back its value or its exception. A synchronous
driver calls each step; an asynchronous one can await the stage's own code and send storage to a
thread, with this same plan.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from checkmate_core.clock import Clock
from checkmate_core.errors import (
    BindException,
    InterruptedStageException,
    InvalidStateException,
    StageFailedException,
    TaskCanceledException,
    TaskEngineException,
)
from checkmate_core.journal import StageChangedError
from checkmate_core.record import StageRecord
from checkmate_core.state import BaseStageState
from checkmate_core.status import StageStatus

if TYPE_CHECKING:
    from checkmate_core.engine import CheckMateEngine
    from checkmate_core.stage import BaseStage

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Store:
    """Step: talk to the store."""

    call: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Work:
    """Step: run the stage's own code."""

    call: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Wait:
    """Step: wait so many seconds."""

    seconds: float


Step: TypeAlias = Store | Work | Wait
Plan: TypeAlias = Generator[Step, object, None]


def drive(plan: Plan, clock: Clock) -> None:
    """Do the steps of a plan one after another in this thread."""
    try:
        step = next(plan)
        while True:
            try:
                value = _do(step, clock)
            except BaseException as exc:  # noqa: BLE001 - the plan decides
                step = plan.throw(exc)
            else:
                step = plan.send(value)
    except StopIteration:
        return


def _do(step: Step, clock: Clock) -> object:
    if isinstance(step, Wait):
        clock.sleep(step.seconds)
        return None
    return step.call()


def execute_plan(engine: CheckMateEngine[Any, Any], *, strict_recovery: bool) -> Plan:
    """Run every stage that is not complete, in order, and note the end."""
    # Asked once: it looks at every stage, and refuses a task whose stages contradict each other.
    is_complete = engine.status is StageStatus.COMPLETE
    index = len(engine.stages) if is_complete else engine.first_unfinished()
    while index < len(engine.stages):
        stage = engine.stages[index]
        if stage.status is StageStatus.CANCELED:
            # Whoever canceled it may have died before this was noted.
            yield Store(engine.note_end)
        _check_executable(engine, stage, strict_recovery=strict_recovery)
        try:
            yield from _stage_plan(engine, index)
        except StageChangedError as changed:
            _log.info(
                "stage %r of task %s is not as it was last seen; adopting what is stored",
                stage.stage_name,
                engine.task_id,
            )
            engine.adopt(stage, changed.record)
        index = engine.first_unfinished(index)
    yield Store(engine.note_end)


def cancel_plan(engine: CheckMateEngine[Any, Any]) -> Plan:
    """Cancel the first stage that is not complete, and note the end."""
    while engine.status is not StageStatus.CANCELED:
        engine.check_cancelable()
        stage = engine.stages[engine.first_unfinished()]
        begin = engine.clock.now()
        try:
            yield Work(stage.cancel)
        except Exception as exc:
            raise TaskEngineException(
                f"cancel() of stage {stage.stage_name!r} of task {engine.task_id} failed: {_summary(exc)}. "
                "The task is not canceled; mend the cause and cancel it again"
            ) from exc
        try:
            yield Store(
                partial(stage.update_status, "Task canceled", StageStatus.CANCELED, begin, engine.clock.now())
            )
        except StageChangedError as changed:
            engine.adopt(stage, changed.record)
    yield Store(engine.note_end)


def _check_executable(
    engine: CheckMateEngine[Any, Any], stage: BaseStage[Any], *, strict_recovery: bool
) -> None:
    where = f"stage {stage.stage_name!r} of task {engine.task_id}"
    if stage.status is StageStatus.CANCELED:
        raise TaskCanceledException(
            f"{where} is CANCELED, so the task cannot be executed; start a new task instead"
        )
    if stage.status is not StageStatus.RUNNING:
        return
    if not strict_recovery:
        raise InterruptedStageException(
            f"{where} was in flight when its process ended, so it may have run in part. Check that it is safe to "
            "run again, then go on with execute(strict_recovery=True)"
        )
    _log.warning("%s was interrupted; executing it again", where)


def _stage_plan(engine: CheckMateEngine[Any, Any], index: int) -> Plan:
    stage = engine.stages[index]
    is_interrupted = stage.status is StageStatus.RUNNING
    if is_interrupted:
        # In this very process the interrupted attempt may have left its marks in memory.
        engine.reload(stage)
    previous = engine.stages[index - 1].state if index else None

    def previous_copy() -> BaseStageState:
        found: BaseStageState = stage.state if previous is None else previous.model_copy(deep=True)
        return found

    while True:
        begin = engine.clock.now()
        if previous is not None and stage.status is StageStatus.CREATED:
            stage.state.carry_forward(previous)
        message = f"Attempt {stage.inc_attempts()}"
        yield Store(partial(stage.update_status, message, StageStatus.RUNNING, begin))
        attempt = _Attempt(engine, stage, previous_copy, begin, engine.stored_record(stage))
        if is_interrupted:
            is_interrupted = False
            yield from _roll_back(attempt)
        try:
            yield Work(lambda: stage.execute_stage(previous_copy()))
        except Exception as exc:  # noqa: BLE001 - a stage may raise anything
            error = exc
        else:
            done = partial(stage.update_status, "Completed", StageStatus.COMPLETE, begin, engine.clock.now())
            try:
                yield Store(done)
            except InvalidStateException as exc:
                # Refused before it was sent: the stage's fault, not the store's.
                error = exc
            else:
                return
        yield from _after_failure(attempt, error)


@dataclass(frozen=True, slots=True)
class _Attempt:
    engine: CheckMateEngine[Any, Any]
    stage: BaseStage[Any]
    previous_copy: Callable[[], BaseStageState]
    begin: float
    stored: StageRecord

    def conclude(self, status: StageStatus, message: str) -> Step:
        """The step that stores how the attempt ended, with the state that was stored when it began.

        So a failed attempt leaves just what a resumed process would find.
        """
        self.stage.state.restore(self.stored.load_state(type(self.stage.state), self.stage.url))
        return Store(partial(self.stage.update_status, message, status, self.begin, self.engine.clock.now()))


def _after_failure(attempt: _Attempt, error: Exception) -> Plan:
    """Roll back, then return to try again, or raise."""
    # What a rollback would undo may be another worker's by now.
    try:
        attempt.engine.check_alive()
    except BindException as lost:
        raise lost from error
    yield from _roll_back(attempt, error)
    engine, stage = attempt.engine, attempt.stage
    failures = failures_in_a_row(stage.state) + 1
    policy = stage.retry_policy or engine.retry_policy
    allowed = stage.max_attempts or engine.max_attempts
    is_last = failures >= allowed
    try:
        is_last = is_last or not policy.should_retry(error)
    except Exception as exc:  # noqa: BLE001 - a user's predicate may raise anything
        exc.__cause__ = error
        yield from _give_up(attempt, "Retry policy failed", exc)
    if is_last:
        yield from _give_up(attempt, "Failed", error)
    seconds = policy.wait_seconds(failures)
    message = f"Failed, next attempt in {seconds:.1f} s: {_summary(error)}"
    yield attempt.conclude(StageStatus.RETRY, message)
    yield Wait(seconds)


def _roll_back(attempt: _Attempt, error: Exception | None = None) -> Plan:
    try:
        yield Work(lambda: attempt.stage.rollback_stage(attempt.previous_copy()))
    except Exception as exc:  # noqa: BLE001 - a rollback may raise anything
        if error is not None:
            exc.__cause__ = error
        yield from _give_up(attempt, "Rollback failed", exc)


def _give_up(attempt: _Attempt, what: str, error: Exception) -> Plan:
    yield attempt.conclude(StageStatus.ERROR, f"{what}: {_summary(error)}")
    stage = attempt.stage
    raise StageFailedException(
        f"stage {stage.stage_name!r} of task {attempt.engine.task_id} failed after {stage.attempts} attempt(s): "
        f"{_summary(error)}. Mend the cause and execute the task again: it resumes at this stage"
    ) from error


def failures_in_a_row(state: BaseStageState) -> int:
    """Failed attempts since the last time the stage gave up, from its history.

    Counted from what is stored, so that a crash between two attempts does not grant new ones.
    Interruptions leave no entry of their own and are not counted.
    """
    count = 0
    for entry in reversed(state.history):
        if entry.status is StageStatus.ERROR:
            break
        count += entry.status is StageStatus.RETRY
    return count


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
