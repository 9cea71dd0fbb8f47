"""What follows a failed or interrupted attempt: roll back, then try again, or give up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from checkmate_core.errors import BindException, StageFailedException
from checkmate_core.notes import StageNotes
from checkmate_core.running.plan import Plan, Store, Work
from checkmate_core.running.rollback import rollback_plan
from checkmate_core.state import BaseStageState
from checkmate_core.status import StageStatus

if TYPE_CHECKING:
    from checkmate_core.engine import CheckMateEngine
    from checkmate_core.stage import BaseStage


@dataclass(slots=True)
class StageRun:
    """One stage in one run of its task.

    Attributes:
        engine: The engine.
        stage: The stage.
        previous: State of the stage before; None for the first.
        begin: When the present attempt began, in seconds since the epoch.
    """

    engine: CheckMateEngine[Any, Any]
    stage: BaseStage[Any]
    previous: BaseStageState | None
    begin: float = 0.0

    def previous_copy(self) -> BaseStageState:
        """What the stage's methods get; on the first stage, a reference to its own state."""
        found: BaseStageState = (
            self.stage.state if self.previous is None else self.previous.model_copy(deep=True)
        )
        return found

    def finish(self, message: str, status: StageStatus, notes: StageNotes) -> None:
        """Store the stage as it is."""
        self.stage.change(message, status, self.begin, self.engine.clock.now(), notes=notes)

    def go_back(self, message: str, status: StageStatus, **notes: Any) -> None:
        """Store the stage as it was at the beginning of the attempt, or at its last checkpoint.

        So a failed attempt leaves just what a resumed process would find.
        """
        stored = self.engine.stored_record(self.stage)
        self.stage.state.restore(self.engine.load_state(self.stage, stored))
        self.finish(message, status, stored.notes.but(interruptions=0, **notes))


def after_failure(run: StageRun, error: Exception) -> Plan:
    """Roll back, then return to try again, or raise."""
    engine, stage = run.engine, run.stage
    # What a rollback would undo may be another worker's by now.
    try:
        engine.check_alive()
    except BindException as lost:
        raise lost from error
    yield from roll_back_attempt(run, error)
    failures = failures_in_a_row(stage.state) + 1
    policy = stage.retry_policy or engine.retry_policy
    allowed = stage.max_attempts or engine.max_attempts
    is_last = failures >= allowed
    try:
        is_last = is_last or not policy.should_retry(error)
    except Exception as exc:  # noqa: BLE001 - a user's predicate may raise anything
        exc.__cause__ = error
        yield from _give_up(run, "Retry policy failed", exc, is_rolled_back=True)
    if is_last:
        yield from _give_up(run, "Failed", error, is_rolled_back=True)
    seconds = policy.wait_seconds(failures)
    message = f"Failed, next attempt in {seconds:.1f} s: {summary(error)}"
    retry_at = datetime.fromtimestamp(engine.clock.now(), UTC) + timedelta(seconds=seconds)
    engine.note_failure(error)
    yield Store(partial(run.go_back, message, StageStatus.RETRY, retry_at=retry_at, retry_wait=seconds))


def count_death(run: StageRun) -> Plan:
    """Count a death of the process in this stage, and raise where it has died in it too often."""
    engine, stage = run.engine, run.stage
    deaths = stage.notes.interruptions + 1
    stage.take_notes(stage.notes.but(interruptions=deaths))
    allowed = stage.max_interruptions or engine.max_interruptions
    if deaths < allowed:
        return
    run.begin = engine.clock.now()
    message = f"Its process died in it {deaths} time(s) in a row"
    yield Store(partial(run.go_back, message, StageStatus.ERROR, was_interrupted=True))
    raise StageFailedException(
        f"stage {stage.stage_name!r} of task {engine.task_id} is stopped: its process died in it {deaths} time(s) in a "
        "row, without a checkpoint in between, and max_interruptions is "
        f"{allowed}. Find out what kills it (memory?), then execute the task again: it resumes at this stage"
    )


def roll_back_attempt(run: StageRun, error: Exception | None = None) -> Plan:
    """Run the stage's `rollback_stage`; if it raises, the stage has failed for good."""
    try:
        copy = yield Store(run.previous_copy)
        yield Work(run.stage.rollback_stage, (copy,))
    except Exception as exc:  # noqa: BLE001 - a rollback may raise anything
        if error is not None:
            exc.__cause__ = error
        yield from _give_up(run, "Rollback failed", exc, is_rolled_back=False)


def _give_up(run: StageRun, what: str, error: Exception, *, is_rolled_back: bool) -> Plan:
    engine, stage = run.engine, run.stage
    failed = f"stage {stage.stage_name!r} of task {engine.task_id} failed after {stage.attempts} attempt(s): {summary(error)}"
    engine.note_failure(error)
    if engine.on_error == "compensate" and is_rolled_back:
        # One write says both that it failed and that the task goes backwards from here.
        message = f"{what} for good, and rolled back: {summary(error)}"
        yield Store(partial(run.go_back, message, StageStatus.ROLLED_BACK, cursors={}))
        yield from rollback_plan(engine, error)
        raise StageFailedException(
            f"{failed}. The task was rolled back; mend the cause and start a new one"
        ) from error
    yield Store(partial(run.go_back, f"{what}: {summary(error)}", StageStatus.ERROR))
    raise StageFailedException(
        f"{failed}. Mend the cause and execute the task again: it resumes at this stage"
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


def summary(error: BaseException) -> str:
    """An exception in a line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
