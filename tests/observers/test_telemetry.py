"""Spans and metrics, as an application's own SDK gets them."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from checkmate import StageFailedException, Suspend, TaskIO, TaskStore
from checkmate.observers import OpenTelemetryObserver
from checkmate.observers.telemetry import task_context
from tests.engine.pipelines import TASK

from .tasks import Awaited, Drive, Step, died_in_b, engine_for, fails, synchronously


class Backend:
    """Where an application sends its telemetry."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def observer(self) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        """The points of a metric by the values of their attributes."""
        data = self.reader.get_metrics_data()
        return {
            tuple(value for _, value in sorted((point.attributes or {}).items())): point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }


@pytest.fixture
def backend() -> Iterator[Backend]:
    found = Backend()
    yield found
    found.tracers.shutdown()
    found.meters.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("checkmate."): value for name, value in (span.attributes or {}).items()}


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    found: int = span.context.trace_id
    return found


@pytest.mark.parametrize("kind", [Step, Awaited])
def test_a_run_is_a_span_with_one_for_each_attempt_in_it(
    io: TaskIO, backend: Backend, drive: Drive, kind: type[Step]
) -> None:
    stages = kind(stage_name="a"), kind(stage_name="b", action=fails(1))
    drive(engine_for(io, *stages, observers=[backend.observer()]))
    first, failed, last, run = backend.spans
    assert [span.name for span in backend.spans] == [*["checkmate.stage"] * 3, "checkmate.run"]
    assert all(span.parent == run.context for span in (first, failed, last))
    assert attributes(run) == {
        "task_id": TASK,
        "stages_total": 2,
        "status": "COMPLETE",
        "outcome": "completed",
    }
    assert attributes(failed) == {
        "task_id": TASK,
        "stage": "b",
        "stage_index": 1,
        "attempt": 1,
        "epoch": 1,
        "status": "RETRY",
        "outcome": "retried",
    }
    assert [attributes(span)["attempt"] for span in (first, failed, last)] == [1, 1, 2]
    [event] = failed.events
    assert event.attributes is not None
    assert (event.name, event.attributes["exception.message"]) == ("exception", "attempt 1 of b")
    assert [span.status.is_ok for span in backend.spans] == [True, False, True, True]
    assert failed.end_time is not None
    assert last.start_time is not None
    # The stage waited a second before its second attempt, by the engine's clock.
    assert last.start_time - failed.end_time == 1_000_000_000


def test_what_a_run_came_to_is_on_its_span(io: TaskIO, backend: Backend, drive: Drive) -> None:
    observer = backend.observer()
    with pytest.raises(StageFailedException):
        drive(engine_for(io, Step(stage_name="a", action=fails()), observers=[observer]))
    run = backend.spans[-1]
    assert (attributes(run)["outcome"], run.status.is_ok) == ("failed", False)
    with pytest.raises(KeyboardInterrupt):
        drive(
            engine_for(
                io, Step(stage_name="a", action=fails(error=KeyboardInterrupt())), observers=[observer]
            )
        )
    stage, run = backend.spans[-2:]
    assert [attributes(span)["outcome"] for span in (stage, run)] == ["interrupted"] * 2
    assert stage.events[0].name == "exception"


def test_runs_of_a_task_in_different_processes_are_one_trace(
    io: TaskIO, backend: Backend, drive: Drive
) -> None:
    def wait(stage: Step) -> None:
        if stage.state.verdict is None:
            raise Suspend(event="verdict")

    # Each of nothing but the task's name and its store: another process has no more.
    drive(engine_for(io, Step(stage_name="a", action=wait), observers=[backend.observer()]))
    TaskStore(io).signal(TASK, "verdict", "approved")
    drive(engine_for(io, Step(stage_name="a", action=wait), observers=[backend.observer()]))
    drive(engine_for(io, Step(stage_name="a"), task_id="another", observers=[backend.observer()]))
    ours = [span for span in backend.spans if attributes(span)["task_id"] == TASK]
    assert len(ours) == 4
    assert {trace_of(span) for span in ours} == {task_context(io.base_url, TASK).trace_id}
    assert trace_of(backend.spans[-1]) != trace_of(ours[0])


def test_a_run_within_a_span_of_the_application_is_in_its_trace_with_a_link(
    io: TaskIO, backend: Backend, drive: Drive
) -> None:
    with backend.tracers.get_tracer("service").start_as_current_span("request") as request:
        drive(engine_for(io, Step(stage_name="a"), observers=[backend.observer()]))
    _, run, _ = backend.spans
    assert run.parent == request.get_span_context()
    assert [link.context for link in run.links] == [task_context(io.base_url, TASK)]


def test_spans_of_a_stages_own_can_be_within_its_attempt(io: TaskIO, backend: Backend, drive: Drive) -> None:
    observer = backend.observer()

    def work(stage: Step) -> None:
        with (
            trace.use_span(observer.stage_span(TASK)),
            backend.tracers.get_tracer("stage").start_as_current_span("query"),
        ):
            pass

    drive(engine_for(io, Step(stage_name="a", action=work), observers=[observer]))
    query, stage, _ = backend.spans
    assert (query.name, query.parent) == ("query", stage.context)
    assert observer.stage_span(TASK) is trace.INVALID_SPAN


def test_a_compensation_has_spans_of_its_own(io: TaskIO, backend: Backend) -> None:
    stages = Step(stage_name="a"), Step(stage_name="b", action=fails())
    with pytest.raises(StageFailedException):
        synchronously(engine_for(io, *stages, on_error="compensate", observers=[backend.observer()]))
    assert [(span.name, attributes(span)["outcome"]) for span in backend.spans] == [
        ("checkmate.stage", "completed"),
        ("checkmate.stage", "retried"),
        ("checkmate.stage", "rolled_back"),
        ("checkmate.rollback", "rolled_back"),
        ("checkmate.run", "rolled_back"),
    ]
    assert [span.status.is_ok for span in backend.spans] == [True, False, False, True, True]


def test_a_cancellation_without_a_run_is_an_event(io: TaskIO, backend: Backend) -> None:
    engine_for(io, Step(stage_name="a"), observers=[backend.observer()]).cancel()
    [run] = backend.spans
    assert [event.name for event in run.events] == ["checkmate.canceled"]


def test_progress_is_on_the_span_of_the_attempt(io: TaskIO, backend: Backend) -> None:
    work = Step(stage_name="a", action=lambda stage: stage.progress(3, 8))
    synchronously(engine_for(io, work, observers=[backend.observer()]))
    found = attributes(backend.spans[0])
    assert (found["progress.done"], found["progress.total"]) == (3, 8)


def test_attempts_and_their_durations_are_measured(io: TaskIO, backend: Backend, drive: Drive) -> None:
    stages = Step(stage_name="a"), Step(stage_name="b", action=fails(1))
    drive(engine_for(io, *stages, observers=[backend.observer()]))
    attempts = backend.points("checkmate.stage.attempts")
    assert {key: point.value for key, point in attempts.items()} == {
        ("completed", "a"): 1,
        ("retried", "b"): 1,
        ("completed", "b"): 1,
    }
    durations = backend.points("checkmate.stage.duration")
    assert durations.keys() == attempts.keys()
    assert all(point.count == 1 for point in durations.values())
    assert backend.points("checkmate.interruptions") == {}


def test_interruptions_are_counted_where_they_are_seen_and_where_they_are_found(
    io: TaskIO, backend: Backend
) -> None:
    observer = backend.observer()
    # A process that was killed: the next one finds out.
    died_in_b(io)
    interrupted = Step(stage_name="b", action=fails(error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        synchronously(engine_for(io, Step(stage_name="a"), interrupted, no_lock=True, observers=[observer]))
    assert {key: point.value for key, point in backend.points("checkmate.interruptions").items()} == {
        ("b",): 2
    }
    # The same process goes on with it: nothing new.
    synchronously(
        engine_for(io, Step(stage_name="a"), Step(stage_name="b"), no_lock=True, observers=[observer])
    )
    assert {key: point.value for key, point in backend.points("checkmate.interruptions").items()} == {
        ("b",): 2
    }


def test_a_stage_that_kills_its_process_again_and_again_is_counted_when_it_is_stopped(
    io: TaskIO, backend: Backend
) -> None:
    died_in_b(io)
    engine = engine_for(
        io,
        Step(stage_name="a"),
        Step(stage_name="b"),
        max_interruptions=1,
        observers=[backend.observer()],
        no_lock=True,
    )
    with pytest.raises(StageFailedException):
        synchronously(engine)
    assert {key: point.value for key, point in backend.points("checkmate.interruptions").items()} == {
        ("b",): 1
    }
    assert backend.points("checkmate.stage.attempts") == {}


def test_without_an_sdk_it_does_nothing_and_sets_nothing_global(io: TaskIO) -> None:
    before = trace.get_tracer_provider(), metrics.get_meter_provider()
    synchronously(engine_for(io, Step(stage_name="a"), observers=[OpenTelemetryObserver()]))
    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == before
