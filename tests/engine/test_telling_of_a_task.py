"""dump_stages, log_stages, check_sync and the update hook."""

import logging
from pathlib import Path
from typing import Any

import pytest

from checkmate import CheckMateEngine, RetryPolicy, StageFailedException, TaskEngineException, TaskIO

from .pipelines import TASK, Logged, Notes, Step, edit, engine_for, raw, steps

WHITE = "\033[97m"


def test_both_sources_are_equal_while_a_bound_task_is_in_sync(io: TaskIO) -> None:
    checks: list[bool] = []

    class Checking(CheckMateEngine[Step, Any]):
        def state_update_hook(self, stage: Step) -> None:
            checks.append(self.check_sync())

    with Checking(io, TASK, steps()) as engine:
        assert engine.check_sync()
        engine.execute()
        assert engine.check_sync()
        for arguments in ({}, {"color": ""}, {"basenames_only": True}):
            memory = engine.dump_stages("memory", **arguments)
            assert memory == engine.dump_stages("persistence", **arguments)
    assert checks == [True] * 6


def test_they_differ_when_memory_or_the_store_is_changed(io: TaskIO) -> None:
    with engine_for(io) as engine:
        engine.execute()
        engine.stages[1].state.count = 5
        assert not engine.check_sync()
        assert engine.dump_stages("memory") != engine.dump_stages("persistence")
        engine.stages[1].state.count = 0
        assert engine.check_sync()
        edit(io, f"{TASK}/stages/000-a.json", attempts=9)
        assert not engine.check_sync()
        assert "- Attempts: 9" in engine.dump_stages("persistence")


def test_the_summary_shows_what_is_asked_for(io: TaskIO) -> None:
    stages = [Step(stage_name="a", description="the first | one")]
    with engine_for(io, stages) as engine:
        engine.execute()
        text = engine.dump_stages()
        assert text.startswith(f"{WHITE}# Task {TASK}: COMPLETE")
        assert io.build_url(f"{TASK}/stages/000-a.json") in text
        assert "(memory)" not in text
        plain = engine.dump_stages(color="", basenames_only=True, source_in_heading=True)
        assert "\033" not in plain
        assert "(memory)" in plain
        assert "`000-a.json`" in plain
        assert io.base_url not in plain
        assert "(persistence)" in engine.dump_stages("persistence", source_in_heading=True)
        for word in (
            "## 1. a: COMPLETE",
            "the first | one",
            '"trail"',
            "| COMPLETE |",
            "Attempt 1",
            "`Step`",
        ):
            assert word in plain
        assert "\033[31m" in engine.dump_stages(color="\033[31m")


def test_an_unknown_source_is_refused(io: TaskIO) -> None:
    with engine_for(io) as engine:
        for tell in (engine.dump_stages, engine.log_stages):
            with pytest.raises(TaskEngineException, match="'disk'"):
                tell("disk")  # type: ignore[arg-type]


def test_an_unbound_engine_tells_of_its_templates_and_of_the_store(io: TaskIO) -> None:
    engine = engine_for(io)
    assert "UNBOUND" in engine.dump_stages()
    assert "CREATED" in engine.dump_stages("persistence")
    with engine:
        engine.execute()
    assert "UNBOUND" in engine.dump_stages()
    assert engine.dump_stages("persistence").count("COMPLETE") >= 4
    with pytest.raises(TaskEngineException, match="not bound"):
        engine.check_sync()


def test_telling_changes_nothing(io: TaskIO) -> None:
    with engine_for(io) as engine:
        engine.execute()
        before = raw(io)
        engine.dump_stages("persistence")
        engine.log_stages("persistence")
        engine.check_sync()
        assert raw(io) == before


def test_log_stages_logs_at_info(io: TaskIO, caplog: pytest.LogCaptureFixture) -> None:
    with engine_for(io) as engine, caplog.at_level(logging.INFO):
        caplog.clear()
        assert engine.log_stages("persistence", color="", basenames_only=True) is None  # type: ignore[func-returns-value]
        (record,) = [record for record in caplog.records if "# Task" in record.getMessage()]
        assert record.levelno == logging.INFO
        assert "000-a.json" in record.getMessage()
        assert io.base_url not in record.getMessage()


def test_the_hook_sees_every_stored_change_in_order(io: TaskIO) -> None:
    seen: list[tuple[str, str, bool]] = []

    class Told(CheckMateEngine[Step, Any]):
        def state_update_hook(self, stage: Step) -> None:
            seen.append((stage.stage_name, stage.status, stage.persistence_file_exists()))

    def fail_once(stage: Step, _: Notes) -> None:
        if stage.stage_name == "b" and stage.attempts == 1:
            raise ValueError

    stages = steps("a", "b", action=fail_once)
    with Told(io, TASK, stages, retry_policy=RetryPolicy.fixed(0), max_attempts=2) as engine:
        engine.execute()
    assert [(name, status) for name, status, _ in seen] == [
        ("a", "RUNNING"), ("a", "COMPLETE"),
        ("b", "RUNNING"), ("b", "RETRY"), ("b", "RUNNING"), ("b", "COMPLETE"),
    ]  # fmt: skip
    assert all(stored for _, _, stored in seen)


def test_a_hook_that_raises_is_logged_and_the_run_goes_on(
    io: TaskIO, log: Logged, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(CheckMateEngine[Step, Any]):
        def state_update_hook(self, stage: Step) -> None:
            raise RuntimeError("the hook is broken")

    with Broken(io, TASK, steps(action=log)) as engine:
        engine.execute()
        assert engine.check_sync()
    assert log.names == ["a", "b", "c"]
    failures = [
        record for record in caplog.records if record.exc_info and "state_update_hook" in record.getMessage()
    ]
    assert len(failures) == 6
    assert failures[0].levelno == logging.ERROR


def test_an_interruption_in_the_hook_is_an_interruption(io: TaskIO) -> None:
    class Stopping(CheckMateEngine[Step, Any]):
        def state_update_hook(self, stage: Step) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Stopping(io, TASK, steps()) as engine:
        engine.execute()
    assert not engine.has_lockfile
    with engine_for(io) as again:
        again.execute(strict_recovery=True)


def test_the_messages_of_a_failure_stand_in_the_history(io: TaskIO) -> None:
    def fail(stage: Step, _: Notes) -> None:
        raise ValueError("the | reason\nand more")

    with engine_for(io, steps("a", action=fail)) as engine:
        with pytest.raises(StageFailedException):
            engine.execute()
        text = engine.dump_stages(color="")
        assert "Failed: ValueError: the \\| reason and more" in text
        assert engine.stages[0].state.history[-1].message.startswith("Failed: ValueError: the | reason")


def test_nothing_is_printed(io: TaskIO, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with engine_for(io) as engine:
        engine.execute()
        engine.log_stages()
    assert capfd.readouterr().out == ""
