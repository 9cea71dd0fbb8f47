"""Events as records of `logging`."""

import logging
from typing import Any

import pytest

from checkmate import StageFailedException, TaskIO
from checkmate.observers import log_events
from tests.engine.pipelines import TASK, FakeClock

from .tasks import Drive, Step, engine_for, fails, synchronously


def facts(record: logging.LogRecord) -> dict[str, Any]:
    mark = "checkmate_"
    return {name.removeprefix(mark): value for name, value in vars(record).items() if name.startswith(mark)}


def test_each_event_is_a_record_with_its_facts_and_its_level(
    io: TaskIO, drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "checkmate.stages")
    with pytest.raises(StageFailedException):
        drive(
            engine_for(
                io, Step(stage_name="a"), Step(stage_name="b", action=fails()), observers=[log_events()]
            )
        )
    records = [record for record in caplog.records if record.name == "checkmate.stages"]
    assert [(record.levelname, facts(record)["event"]) for record in records] == [
        ("INFO", "started"),
        ("INFO", "completed"),
        ("INFO", "started"),
        ("WARNING", "retried"),
        ("INFO", "started"),
        ("ERROR", "failed"),
    ]
    assert facts(records[-1]) == {
        "event": "failed",
        "base_url": io.base_url,
        "task_id": TASK,
        "stage": "b",
        "stage_index": 1,
        "stages_total": 2,
        "status": "ERROR",
        "attempt": 2,
        "epoch": 1,
        "seconds": 0.0,
        "progress_done": None,
        "progress_total": None,
        "interruptions": 0,
    }
    assert (
        records[-1].message
        == f"task {TASK}: stage 2 of 2, b failed after 0.0 s: Failed: ValueError: attempt 2 of b"
    )
    [failed] = [record for record in records if record.exc_info]
    assert failed is records[-1]


def test_the_logger_and_the_levels_are_the_applications_to_choose(
    io: TaskIO, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jobs")
    log = log_events(logging.getLogger("jobs"), levels={"started": logging.DEBUG})
    synchronously(engine_for(io, Step(stage_name="a"), observers=[log]))
    assert [facts(record)["event"] for record in caplog.records if record.name == "jobs"] == ["completed"]


def test_progress_is_logged_now_and_then(io: TaskIO, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "checkmate.stages")
    clock = FakeClock()

    def work(stage: Step) -> None:
        for number in range(50):
            clock.pass_time(1)
            stage.progress(number, 50, "counting")

    log = log_events(progress_every=20, monotonic=clock.monotonic)
    stages = [Step(stage_name=name, action=work) for name in "ab"]
    synchronously(engine_for(io, *stages, clock=clock, lease=None, observers=[log]))
    told = [record for record in caplog.records if facts(record).get("event") == "progressed"]
    assert [facts(record)["progress_done"] for record in told] == [19, 39, 19, 39]
    assert told[0].message == f"task {TASK}: stage 1 of 2, a: 19 of 50: counting"
