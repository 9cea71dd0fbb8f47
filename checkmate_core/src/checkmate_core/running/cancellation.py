"""How a task is canceled."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from checkmate_core.errors import TaskEngineException
from checkmate_core.journal import StageChangedError
from checkmate_core.running.plan import Plan, Store, Work
from checkmate_core.status import StageStatus

if TYPE_CHECKING:
    from checkmate_core.engine import CheckMateEngine


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
                f"cancel() of stage {stage.stage_name!r} of task {engine.task_id} failed: {type(exc).__name__}: {exc}. "
                "The task is not canceled; mend the cause and cancel it again"
            ) from exc
        try:
            yield Store(
                partial(stage.change, "Task canceled", StageStatus.CANCELED, begin, engine.clock.now())
            )
        except StageChangedError as changed:
            yield Store(partial(engine.adopt, stage, changed.record))
    yield Store(engine.note_end)
