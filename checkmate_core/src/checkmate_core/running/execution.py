"""How a task is executed: its stages in order, each until it is done, waits, or has failed for good."""

from __future__ import annotations

import logging
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from checkmate_core.errors import (
    InterruptedStageException,
    InvalidStateException,
    MissingStateException,
    TaskCanceledException,
    TaskRolledBackException,
)
from checkmate_core.journal import StageChangedError
from checkmate_core.running.cancellation import cancel_plan
from checkmate_core.running.failure import (
    StageRun,
    after_failure,
    count_death,
    roll_back_attempt,
)
from checkmate_core.running.plan import Plan, Step, Store, Wait, Work
from checkmate_core.running.rollback import rollback_plan
from checkmate_core.status import CANCELABLE_STATES, ROLLBACK_STATES, StageStatus, _StageStateMachine
from checkmate_core.suspend import Suspend, check_field

if TYPE_CHECKING:
    from checkmate_core.engine import CheckMateEngine
    from checkmate_core.hosting import Wakeup
    from checkmate_core.stage import BaseStage

_log = logging.getLogger(__name__)

# Seconds between two looks at what may end a wait: a lost lock, a cancel request. They are seen at renewals.
_LOOK = 20.0


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
            if stage.status in ROLLBACK_STATES:
                yield from rollback_plan(engine)
                raise TaskRolledBackException(
                    f"task {engine.task_id} was rolled back ({stage.stage_name}: {stage.state.history[-1].message}), so it "
                    "cannot be executed; start a new task instead"
                )
            if engine.cancel_requested and stage.status in CANCELABLE_STATES:
                yield from _cancel(engine)
            yield from _stage_plan(engine, index)
        except StageChangedError as changed:
            _log.info(
                "stage %r of task %s is not as it was last seen; adopting what is stored",
                stage.stage_name,
                engine.task_id,
            )
            yield Store(partial(engine.adopt, stage, changed.record))
        if stage.status is StageStatus.SUSPENDED:
            return
        index = engine.first_unfinished(index)
    yield Store(engine.note_end)


def _check_executable(
    engine: CheckMateEngine[Any, Any], stage: BaseStage[Any], *, strict_recovery: bool
) -> None:
    if stage.status is StageStatus.CANCELED:
        raise TaskCanceledException(
            f"stage {stage.stage_name!r} of task {engine.task_id} is CANCELED, so the task cannot be executed; "
            "start a new task instead"
        )
    current = stage
    if stage.status in ROLLBACK_STATES:
        index = _StageStateMachine.next_written([each.status for each in engine.stages])
        current = stage if index is None else engine.stages[index]
    is_in_flight = current.status is StageStatus.RUNNING or (
        current.status is StageStatus.ROLLING_BACK and current.notes.was_interrupted
    )
    if not is_in_flight:
        return
    where = f"stage {current.stage_name!r} of task {engine.task_id}"
    what = "run" if current.status is StageStatus.RUNNING else "been rolled back"
    if not strict_recovery:
        raise InterruptedStageException(
            f"{where} was in flight when its process ended, so it may have {what} in part. Check that it is safe to "
            "do it again, then go on with execute(strict_recovery=True)"
        )
    _log.warning("%s was interrupted; doing it again", where)


def _cancel(engine: CheckMateEngine[Any, Any]) -> Plan:
    yield from cancel_plan(engine)
    raise TaskCanceledException(f"task {engine.task_id} was canceled, as somebody asked for")


def _stage_plan(engine: CheckMateEngine[Any, Any], index: int) -> Plan:
    stage = engine.stages[index]
    run = StageRun(engine, stage, engine.stages[index - 1].state if index else None)
    # Asked of whichever stage is the first: one that had not begun is not what the process died in.
    has_died = engine.session.take_death()
    if stage.status is StageStatus.RUNNING:
        # In this very process the interrupted attempt may have left its marks in memory.
        yield Store(partial(engine.reload, stage))
        if has_died:
            yield from count_death(run)
        must_roll_back = True
    else:
        must_roll_back = stage.notes.was_interrupted
    failed_here = False
    while True:
        wakeup = None
        if stage.status is StageStatus.SUSPENDED:
            wakeup = yield Store(partial(engine.look_for_wakeup, stage))
            if wakeup is None:
                return
        if stage.status is StageStatus.RETRY:
            yield from _wait_for_retry(engine, stage, failed_here=failed_here)
        cost = yield Store(partial(_begin, run, wakeup))
        if wakeup is not None:
            yield Store(partial(engine.discard, wakeup))
        if engine.cancel_requested:
            # A stage in ERROR can be canceled only now, since it runs again.
            yield from _cancel(engine)
        if must_roll_back:
            must_roll_back = False
            yield from roll_back_attempt(run)
        error = yield from _attempt_plan(run, cost)
        if error is not None:
            yield from after_failure(run, error)
            failed_here = True
        elif stage.status is StageStatus.COMPLETE:
            return


def _attempt_plan(run: StageRun, write_cost: float) -> Generator[Step, Any, Exception | None]:
    """Execute the stage once and store how it ended; return the stage's error where it failed."""
    engine, stage = run.engine, run.stage
    copy = yield Store(run.previous_copy)
    attempt = engine.begin_attempt(stage, write_cost)
    error: Exception | None = None
    wish: Suspend | None = None
    try:
        yield Work(engine.executor_of(stage), (copy,), attempt)
    except Suspend as exc:
        wish = exc
    except Exception as exc:  # noqa: BLE001 - a stage may raise anything
        error = exc
    finally:
        engine.end_attempt()
    if attempt.broken is not None:
        # Whatever the stage made of it: a save may or may not have been applied.
        raise attempt.broken from error
    if isinstance(error, TaskCanceledException) and engine.cancel_requested:
        yield from _cancel(engine)
    if error is not None:
        return error
    try:
        if wish is None:
            notes = attempt.notes.but(cursors={}, interruptions=0)
            yield Store(partial(run.finish, "Completed", StageStatus.COMPLETE, notes))
        else:
            check_field(stage, wish.suspension)
            notes = attempt.notes.but(suspension=wish.suspension, interruptions=0)
            yield Store(partial(run.finish, f"Waits for {wish.suspension}", StageStatus.SUSPENDED, notes))
    except (InvalidStateException, MissingStateException) as exc:
        # Refused before it was sent: the stage's fault, not the store's.
        return exc
    return None


def _begin(run: StageRun, wakeup: Wakeup | None) -> float:
    """Store that an attempt begins; return the seconds that took."""
    engine, stage = run.engine, run.stage
    if run.previous is not None and stage.status is StageStatus.CREATED:
        stage.state.carry_forward(run.previous)
    notes = stage.notes.but(
        was_interrupted=False, retry_at=None, retry_wait=0.0, suspension=None, progress=None
    )
    if wakeup is not None and wakeup.signal is not None:
        stage.state = wakeup.state
        notes = notes.but(events={**notes.events, wakeup.signal.event: wakeup.signal.write_id})
    run.begin = engine.clock.now()
    begin = engine.clock.monotonic()
    stage.change(f"Attempt {stage.inc_attempts()}", StageStatus.RUNNING, run.begin, notes=notes)
    return engine.clock.monotonic() - begin


def _wait_for_retry(engine: CheckMateEngine[Any, Any], stage: BaseStage[Any], *, failed_here: bool) -> Plan:
    """Wait until the next attempt is due.

    In the process that failed, the whole wait; after a restart, the rest of it by the time that was stored.
    """
    notes = stage.notes
    left = notes.retry_wait
    if not failed_here and notes.retry_at is not None:
        left = min(left, notes.retry_at.timestamp() - engine.clock.now())
    while left > 0:
        yield Wait(min(left, _LOOK))
        left -= _LOOK
        engine.check_alive()
        if engine.cancel_requested:
            yield from _cancel(engine)
