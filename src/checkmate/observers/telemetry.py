"""OpenTelemetryObserver: tasks as traces and metrics. Needs the API alone; an SDK is the application's choice."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from checkmate_core import StageEvent, __version__

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags
except ImportError as exc:
    raise ImportError(
        f"OpenTelemetryObserver needs opentelemetry-api, which cannot be imported ({exc}): pip install 'checkmate[otel]'"
    ) from exc

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

_NAME: Final = "checkmate"

# What an attempt can come to; of a rollback, that it is over.
_OUTCOMES: Final = frozenset(
    {"completed", "retried", "failed", "suspended", "canceled", "rolled_back", "interrupted"}
)
# Store, task and epoch: of two owners in one process, each has its run.
_Key: TypeAlias = tuple[str, str, int | None]

_FAULTS: Final = frozenset({"retried", "failed", "interrupted"})


@dataclass
class _Run:
    """What is open of a task's run.

    Attributes:
        span: Of the run.
        stage: Of the attempt, or of the rollback, that is under way.
        is_rollback: Which of the two.
    """

    span: Span
    stage: Span | None = None
    is_rollback: bool = False


class OpenTelemetryObserver:
    """An observer that makes spans and metrics. One is enough for any number of engines, in any threads.

    Spans: ``checkmate.run`` for each `execute`, `cancel` or `rollback` from its first event to its last, and in it
    ``checkmate.stage`` for each attempt of a stage and ``checkmate.rollback`` for each rollback of a task's stage.
    Attributes: ``checkmate.task_id``, ``checkmate.stages_total``; of stages ``checkmate.stage``,
    ``checkmate.stage_index``, ``checkmate.attempt``, ``checkmate.epoch``, ``checkmate.status``,
    ``checkmate.outcome``. What failed is recorded as an exception event with status ERROR. A process that is
    killed exports none of its open spans.

    All runs of a task, in whatever process, are one trace: its id is derived from the store's URL and the task id
    (`task_context`).
    A run within a span of the application belongs to the application's trace, with a link to the task's.

    Metrics: the histogram ``checkmate.stage.duration`` (seconds of an attempt), and the counters
    ``checkmate.stage.attempts`` and ``checkmate.interruptions``; with ``checkmate.stage``, the first two with
    ``checkmate.outcome``, too. Task ids are in none of them: there are too many.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        """Make it; sets nothing global.

        Args:
            tracer_provider: Where spans go; None is what the application has set for the process.
            meter_provider: Where metrics go; likewise.
        """
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
        meter = metrics.get_meter(_NAME, __version__, meter_provider)
        self._duration = meter.create_histogram(
            "checkmate.stage.duration", unit="s", description="How long an attempt of a stage took"
        )
        self._attempts = meter.create_counter(
            "checkmate.stage.attempts", unit="{attempt}", description="Attempts of stages by outcome"
        )
        self._interruptions = meter.create_counter(
            "checkmate.interruptions", unit="{interruption}", description="Attempts that were cut off"
        )
        self._lock = threading.Lock()
        self._runs: dict[_Key, _Run] = {}
        self._seen_interrupted: set[tuple[str, str, str]] = set()

    def __call__(self, event: StageEvent) -> None:
        """Take an event."""
        with self._lock:
            if event.kind == "progressed":
                self._progress(event)
                return
            run = self._runs.get(_key(event))
            if run is None:
                run = self._runs[_key(event)] = _Run(self._begin_run(event))
            self._count_interruption(event, run)
            if event.kind in ("started", "rolling_back"):
                self._begin_stage(event, run)
            elif event.kind in _OUTCOMES:
                self._end_stage(event, run)
            if event.ends_run:
                del self._runs[_key(event)]
                run.span.set_attribute("checkmate.status", str(event.status))
                run.span.set_attribute("checkmate.outcome", event.kind)
                if event.kind in _FAULTS:
                    run.span.set_status(_fault(event))
                run.span.end(_nanoseconds(event.end or event.begin))

    def stage_span(self, task_id: str) -> Span:
        """The span of the attempt that is under way, for a stage whose own spans are to be within it:
        ``with trace.use_span(observer.stage_span(self.engine.task_id)): …``. One that records nothing if none is.
        """
        with self._lock:
            # Of two owners in one process, the one that has the task now.
            spans = [run.stage for (_, task, _), run in self._runs.items() if task == task_id and run.stage]
            return spans[-1] if spans else trace.INVALID_SPAN

    def _begin_run(self, event: StageEvent) -> Span:
        task = task_context(event.base_url, event.task_id)
        context: Context | None = None
        links = []
        if trace.get_current_span().get_span_context().is_valid:
            links = [Link(task)]
        else:
            context = trace.set_span_in_context(NonRecordingSpan(task))
        return self._tracer.start_span(
            "checkmate.run",
            context=context,
            links=links,
            attributes={"checkmate.task_id": event.task_id, "checkmate.stages_total": event.stages_total},
            start_time=_nanoseconds(event.begin),
        )

    def _begin_stage(self, event: StageEvent, run: _Run) -> None:
        run.is_rollback = event.kind == "rolling_back"
        run.stage = self._tracer.start_span(
            "checkmate.rollback" if run.is_rollback else "checkmate.stage",
            context=trace.set_span_in_context(run.span),
            attributes=_attributes(event),
            start_time=_nanoseconds(event.begin),
        )

    def _end_stage(self, event: StageEvent, run: _Run) -> None:
        span, run.stage = run.stage, None
        if span is None:
            # Nothing was under way: a task that is canceled while it waits, say.
            run.span.add_event(f"checkmate.{event.kind}", _attributes(event), _nanoseconds(event.begin))
            return
        span.set_attributes({"checkmate.status": str(event.status), "checkmate.outcome": event.kind})
        if event.error is not None:
            span.record_exception(event.error, timestamp=_nanoseconds(event.end or event.begin))
        if event.kind in _FAULTS or event.error is not None:
            span.set_status(_fault(event))
        span.end(_nanoseconds(event.end or event.begin))
        if run.is_rollback:
            return
        labels = {"checkmate.stage": event.stage_name, "checkmate.outcome": event.kind}
        self._attempts.add(1, labels)
        if event.end is not None:
            self._duration.record((event.end - event.begin).total_seconds(), labels)

    def _count_interruption(self, event: StageEvent, run: _Run) -> None:
        stage = (event.base_url, event.task_id, event.stage_name)
        was_seen = stage in self._seen_interrupted
        if event.kind == "interrupted":
            self._seen_interrupted.add(stage)
        else:
            self._seen_interrupted.discard(stage)
        # A process that was killed told nobody: the one that comes after it finds out.
        found = event.kind == "started" and event.interruptions > 0 and not was_seen
        is_stopped = event.kind == "failed" and run.stage is None
        if event.kind == "interrupted" or found or is_stopped:
            self._interruptions.add(1, {"checkmate.stage": event.stage_name})

    def _progress(self, event: StageEvent) -> None:
        run, progress = self._runs.get(_key(event)), event.progress
        if run is not None and run.stage is not None and progress is not None:
            run.stage.set_attribute("checkmate.progress.done", progress.done)
            if progress.total is not None:
                run.stage.set_attribute("checkmate.progress.total", progress.total)


def task_context(base_url: str, task_id: str) -> SpanContext:
    """The span that all runs of a task are within. Nobody ends it; its ids are a digest of the task's URL.

    It counts as sampled: a sampler that follows its parent takes all runs of a task.
    """
    digest = hashlib.sha256(f"{base_url}/{task_id}".encode()).digest()
    return SpanContext(
        trace_id=int.from_bytes(digest[:16], "big"),
        span_id=int.from_bytes(digest[16:24], "big"),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def _key(event: StageEvent) -> _Key:
    return event.base_url, event.task_id, event.epoch


def _attributes(event: StageEvent) -> Mapping[str, str | int]:
    found: dict[str, str | int] = {
        "checkmate.task_id": event.task_id,
        "checkmate.stage": event.stage_name,
        "checkmate.stage_index": event.stage_index,
        "checkmate.attempt": event.attempt,
        "checkmate.status": str(event.status),
    }
    if event.epoch is not None:
        found["checkmate.epoch"] = event.epoch
    return found


def _fault(event: StageEvent) -> Status:
    return Status(StatusCode.ERROR, event.message)


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e6) * 1000
