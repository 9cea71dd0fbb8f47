"""`checkmate signal`, `cancel`, `resume`, `rollback` and `recover`, and what `ls` and `show` say of such tasks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from checkmate import StageFailedException, StageStatus, TaskStore, TaskSuspendedException
from checkmate_core.clock import SystemClock

from .conftest import Run, make
from .steered_cm import Order, cm_factory_steered, retrying
from .test_command_line import answer

APP = ("--app", "tests.cli.steered_cm")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def unchanged_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """--app changes it."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def store(checkmate_file_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("CHECKMATE_URL", raising=False)
    return checkmate_file_url


@pytest.fixture
def asked(store: str, tmp_path: Path) -> str:
    """A store with a task that waits for a decision."""
    with pytest.raises(TaskSuspendedException):
        cm_factory_steered(store, "order", Order(place=str(tmp_path))).run()
    return store


def told(tmp_path: Path) -> list[str]:
    log = tmp_path / "log"
    return log.read_text().splitlines() if log.exists() else []


def status(url: str, task_id: str = "order") -> StageStatus:
    return TaskStore(url).get(task_id).status


def test_a_person_approves_and_the_task_is_resumed(run: Run, asked: str, tmp_path: Path) -> None:
    waiting = run("resume", asked, "order", *APP)
    assert waiting.exit_code == 7
    assert "event 'decision'" in waiting.stderr
    assert waiting.stdout == ""
    sent = answer(run, "signal", asked, "order", "decision", "--data", '{"approved": true}')
    assert sent == {"task_id": "order", "event": "decision", "data": {"approved": True}}
    done = answer(run, "resume", asked, "order", *APP)
    assert done == {"task_id": "order", "status": "COMPLETE", "result": {"approved": True}}
    assert told(tmp_path) == ["do reserve", "do ask", "do ship"]
    assert "COMPLETE: order" in run("resume", asked, "order", *APP).stdout, "what is done is not done again"
    assert told(tmp_path) == ["do reserve", "do ask", "do ship"]


def test_an_event_is_refused_where_it_cannot_be_meant(run: Run, asked: str) -> None:
    cm_factory_steered(asked, "over").cancel()
    assert run("signal", asked, "order", "decision", "--data", "yes").exit_code == 2
    assert "needs its quotes" in run("signal", asked, "order", "decision", "--data", "yes").stderr
    assert run("signal", asked, "nobody", "decision").exit_code == 3
    assert run("signal", asked, "over", "decision").exit_code == 1
    assert run("signal", asked, "order", "decision").exit_code == 0
    again = run("signal", asked, "order", "decision", "--data", "{}")
    assert again.exit_code == 4
    assert "--replace" in again.stderr
    assert run("signal", asked, "order", "decision", "--data", '{"n": 2}', "--replace").exit_code == 0
    assert answer(run, "resume", asked, "order", *APP)["result"] == {"n": 2}


def test_the_environment_can_name_the_store_whatever_values_options_have(run: Run, asked: str) -> None:
    assert run("signal", "order", "decision", "--data", "{}", CHECKMATE_URL=asked).exit_code == 0
    assert (
        run("resume", "order", "--app", "tests.cli.steered_cm", "--wait", "1", CHECKMATE_URL=asked).exit_code
        == 0
    )
    assert run("recover", "--app", "tests.cli.steered_cm", CHECKMATE_URL=asked).exit_code == 0


def test_a_task_that_nobody_holds_is_canceled_at_once_by_an_app_that_has_its_stages(
    run: Run, asked: str, tmp_path: Path
) -> None:
    canceled = answer(run, "cancel", asked, "order", "--reason", "out of stock", *APP)
    assert canceled == {"task_id": "order", "outcome": "canceled", "holder": None}
    assert status(asked) is StageStatus.CANCELED
    assert told(tmp_path) == ["do reserve", "cancel ask"]
    assert TaskStore(asked).dump("order")["order/cancel.json"]["reason"] == "out of stock"
    again = run("cancel", asked, "order", *APP)
    assert again.exit_code == 1
    assert "is CANCELED" in again.stderr
    assert run("resume", asked, "order", *APP).exit_code == 8


def test_without_the_app_the_next_run_cancels(run: Run, asked: str, tmp_path: Path) -> None:
    said = run("cancel", asked, "order")
    assert said.exit_code == 0
    assert "the next run cancels it" in said.stdout
    assert "--app" in said.stdout
    assert status(asked) is StageStatus.SUSPENDED
    assert run("resume", asked, "order", *APP).exit_code == 8
    assert status(asked) is StageStatus.CANCELED
    assert told(tmp_path) == ["do reserve", "cancel ask"]


def test_a_task_that_somebody_holds_is_left_a_request(run: Run, asked: str) -> None:
    holder = cm_factory_steered(asked, "order")
    with holder:
        for app in ((), APP):
            requested = answer(run, "cancel", asked, "order", *app)
            assert requested["outcome"] == "requested"
            assert f"pid {os.getpid()}" in requested["holder"]
        assert f"held by {os.uname().nodename}" in run("cancel", asked, "order").stdout
        assert holder.status is StageStatus.SUSPENDED
    assert run("resume", asked, "order", *APP).exit_code == 8


def test_a_task_that_cannot_be_canceled_is_left_no_request(run: Run, url: str) -> None:
    for task_id in ("failed", "done"):
        refused = run("cancel", url, task_id)
        assert refused.exit_code == 1
        assert "cannot be canceled" in refused.stderr
        assert f"{task_id}/cancel.json" not in TaskStore(url).dump(task_id)


def test_a_rollback_undoes_and_finishes(run: Run, asked: str, tmp_path: Path) -> None:
    assert answer(run, "rollback", asked, "order", *APP) == {"task_id": "order", "status": "ROLLED_BACK"}
    assert told(tmp_path) == ["do reserve", "undo ask", "undo reserve"]
    assert run("rollback", asked, "order", *APP).exit_code == 1
    assert run("resume", asked, "order", *APP).exit_code == 8
    [listed] = answer(run, "ls", asked)
    assert (listed["status"], listed["stages_complete"]) == ("ROLLED_BACK", 0)
    assert "ROLLED_BACK" in run("show", asked, "order").stdout


def test_a_task_that_is_held_is_waited_for_or_refused(run: Run, asked: str) -> None:
    with cm_factory_steered(asked, "order"):
        for command in ("resume", "rollback"):
            refused = run(command, asked, "order", *APP)
            assert refused.exit_code == 4
            assert f"pid {os.getpid()}" in refused.stderr
            assert run(command, asked, "order", *APP, "--wait", "0.1").exit_code == 4
    assert run("rollback", asked, "order", *APP, "--wait", "0.1").exit_code == 0


@pytest.mark.parametrize("named", ["dotted", "file", "in a package"])
def test_an_app_is_a_module_or_a_file(store: str, tmp_path: Path, named: str) -> None:
    """As in a shell: the classes are stored under the names that a script of its own would give them."""
    source = (ROOT / "tests/cli/steered_cm.py").read_text()
    directory = tmp_path / "deep" / "orders" if named == "in a package" else tmp_path
    directory.mkdir(parents=True, exist_ok=True)
    if named == "in a package":
        (directory / "__init__.py").touch()
    script = directory / "orders_cm.py"
    script.write_text(
        f"{source}\nif __name__ == '__main__':\n    with cm_factory_steered({store!r}, 'order'):\n        pass\n"
    )
    subprocess.run([sys.executable, script], check=True, timeout=60, cwd=tmp_path)
    app = "orders_cm" if named == "dotted" else str(script.relative_to(tmp_path))
    resumed = checkmate("resume", store, "order", "--app", app, cwd=tmp_path)
    assert resumed.returncode == 7, resumed.stderr


@pytest.mark.parametrize(
    ("app", "code", "word"),
    [
        ("no_such_module", 2, "no module no_such_module"),
        ("tests.cli.no_such_module", 2, "no_such_module"),
        ("no_such_file.py", 2, "no such file"),
        ("broken_cm.py", 1, "RuntimeError: broken"),
        ("needy_cm.py", 1, "No module named 'no_such_dependency'"),
        ("leaving_cm.py", 1, "SystemExit"),
        ("json.py", 2, "another module is called json"),
        ("empty_cm.py", 6, "has imported"),
    ],
)
def test_an_app_that_is_no_use_is_refused(
    run: Run, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str, code: int, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("checkmate_core.checkmate.find_imported", lambda _: None)
    for name, source in (
        ("broken_cm", "raise RuntimeError('broken')"),
        ("needy_cm", "import no_such_dependency"),
        ("leaving_cm", "raise SystemExit"),
        ("json", ""),
        ("empty_cm", ""),
    ):
        (tmp_path / f"{name}.py").write_text(source)
    refused = run("resume", asked, "order", "--app", app)
    assert refused.exit_code == code, refused.output
    assert word in refused.stderr
    assert refused.stdout == ""
    assert run("resume", asked, "order").exit_code == 2, "without an app there is nothing to run"


def checkmate(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "checkmate", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def resuming(store: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that resumes a task and is in the middle of its first stage."""
    with cm_factory_steered(store, "order", Order(place=str(tmp_path), slow=True)):
        pass
    command = [sys.executable, "-m", "checkmate", "resume", store, "order", *APP]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield process
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()
    assert process.stderr
    process.stderr.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_resume_that_is_asked_to_stop_lets_the_task_go(
    run: Run, resuming: subprocess.Popen[str], store: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    [listed] = answer(run, "ls", store)
    assert (listed["status"], listed["current"]) == ("RUNNING", "reserve")
    assert (listed["progress"]["done"], listed["progress"]["total"]) == (1, 4)
    assert f"pid {resuming.pid}" in listed["holder"]
    assert "1 of 4: packing" in run("ls", store).stdout
    assert "1 of 4: packing" in run("show", store, "order").stdout
    resuming.send_signal(number)
    assert resuming.wait(30) == code
    assert resuming.stderr
    said = resuming.stderr.read()
    assert f"stopped by {number.name}; task order can be resumed" in said
    assert "Traceback" not in said
    task = TaskStore(store).get("order")
    assert (task.status, task.holder) == (StageStatus.RUNNING, None)
    (tmp_path / "hurry").touch()
    assert run("resume", store, "order", *APP).exit_code == 7
    assert told(tmp_path) == ["do reserve", "undo reserve", "do reserve"]


def test_recover_goes_on_with_what_was_killed(
    run: Run, resuming: subprocess.Popen[str], store: str, tmp_path: Path
) -> None:
    [held] = answer(run, "recover", store, *APP)
    assert held["outcome"] == "held"
    assert f"pid {resuming.pid}" in held["detail"]
    resuming.kill()
    resuming.wait()
    (tmp_path / "hurry").touch()
    [recovered] = answer(run, "recover", store, *APP)
    assert recovered["outcome"] == "suspended", "it ran until it had to wait"
    assert told(tmp_path) == ["do reserve", "undo reserve", "do reserve"]


@pytest.fixture
def many(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with a task in every situation; names tell which."""
    with cm_factory_steered(store, "1-new"):
        pass
    for task_id in ("2-waits", "3-event", "4-to-be-canceled", "5-half-back"):
        with pytest.raises(TaskSuspendedException):
            cm_factory_steered(store, task_id).run()
    TaskStore(store).signal("3-event", "decision", {})
    TaskStore(store).request_cancel("4-to-be-canceled")
    _leave_half_back(store, "5-half-back")
    with monkeypatch.context() as patch:
        patch.setenv("FAIL", "no")
        with pytest.raises(StageFailedException):
            cm_factory_steered(store, "6-error").run()
        patch.setattr(SystemClock, "sleep", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            retrying(store, "7-retry").run()
    with make(store, "8-other-app"):
        pass
    cm_factory_steered(store, "9-canceled").cancel()
    return store


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _leave_half_back(url: str, task_id: str) -> None:
    with cm_factory_steered(url, task_id) as cm:
        for stage in cm.stages:
            object.__setattr__(stage, "rollback_stage", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            cm.rollback()


def test_recover_runs_what_can_go_on_and_reports_the_rest(
    run: Run, many: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other app's stages are imported here, as everything is; elsewhere they would not be.
    _hide(monkeypatch, "Letter")
    result = run("recover", many, *APP, "--json")
    assert result.exit_code == 6, "of the task whose stages this app does not have"
    found = {each["task_id"]: each for each in json.loads(result.stdout)}
    assert {task_id: each["outcome"] for task_id, each in found.items()} == {
        "1-new": "suspended",
        "2-waits": "suspended",
        "3-event": "complete",
        "4-to-be-canceled": "canceled",
        "5-half-back": "rolled back",
        "6-error": "in error",
        "7-retry": "waits",
        "8-other-app": "failed",
    }
    assert "ValueError: no" in found["6-error"]["detail"]
    assert "next attempt at" in found["7-retry"]["detail"]
    assert {task_id for task_id, each in found.items() if each["error"]} == {"8-other-app"}
    assert status(many, "1-new") is StageStatus.SUSPENDED
    assert status(many, "5-half-back") is StageStatus.ROLLED_BACK
    assert TaskStore(many).get("6-error").stages[0].attempts == 1


def _hide(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from checkmate_core.imported import find_imported

    monkeypatch.setattr(
        "checkmate_core.checkmate.find_imported",
        lambda stored: None if stored.endswith(f".{name}") else find_imported(stored),
    )


def test_recover_can_be_bounded_and_can_run_what_failed(
    run: Run, many: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answer(run, "recover", many, *APP, "--limit", "1")
    assert [each["outcome"] for each in first].count("not tried") == 4
    assert status(many, "1-new") is StageStatus.SUSPENDED
    assert status(many, "3-event") is StageStatus.SUSPENDED
    monkeypatch.setenv("FAIL", "again")
    with make(many, "0-fails"):
        pass
    failing = run("recover", many, *APP, "--failed")
    assert failing.exit_code == 1
    assert "6-error" in failing.stderr
    assert "ValueError: again" in failing.stderr
    assert "complete: 8-other-app" in failing.stdout, "the rest went on"
    monkeypatch.delenv("FAIL")
    assert run("recover", many, *APP, "--failed").exit_code == 0
    assert status(many, "6-error") is StageStatus.SUSPENDED


def test_recover_asks_for_no_finished_task(run: Run, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cm_factory_steered(store, "over").cancel()
    monkeypatch.setattr(TaskStore, "list", _interrupt)
    assert answer(run, "recover", store, *APP) == []
    assert "no unfinished tasks" in run("recover", store, *APP).stdout


def test_a_damaged_task_does_not_stop_a_recovery(run: Run, many: str) -> None:
    (Path(many.removeprefix("file://")) / "1-new/task.json").write_text("{")
    result = run("recover", many, *APP)
    assert result.exit_code == 5
    assert "unreadable: 1-new" in result.stderr
    assert "complete: 3-event" in result.stdout


def test_ls_and_show_tell_what_a_task_waits_for(run: Run, many: str) -> None:
    tasks: dict[str, dict[str, Any]] = {task["task_id"]: task for task in answer(run, "ls", many)}
    waits = tasks["2-waits"]["waits_for"]
    assert (waits["event"], waits["until"], waits["is_due"]) == ("decision", None, False)
    assert waits["since"]
    assert tasks["3-event"]["waits_for"]["is_due"] is True
    assert tasks["4-to-be-canceled"]["waits_for"]["is_due"] is True
    assert tasks["1-new"]["waits_for"] is None
    assert tasks["5-half-back"]["status"] == "ROLLING_BACK"
    assert tasks["5-half-back"]["current"] == "ask"
    assert tasks["7-retry"]["retry_at"] > tasks["7-retry"]["created"]
    assert tasks["2-waits"]["retry_at"] is None
    table = run("ls", many).stdout
    for word in (
        "SUSPENDED",
        "ROLLING_BACK",
        "waits for event 'decision' since",
        "not due",
        "next attempt at",
    ):
        assert word in table
    assert "waits for event 'decision'" in run("show", many, "2-waits").stdout
    [_, stage, _] = answer(run, "show", many, "2-waits")["stages"]
    assert stage["notes"]["suspension"]["event"] == "decision"


def test_ls_tells_of_interruptions(run: Run, resuming: subprocess.Popen[str], store: str) -> None:
    resuming.kill()
    resuming.wait()
    with cm_factory_steered(store, "order") as cm:
        for stage in cm.stages:
            object.__setattr__(stage, "execute_stage", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            cm.execute(strict_recovery=True)
    [listed] = answer(run, "ls", store)
    assert listed["interruptions"] == 1
    assert "interrupted 1 time" in run("show", store, "order").stdout


def test_help_tells_of_the_new_commands(run: Run) -> None:
    for command in ("signal", "cancel", "resume", "rollback", "recover"):
        assert command in run("--help").stdout
        assert run(command, "--help").exit_code == 0
