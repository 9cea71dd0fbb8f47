"""How a task is rolled back: its stages' `rollback_stage` in reverse order, each stored before the next."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from checkmate_core.errors import StageFailedException
from checkmate_core.journal import StageChangedError
from checkmate_core.running.plan import Plan, Store, Work
from checkmate_core.status import StageStatus, _StageStateMachine

if TYPE_CHECKING:
    from checkmate_core.engine import CheckMateEngine


def rollback_plan(engine: CheckMateEngine[Any, Any], cause: Exception | None = None) -> Plan:
    """Roll back every stage that is not yet, the last one first, and note the end.

    A crash anywhere in it leaves a task that goes on where it was: a stage whose rollback was under way is
    rolled back again.

    Args:
        engine: The engine.
        cause: What failed, where that is why.
    """
    while (index := _StageStateMachine.next_written([each.status for each in engine.stages])) is not None:
        stage = engine.stages[index]
        try:
            if stage.status is StageStatus.CREATED:
                # Nothing to undo. It is written nevertheless, to keep an earlier owner from beginning it.
                begin = engine.clock.now()
                yield Store(partial(stage.change, "Never begun", StageStatus.ROLLED_BACK, begin, begin))
            else:
                yield from _stage_plan(engine, index, cause)
        except StageChangedError as changed:
            yield Store(partial(engine.adopt, stage, changed.record))
    yield Store(engine.note_end)


def _stage_plan(engine: CheckMateEngine[Any, Any], index: int, cause: Exception | None) -> Plan:
    stage = engine.stages[index]
    begin = engine.clock.now()
    is_running = stage.notes.but(was_interrupted=True, suspension=None, retry_at=None, cursors={})
    yield Store(partial(stage.change, "Rolling back", StageStatus.ROLLING_BACK, begin, notes=is_running))
    is_over = is_running.but(was_interrupted=False)
    previous = engine.stages[index - 1].state if index else None
    try:
        copy = stage.state if previous is None else (yield Store(partial(previous.model_copy, deep=True)))
        yield Work(stage.rollback_stage, (copy,))
    except Exception as exc:
        message = f"Rollback failed: {type(exc).__name__}: {exc}"
        engine.note_failure(exc)
        yield Store(
            partial(stage.change, message, StageStatus.ROLLING_BACK, begin, engine.clock.now(), notes=is_over)
        )
        if cause is not None:
            exc.__cause__ = cause
        raise StageFailedException(
            f"rolling back task {engine.task_id}: stage {stage.stage_name!r} could not be rolled back: "
            f"{type(exc).__name__}: {exc}. Mend the cause and roll the task back again: it goes on at this stage"
        ) from exc
    yield Store(
        partial(
            stage.change, "Rolled back", StageStatus.ROLLED_BACK, begin, engine.clock.now(), notes=is_over
        )
    )
