"""The command line as scripts and people use it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkmate import CheckMate, TaskStore, __version__, open_task_io

from .conftest import Letter, Run


def answer(run: Run, *arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_ls_lists_unfinished_tasks_first(run: Run, url: str) -> None:
    tasks = answer(run, "ls", url)
    assert [task["task_id"] for task in tasks] == ["waiting", "failed", "done"]
    assert [task["status"] for task in tasks] == ["CREATED", "ERROR", "COMPLETE"]
    assert [task["stages_complete"] for task in tasks] == [0, 1, 2]
    assert {task["stages_total"] for task in tasks} == {2}
    assert [task["result"] for task in tasks] == [None, "x", "xü [y]"]
    assert [task["ended"] is None for task in tasks] == [True, True, False]
    assert {task["holder"] for task in tasks} == {None}


def test_ls_draws_a_table(run: Run, url: str) -> None:
    result = run("ls", url)
    assert result.exit_code == 0
    for word in ("waiting", "failed", "done", "ERROR", "COMPLETE", "1/2", "2/2"):
        assert word in result.stdout


def test_an_empty_store_has_no_tasks(run: Run, tmp_path: Path) -> None:
    assert run("ls", str(tmp_path / "new")).stdout.strip() == "no tasks"
    assert answer(run, "ls", str(tmp_path / "new")) == []
    assert not (tmp_path / "new").exists(), "looking makes nothing"


def test_show_tells_of_stages_and_history(run: Run, url: str) -> None:
    task = answer(run, "show", url, "failed")
    assert [stage["name"] for stage in task["stages"]] == ["x", "ü [y]"]
    assert [stage["status"] for stage in task["stages"]] == ["COMPLETE", "ERROR"]
    assert task["stages"][1]["history"][-1]["message"].startswith("Failed: ValueError")
    assert task["stages"][0]["state"]["found"] == ["x"]
    assert task["stages"][0]["class"].endswith(".Letter")
    table = run("show", url, "failed")
    assert table.exit_code == 0
    assert "ü [y]" in table.stdout
    assert "no [bold]such[/bold] letter" in table.stdout, "what a user wrote is no markup"


def test_dump_gives_all_that_is_stored(run: Run, url: str) -> None:
    stored = answer(run, "dump", url, "failed")
    assert set(stored) == {info.name for info in open_task_io(url).list() if "failed" in info.name}
    assert stored["_locks/failed.lock"]["owner"] is None
    text = run("dump", url, "failed").stdout
    assert text.startswith("# Task failed: ERROR")
    assert text == TaskStore(url).render("failed")


def test_unlock_releases_and_says_whom(run: Run, url: str, held: CheckMate[Letter, str]) -> None:
    assert answer(run, "ls", url)[0]["holder"].startswith(os.uname().nodename)
    assert f"pid {os.getpid()}" in run("show", url, "waiting").stdout
    answered = answer(run, "unlock", url, "waiting")
    assert answered["task_id"] == "waiting"
    assert f"pid {os.getpid()}" in answered["released"]
    assert answer(run, "unlock", url, "waiting")["released"] is None
    assert "was not locked" in run("unlock", url, "waiting").stdout
    assert not held.has_lockfile
    held.unbind()


def test_version_tells_the_schemes(run: Run) -> None:
    found = answer(run, "version")
    assert found["version"] == __version__
    assert {"file", "memory"} <= set(found["schemes"])
    assert __version__ in run("version").stdout
    assert __version__ in run("--version").stdout


@pytest.mark.parametrize("arguments", [("ls",), ("show", "done"), ("dump", "done"), ("unlock", "done")])
def test_the_environment_can_name_the_store(run: Run, url: str, arguments: tuple[str, ...]) -> None:
    assert run(*arguments, CHECKMATE_URL=url).exit_code == 0
    assert json.loads(run(*arguments, "--json", CHECKMATE_URL=url).stdout)
    command, *rest = arguments
    assert json.loads(run(command, "--json", *rest, CHECKMATE_URL=url).stdout)


def test_a_store_that_is_given_wins_over_the_environment(run: Run, url: str, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    assert run("show", url, "done", CHECKMATE_URL=elsewhere).exit_code == 0
    assert run("show", "done", CHECKMATE_URL=elsewhere).exit_code == 3
    assert run("ls", url, CHECKMATE_URL=elsewhere).stdout.count("done") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("show", "URL", "nobody"), 3, "no task nobody"),
        (("dump", "URL", "nobody"), 3, "no task nobody"),
        (("unlock", "URL", "nobody"), 3, "no task nobody"),
        (("show", "URL", "../done"), 1, "is refused"),
        (("ls", "dvc://bucket/x"), 5, "Install dvc"),
        (("ls", "s4://bucket/x"), 5, "no backend for s4://"),
        (("ls", "s3://user:pw@bucket/x"), 5, "credentials"),
        (("ls",), 2, "Missing argument"),
        (("show", "URL"), 2, "Missing argument"),
        (("ls", "URL", "--wrong"), 2, "No such option"),
        (("wrong",), 2, "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_exit_codes_tell_scripts_what_happened(
    run: Run, url: str, arguments: tuple[str, ...], code: int, word: str
) -> None:
    for extra in ((), ("--json",)):
        result = run(*(url if each == "URL" else each for each in arguments), *extra)
        if code != 2:
            assert result.exit_code == code, result.output
        else:
            assert result.exit_code == 2
        assert result.stdout == "", "errors go to stderr"
        assert word in result.stderr or code == 2
        assert "Traceback" not in result.stderr
        assert "pw" not in result.stderr.split()


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", 5), (b"{}", 5), (b'{"format": 99, "written_by": "9.9"}', 6)]
)
@pytest.mark.parametrize("name", ["done/task.json", "done/stages/000-x.json", "_locks/done.lock"])
def test_damaged_objects_have_exit_codes_and_do_not_hide_other_tasks(
    run: Run, url: str, name: str, body: bytes, code: int
) -> None:
    open_task_io(url).write(name, body)
    result = run("show", url, "done")
    assert result.exit_code == code
    assert name in result.stderr
    assert result.stdout == ""
    listed = {task["task_id"]: task for task in answer(run, "ls", url)}
    assert set(listed) == {"done", "failed", "waiting"}
    assert name in listed["done"]["fault"]
    assert listed["failed"]["fault"] is None
    assert run("ls", url).exit_code == 0


def test_impossible_neighbours_are_an_error_of_the_command(run: Run, url: str) -> None:
    io = open_task_io(url)
    body = json.loads(io.read("done/stages/000-x.json").data)
    io.write("done/stages/000-x.json", json.dumps({**body, "status": "RUNNING"}).encode())
    result = run("show", url, "done")
    assert result.exit_code == 1
    assert "inconsistent" in result.stderr


def test_a_lock_that_changes_while_it_is_forced_is_exit_code_4(
    run: Run, url: str, held: CheckMate[Letter, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from checkmate import BindLock, VersionConflictException

    def changed(self: BindLock) -> None:
        raise VersionConflictException("the lock changed meanwhile: look again")

    monkeypatch.setattr(BindLock, "force_unlock", changed)
    result = run("unlock", url, "waiting")
    assert result.exit_code == 4
    assert "look again" in result.stderr
    held.unbind()


def test_a_removed_task_is_no_task(run: Run, url: str, held: CheckMate[Letter, str]) -> None:
    held.unbind(clean=True)
    assert run("show", url, "waiting").exit_code == 3
    assert [task["task_id"] for task in answer(run, "ls", url)] == ["failed", "done"]


def test_a_file_in_the_place_of_the_store_is_an_error_of_the_store(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = run("show", str(tmp_path / "file"), "x")
    assert result.exit_code in (3, 5)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("program", [["-m", "checkmate"], ["-m", "checkmate.cli"]])
def test_it_runs_as_a_module(program: list[str], url: str) -> None:
    if program == ["-m", "checkmate.cli"]:
        program = ["-c", "from checkmate.cli import main; main()"]
    done = subprocess.run(
        [sys.executable, *program, "ls", url, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert len(json.loads(done.stdout)) == 3


def test_help_names_every_command(run: Run) -> None:
    text = run("--help").stdout
    for command in ("demo", "doctor", "ls", "show", "dump", "unlock", "version"):
        assert command in text
        assert run(command, "--help").exit_code == 0
