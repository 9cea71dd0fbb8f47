"""Uploads that crash, lose answers or are killed, on stores of each kind; and how much memory one takes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkmate import ArtifactRef, CheckMate, StorageUnavailableException, TaskIO, TaskStore, open_task_io
from checkmate_core.artifacts import TaskArtifacts
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import (
    CrashPoint,
    FaultyTaskIO,
    LoseResponse,
    Operation,
    RaiseBefore,
    crash,
    crash_points,
    resume,
    writes_to,
)

from .albums import CONTENT, PART, Look, Take, artifact_objects, artifacts_of, sent_twice
from .pipelines import MANIFEST, TASK, raw

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskArtifacts, "part_size", PART)


def album(io: TaskIO) -> CheckMate[Any, int]:
    return CheckMate[Any, int](io, TASK, [Take(), Look()])


def parts_sent(client: FaultyTaskIO) -> list[str]:
    return [
        call.name
        for call in client.calls
        if call.operation is Operation.WRITE
        and "/artifacts/" in call.name
        and not call.name.endswith(".json")
    ]


def test_after_a_crash_at_any_request_no_part_that_arrived_is_sent_again() -> None:
    points = crash_points(album)
    # The manifest, the lock and the stages; and of the artifact twelve writes, seven looks, twelve reads.
    assert len(points) > 2 * 31
    for point in points:
        store = MemoryTaskIO()
        # Between the crash and the store: what arrives here, arrives.
        client = FaultyTaskIO(store)
        crash(album(client), point)
        assert resume(album(client)) == len(CONTENT), point
        assert sent_twice(parts_sent(client)) == [], point
        assert len(artifact_objects(store)) == 12, point


def test_a_crash_while_a_task_with_artifacts_is_removed_leaves_one_that_can_be_removed() -> None:
    whole = MemoryTaskIO()
    album(whole).run()
    for number in range(1, 40):
        store = MemoryTaskIO()
        store.objects.update(whole.objects)
        task = album(store)
        task.auto_cleanup = True
        try:
            crash(task, CrashPoint.at_request(number, "before"))
        except AssertionError:
            break
        again = album(store)
        again.auto_cleanup = True
        resume(again)
        assert set(raw(store)) == {MANIFEST}, number
    else:
        raise AssertionError("the removal never ended")
    assert number > 14, "there are twelve objects of the artifact to remove"


def test_an_answer_that_is_lost_at_any_request_changes_nothing() -> None:
    smooth = FaultyTaskIO(MemoryTaskIO())
    ref = artifacts_of(smooth).put("it", CONTENT)
    artifacts_of(smooth).read(ref)
    for number in range(1, len(smooth.calls) + 1):
        client = FaultyTaskIO(MemoryTaskIO())
        client.plan(number, LoseResponse() if number % 2 else RaiseBefore())
        assert artifacts_of(client).put("it", CONTENT) == ref
        assert artifacts_of(client).read(ref) == CONTENT


@pytest.mark.parametrize("kind", ["file", "s3", "sealed"])
def test_an_upload_that_failed_goes_on_where_it_was(request: pytest.FixtureRequest, kind: str) -> None:
    options = {"compress": "zstd"} if kind == "sealed" else {}
    url = request.getfixturevalue(f"checkmate_{'file' if kind == 'sealed' else kind}_url")
    client = FaultyTaskIO(open_task_io(url, **options))
    attempt = CheckMate[Any, int](client, TASK, [Take(), Look()])
    parts = writes_to(f"{TASK}/artifacts/")
    client.plan(lambda call: parts(call) and len(parts_sent(client)) > 6, RaiseBefore(), times=None)
    with pytest.raises(Exception, match="take") as caught:
        attempt.run()
    assert isinstance(caught.value.__cause__, StorageUnavailableException)
    arrived = artifact_objects(client)
    assert 3 <= len(arrived) <= 6

    second = FaultyTaskIO(open_task_io(url, **options))
    attempt = CheckMate[Any, int](second, TASK, [Take(), Look()])
    assert attempt.run() == len(CONTENT)
    assert set(parts_sent(second)).isdisjoint(arrived)
    assert len(parts_sent(second)) == 11 - len(arrived)
    ref = ArtifactRef.model_validate(TaskStore(second).get(TASK).stages[0].state["photo"])
    with TaskStore(second).artifacts(TASK).open(ref) as file:
        assert file.read() == CONTENT
    with attempt as engine:
        engine.unbind(clean=True)
        engine.bind()
    assert artifact_objects(second) == []


WORKER = """
import sys, time
from checkmate import CheckMate
from checkmate_core.artifacts import TaskArtifacts
from tests.engine.albums import CONTENT, PART, Look, Take

class Stuck:
    def __init__(self, parts): self.left, self.content = parts, CONTENT
    def read(self, size=-1, /):
        while not self.left: time.sleep(1)
        self.left -= 1
        chunk, self.content = self.content[:PART], self.content[PART:]
        return chunk

class Upload(Take):
    def execute_stage(self, previous_state_copy):
        self.state.photo = self.artifacts.put("photo", Stuck(int(sys.argv[2])))

TaskArtifacts.part_size = PART
print(CheckMate(sys.argv[1], "task-1", [Upload(), Look()]).run())
"""


def test_a_worker_that_was_killed_in_the_middle_of_an_upload_is_followed_by_one_that_sends_the_rest(
    checkmate_file_url: str,
) -> None:
    io = open_task_io(checkmate_file_url)

    def start(parts: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, checkmate_file_url, str(parts)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    first = start(7)
    wait_for(lambda: len(artifact_objects(io)) == 6, first)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    first.communicate()
    arrived = {info.name: info.modified for info in io.list(f"{TASK}/artifacts/")}
    second = start(1000)
    printed, _ = second.communicate(timeout=60)
    assert (second.returncode, printed) == (0, f"{len(CONTENT)}\n")
    found = {info.name: info.modified for info in io.list(f"{TASK}/artifacts/")}
    assert len(found) == 12
    assert {name: found[name] for name in arrived} == arrived


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the worker ended"
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.02)


@pytest.mark.slow
def test_two_gigabytes_take_no_more_memory_than_a_few_parts(tmp_path: Path) -> None:
    size = 2 * 1024**3
    command = [sys.executable, "-m", "tests.engine.large_artifact", str(tmp_path), str(size)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert (found["size"], found["read"], found["downloaded"]) == (size, size, size // 8)
    assert max(found["grown_mib"].values()) < 150
