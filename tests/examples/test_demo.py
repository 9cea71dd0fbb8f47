"""`checkmate demo` as a user runs it: killed in every stage, resumed, run again, begun anew."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from checkmate import StageStatus, TaskStore, TaskView
from checkmate.demo import STAGES, TASK_ID, load_example


@dataclass
class Demo:
    """One user's store, documents and work folder."""

    url: str
    source: Path
    work: Path
    folder: Path = field(default_factory=Path.cwd)

    def run(self, *options: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "checkmate", "demo"]
        places = ["--url", self.url, "--source", str(self.source), "--work", str(self.work)]
        done = subprocess.run(
            [*command, *places, *options], capture_output=True, text=True, cwd=self.folder, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def report(self, *options: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("--json", *options).stdout)
        return document

    def kill_in(self, stage: str) -> subprocess.CompletedProcess[str]:
        return self.run("--kill-in", stage, status=-signal.SIGKILL)

    def view(self) -> TaskView:
        return TaskStore(self.url).get(TASK_ID)

    def times(self, status: StageStatus) -> dict[str, int]:
        """How often each stage got this status, by the stored history."""
        counts = {
            stage.name: Counter(entry.status for entry in stage.history)[status]
            for stage in self.view().stages
        }
        assert tuple(counts) == STAGES
        return counts


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, make_documents: Callable[[Path], Path]
) -> dict[str, Any]:
    """The report of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    demo = Demo((folder / "tasks").as_uri(), make_documents(folder / "documents"), folder / "work", folder)
    return demo.report()


@pytest.fixture(params=["file", "s3"])
def demo(request: pytest.FixtureRequest, tmp_path: Path, documents: Path) -> Demo:
    url = (tmp_path / "tasks").as_uri()
    if request.param == "s3":
        url = request.getfixturevalue("checkmate_s3_url")
    return Demo(url, documents, tmp_path / "work", tmp_path)


@pytest.fixture
def file_demo(tmp_path: Path, documents: Path) -> Demo:
    return Demo(str(tmp_path / "tasks"), documents, tmp_path / "work", tmp_path)


def test_an_undisturbed_run_finds_what_it_is_asked_for(undisturbed: dict[str, Any]) -> None:
    result = undisturbed["result"]
    assert (result["files"], result["documents"], result["skipped"]) == (12, 11, 1)
    assert result["chunks"] > result["documents"]
    assert result["question_set"] == "known-item"
    assert result["recall_at_5"] == result["mrr"] == 1.0
    assert [stage["attempts"] for stage in undisturbed["stages"]] == [1] * 5
    assert all(stage["run_now"] and stage["status"] == "COMPLETE" for stage in undisturbed["stages"])


@pytest.mark.parametrize("killed", STAGES)
def test_a_kill_in_any_stage_costs_that_stage_alone(
    demo: Demo, killed: str, undisturbed: dict[str, Any]
) -> None:
    dead = demo.kill_in(killed)
    assert f"SIGKILL in the middle of stage {killed!r}" in dead.stderr
    index = STAGES.index(killed)
    statuses = [stage.status for stage in demo.view().stages]
    assert statuses == ["COMPLETE"] * index + ["RUNNING"] + ["CREATED"] * (4 - index)

    resumed = demo.report()

    assert resumed["result"] == undisturbed["result"]
    assert [stage["run_now"] for stage in resumed["stages"]] == [False] * index + [True] * (5 - index)
    executed = {stage: 2 if stage == killed else 1 for stage in STAGES}
    assert demo.times(StageStatus.RUNNING) == executed
    assert demo.times(StageStatus.COMPLETE) == dict.fromkeys(STAGES, 1)
    assert {stage.name: stage.attempts for stage in demo.view().stages} == executed
    assert not list(demo.work.glob("*.partial*"))


def test_a_finished_task_runs_nothing_and_shows_its_result(demo: Demo) -> None:
    first = demo.report()
    stored = demo.view()

    again = demo.report()

    assert again["result"] == first["result"]
    assert not any(stage["run_now"] for stage in again["stages"])
    assert demo.view().stages == stored.stages
    said = demo.run().stdout
    assert "--fresh" in said
    assert said.count("complete, not run again") == 5


def test_fresh_begins_a_new_task(demo: Demo) -> None:
    first = demo.report()
    (demo.source / "added.txt").write_text("A document that came later\n")
    assert demo.report()["result"] == first["result"]

    fresh = demo.report("--fresh")

    assert fresh["result"]["files"] == first["result"]["files"] + 1
    assert demo.times(StageStatus.RUNNING) == dict.fromkeys(STAGES, 1)


def test_one_task_survives_a_kill_in_every_stage(file_demo: Demo, undisturbed: dict[str, Any]) -> None:
    for stage in STAGES:
        file_demo.kill_in(stage)
    assert file_demo.report()["result"] == undisturbed["result"]
    assert file_demo.times(StageStatus.RUNNING) == dict.fromkeys(STAGES, 2)


def test_fresh_removes_what_a_killed_run_left(file_demo: Demo, undisturbed: dict[str, Any]) -> None:
    file_demo.kill_in("index")
    assert list(file_demo.work.glob("index.sqlite.*.partial"))
    assert file_demo.report("--fresh")["result"] == undisturbed["result"]
    assert not list(file_demo.work.glob("*.partial*"))


def test_without_a_terminal_it_prints_what_it_runs_and_what_not(file_demo: Demo) -> None:
    file_demo.kill_in("index")
    said = file_demo.run().stdout
    skipped = [line.split()[0] for line in said.splitlines() if line.endswith("complete, not run again")]
    assert skipped == ["discover", "read", "chunk"]
    assert "index      running, attempt 2" in said
    assert "recall@5    1.000" in said
    assert "\x1b" not in said


def test_on_a_terminal_it_draws_rows_and_leaves_the_cursor_visible(file_demo: Demo) -> None:
    def run_on_terminal(*options: str) -> tuple[int, str]:
        master, slave = os.openpty()
        command = [sys.executable, "-W", "error", "-m", "checkmate", "demo", "--url", file_demo.url]
        process = subprocess.Popen(
            [*command, "--source", str(file_demo.source), "--work", str(file_demo.work), *options],
            stdout=slave,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(slave)
        said = bytearray()
        while chunk := _read_terminal(master):
            said += chunk
        os.close(master)
        return process.wait(), said.decode()

    status, said = run_on_terminal("--kill-in", "chunk")
    assert status == -signal.SIGKILL
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    status, said = run_on_terminal()
    assert status == 0
    assert said.count("complete, not run again") >= 2
    assert "recall@5" in said


def _read_terminal(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # Linux's word for the end of a terminal that nobody writes to any more
        return b""


def test_wrong_usage_names_the_fix_and_changes_nothing(file_demo: Demo, tmp_path: Path) -> None:
    assert "'evaluate'" in file_demo.run("--kill-in", "nowhere", status=2).stderr
    assert not file_demo.work.exists()
    file_demo.kill_in("read")
    stored = file_demo.view().stages
    assert "add --fresh" in file_demo.run("--kill-in", "discover", status=2).stderr
    (tmp_path / "other").mkdir()
    other = Demo(file_demo.url, tmp_path / "other", file_demo.work, tmp_path)
    assert "add --fresh" in other.run(status=2).stderr
    assert file_demo.view().stages == stored


@pytest.mark.parametrize(("name", "content"), [("documents.jsonl", b"{}\n"), ("chunks.jsonl", None)])
def test_an_input_that_is_not_what_was_written_is_refused(
    file_demo: Demo, name: str, content: bytes | None, undisturbed: dict[str, Any]
) -> None:
    file_demo.kill_in("index")
    whole = (file_demo.work / name).read_bytes()
    (file_demo.work / name).unlink()
    if content is not None:
        (file_demo.work / name).write_bytes(content)

    failed = file_demo.run(status=1)

    assert name in failed.stderr
    assert file_demo.view().stages[3].status is StageStatus.ERROR
    (file_demo.work / name).write_bytes(whole)
    assert file_demo.report()["result"] == undisturbed["result"]


def test_a_folder_without_documents_is_an_error_that_says_so(file_demo: Demo, tmp_path: Path) -> None:
    file_demo.source = tmp_path / "nothing"
    file_demo.source.mkdir()
    assert "no text or source files" in file_demo.run(status=1).stderr


def test_the_example_run_as_a_script_and_the_demo_share_a_task(
    file_demo: Demo, undisturbed: dict[str, Any]
) -> None:
    script = load_example().__file__
    places = ["--source", str(file_demo.source), "--work", str(file_demo.work), "--task-id", TASK_ID]
    done = subprocess.run(
        [sys.executable, "-W", "error", script, file_demo.url, *places],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"chunks: {undisturbed['result']['chunks']}\n" in done.stdout
    shared = file_demo.report()
    assert shared["result"] == undisturbed["result"]
    assert not any(stage["run_now"] for stage in shared["stages"])


def test_the_command_loads_what_it_needs_only_when_it_runs() -> None:
    heavy = "{'rich', 'pydantic', 'checkmate_core', 'ingest_cm'}"
    check = f"import sys, checkmate.demo; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
