"""ObservedTask: the side of an engine that tells observers what happens to its stages."""

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

from checkmate_core.clock import Clock
from checkmate_core.events import EventKind, Observer, StageEvent, event_kind
from checkmate_core.inspection import STAGE_RESULT, TaskInspection
from checkmate_core.notes import Progress
from checkmate_core.running.plan import Plan, Store
from checkmate_core.stage import STAGE, BaseStage

_log = logging.getLogger("checkmate_core.engine")


class ObservedTask(TaskInspection[STAGE, STAGE_RESULT]):
    """Members of `CheckMateEngine` that tell of its stages.

    Attributes:
        clock: Where times come from.
        observers: Called with each event of a stage.
    """

    clock: Clock
    observers: list[Observer]
    _last_event: StageEvent | None = None
    _failure: Exception | None = None

    def state_update_hook(self, stage: STAGE) -> None:
        """Called after each change of a stage's status was stored. Override it; the default does nothing.

        If it raises, the error is logged and the run goes on.
        """

    def call_observers(self, stage: BaseStage[Any]) -> None:
        """Tell the hook and the observers of a change that was stored. None of them can break the run."""
        try:
            self.state_update_hook(cast("STAGE", stage))
        except Exception:  # noqa: BLE001 - a user's hook may raise anything
            _log.exception("state_update_hook failed at stage %r of task %s", stage.stage_name, self.task_id)
        if not self.observers:
            return
        entry = stage.state.history[-1]
        kind = event_kind(entry.status, is_over=entry.end is not None)
        error, self._failure = self._failure, None
        self._emit(stage, kind, entry.message, entry.begin, entry.end, error)

    def report_progress(self, stage: BaseStage[Any], progress: Progress) -> None:
        """Tell the observers how far a stage is. For `RunningAttempt`."""
        if self.observers:
            begin = stage.state.history[-1].begin
            self._emit(stage, "progressed", progress.message, begin, progress=progress)

    def note_failure(self, error: Exception) -> None:
        """The next change that is stored comes from this."""
        self._failure = error

    def watch(self, plan: Plan) -> Plan:
        """The same plan; the observers hear of it, too, if it is cut off."""
        self._last_event = self._failure = None
        try:
            yield from plan
        except GeneratorExit:
            raise
        except BaseException as exc:
            if self._last_event is not None and not self._last_event.ends_run:
                yield Store(partial(self._report_interruption, self._last_event, exc))
            raise

    def _report_interruption(self, last: StageEvent, error: BaseException) -> None:
        index = last.stage_index + {"completed": 1, "rolled_back": -1}.get(last.kind, 0)
        now = datetime.fromtimestamp(self.clock.now(), UTC)
        begin = last.begin if index == last.stage_index else now
        self._emit(self.stages[index], "interrupted", f"{type(error).__name__}: {error}", begin, now, error)

    def _emit(
        self,
        stage: BaseStage[Any],
        kind: EventKind,
        message: str,
        begin: datetime,
        end: datetime | None = None,
        error: BaseException | None = None,
        progress: Progress | None = None,
    ) -> None:
        event = StageEvent(
            kind=kind,
            base_url=self.io.base_url,
            task_id=self.task_id,
            stage_name=stage.stage_name,
            stage_index=self.index_of(stage),
            stages_total=len(self.stages),
            status=stage.status,
            attempt=stage.attempts,
            message=message,
            begin=begin,
            end=end,
            epoch=self.fencing_token,
            progress=progress or stage.notes.progress,
            error=error,
            interruptions=stage.notes.interruptions,
        )
        if kind != "progressed":
            self._last_event = event
        for observer in self.observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - a user's observer may raise anything
                _log.exception("an observer failed at stage %r of task %s", event.stage_name, event.task_id)
