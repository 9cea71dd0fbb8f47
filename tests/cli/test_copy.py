"""`checkmate copy` as scripts and people use it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkmate import CheckMate, TaskStore, open_task_io

from .conftest import Letter, Run, make


@pytest.fixture
def target(tmp_path: Path) -> str:
    return (tmp_path / "target").as_uri()


def answer(run: Run, *arguments: str, code: int = 0) -> Any:
    result = run("copy", *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def outcomes(report: Any) -> dict[str, str]:
    return {task["task_id"]: task["outcome"] for task in report["tasks"]}


def raw(url: str) -> dict[str, bytes]:
    io = open_task_io(url)
    return {info.name: io.read(info.name).data for info in io.list() if not info.name.startswith("_locks/")}


def test_all_tasks_of_a_store_are_copied(run: Run, url: str, target: str) -> None:
    report = answer(run, url, target)
    assert outcomes(report) == dict.fromkeys(("done", "failed", "waiting"), "copied")
    assert (report["source"], report["destination"]) == (url, target)
    assert report["is_complete"]
    assert report["not_tried"] == []
    done = report["tasks"][0]
    assert done["written"] == done["objects"] == 3
    assert done["bytes"] == sum(len(data) for name, data in raw(url).items() if name.startswith("done/"))
    assert len(done["sha256"]) == 64
    assert done["error"] is None
    assert raw(target) == raw(url)

    again = answer(run, url, target)
    assert outcomes(again) == dict.fromkeys(("done", "failed", "waiting"), "already there")
    assert [task["sha256"] for task in again["tasks"]] == [task["sha256"] for task in report["tasks"]]
    assert {task["written"] for task in again["tasks"]} == {0}


def test_people_read_a_line_a_task_and_what_to_mind(run: Run, url: str, target: str) -> None:
    result = run("copy", url, target, "failed", "done")
    assert result.exit_code == 0
    *lines, total, advice = result.stdout.splitlines()
    assert sorted(line.split()[:2] for line in lines) == [["copied", "done"], ["copied", "failed"]]
    assert f"{url} to {target}: 2 copied" in total
    assert "Two copies of a task are two tasks" in advice
    assert f"in {url} before it goes on in {target}" in advice
    assert result.stderr == ""
    assert "1 copied, 2 already there" in run("copy", url, target).stdout


def test_a_copied_task_goes_on_where_it_stood(run: Run, url: str, target: str) -> None:
    answer(run, url, target, "failed")
    assert TaskStore(target).get("failed").stages_complete == 1
    assert make(target, "failed").run() == "xü [y]"
    assert [task.task_id for task in TaskStore(target).list()] == ["failed"]


def test_an_empty_store_has_nothing_to_copy(run: Run, tmp_path: Path, target: str) -> None:
    result = run("copy", str(tmp_path / "new"), target)
    assert result.exit_code == 0
    assert "no tasks" in result.stdout
    assert "Two copies" not in result.stdout


def test_a_held_task_is_refused_unless_told_and_the_others_go_on(
    run: Run, url: str, target: str, held: CheckMate[Letter, str]
) -> None:
    report = answer(run, url, target, code=4)
    assert outcomes(report) == {"done": "copied", "failed": "copied", "waiting": "failed"}
    assert not report["is_complete"]
    assert f"pid {os.getpid()}" in report["tasks"][2]["error"]
    result = run("copy", url, target, "waiting")
    assert result.exit_code == 4
    assert "waiting was not copied" in result.stderr
    assert "--even-if-locked" in result.stderr
    assert outcomes(answer(run, url, target, "waiting", "--even-if-locked")) == {"waiting": "copied"}
    held.unbind()


def test_another_state_in_the_destination_is_refused(run: Run, url: str, target: str) -> None:
    answer(run, url, target, "failed")
    make(target, "failed").run()
    before = raw(target)
    assert "another state" in answer(run, url, target, "failed", code=4)["tasks"][0]["error"]
    assert raw(target) == before


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("URL", "TARGET", "nobody"), 3, "no task nobody"),
        (("URL", "TARGET", "done", "nobody"), 3, "no task nobody"),
        (("URL", "TARGET", "../done"), 1, "is refused"),
        (("URL", "s4://bucket/x"), 5, "s4://"),
        (("s3://user:pw@bucket/x", "TARGET"), 5, "credentials"),
        (("URL",), 2, "Missing argument"),
        ((), 2, "Missing argument"),
        (("URL", "TARGET", "--concurrency", "0"), 2, "concurrency"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_exit_codes_tell_scripts_what_happened(
    run: Run, url: str, target: str, arguments: tuple[str, ...], code: int, word: str
) -> None:
    given = ({"URL": url, "TARGET": target}.get(each, each) for each in arguments)
    result = run("copy", *given, CHECKMATE_URL=url)
    assert result.exit_code == code, result.output
    assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert "pw" not in result.stderr.split()


def test_a_task_of_a_newer_version_has_its_exit_code_and_stops_no_other(
    run: Run, url: str, target: str
) -> None:
    open_task_io(url).write("failed/task.json", b'{"format": 99, "written_by": "9.9"}')
    assert outcomes(answer(run, url, target, code=6)) == {
        "done": "copied",
        "failed": "failed",
        "waiting": "copied",
    }


def test_killed_in_the_middle_it_goes_on(run: Run, url: str, target: str) -> None:
    for number in range(40):
        make(url, f"many-{number:02}").run()
    command = [sys.executable, "-m", "checkmate", "copy", url, target, "--concurrency", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as copying:
        assert copying.stdout
        for _ in range(5):
            assert copying.stdout.readline().startswith("copied")
        copying.send_signal(signal.SIGKILL)
    arrived = {task.task_id for task in TaskStore(target).list()}
    assert len(arrived) >= 5
    for task_id in arrived:
        names = [name for name in raw(url) if name.startswith(f"{task_id}/")]
        assert {name: raw(target)[name] for name in names} == {name: raw(url)[name] for name in names}

    report = answer(run, url, target)
    assert {task_id for task_id, said in outcomes(report).items() if said == "already there"} == arrived
    assert len(report["tasks"]) == 43
    assert raw(target) == raw(url)


def test_help_says_what_to_mind(run: Run) -> None:
    text = " ".join(run("copy", "--help").stdout.split())
    for words in (
        "SRC_URL DST_URL [TASK]...",
        "--even-if-locked",
        "is only read",
        "Two copies of a task are two",
    ):
        assert words in text
    assert "copy" in run("--help").stdout
