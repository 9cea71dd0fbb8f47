"""Workers that are killed in the middle of loops, waits, uploads and rollbacks."""

import os
import random
import signal
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest

from checkmate_core import StageStatus, StageView, TaskIO, TaskStore, open_task_io

from .long_pipeline import CONTENT, EVERY, ITEMS, NAMES, done_of
from .pipeline import Job
from .workers import Worker, Workers, wait_until

pytestmark = pytest.mark.slow

TASKS = 2
LONGEST_STREAK = 60
LOOPS = (0, 3)


def lines(log: Path, what: str, task_id: str) -> list[tuple[int, int, int]]:
    """What was logged of a task: number, pid, token."""
    path = log.with_name(f"{log.name}.{what}")
    found = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(int(number), int(pid), int(token)) for task, number, pid, token in found if task == task_id]


def all_lines(log: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in log.parent.glob(f"{log.name}.*"))


def kill_until_it_ends(job: Job, log: Path, workers: Workers, rng: random.Random) -> Worker:
    """Kill workers, each once it has left some more lines; return the one that ended by itself."""
    for _ in range(LONGEST_STREAK):
        worker = workers.start(job)
        wanted = all_lines(log) + rng.randrange(1, 5 * EVERY)
        wait_until(partial(_is_due, worker, log, wanted))
        time.sleep(rng.uniform(0, 0.02))
        worker.signal(signal.SIGKILL)
        if not worker.wait().was_killed:
            return worker
    raise AssertionError(f"{LONGEST_STREAK} workers in a row did not get through")


def _is_due(worker: Worker, log: Path, lines: int) -> bool:
    return worker.has_ended or all_lines(log) >= lines


def check_items(log: Path, task_id: str) -> None:
    """Whoever begins a loop again begins it behind what is sure to have been saved, and leaves out nothing."""
    for index in LOOPS:
        by_token: dict[int, list[int]] = defaultdict(list)
        for item, _, token in lines(log, f"items-{index}", task_id):
            by_token[token].append(item)
        saved = reached = 0
        for _, items in sorted(by_token.items()):
            assert items == list(range(items[0], items[0] + len(items)))
            assert saved <= items[0] <= reached, "a saved item was done again, or one was left out"
            # Every item that was begun proves that the saves before it were made.
            saved, reached = max(saved, items[-1] // EVERY * EVERY), max(reached, items[-1] + 1)
        assert reached == ITEMS


@pytest.mark.parametrize(("store", "how"), [("file", "run"), ("file", "arun"), ("s3", "run")])
def test_what_was_saved_is_not_done_again_however_often_workers_are_killed(
    request: pytest.FixtureRequest, store: str, how: str, log: Path, workers: Workers, rng: random.Random
) -> None:
    url = request.getfixturevalue(f"checkmate_{store}_url")
    for task in range(TASKS):
        task_id = f"t{task}"
        job = Job(url=url, task_ids=[task_id], log=str(log), pause=0.005, long=how)
        last = kill_until_it_ends(job, log, workers, rng)
        assert last.wait().said["results"] == {task_id: str(2 * ITEMS)}
        check_items(log, task_id)
        done = done_of(url, task_id)
        assert done.items == [f"{NAMES[index]} {item}" for index in LOOPS for item in range(ITEMS)]
        assert done.answers == [done.answer]
        assert done.size == len(CONTENT)


def test_a_rollback_whose_workers_are_killed_goes_on_where_it_was(
    checkmate_file_url: str, log: Path, workers: Workers, rng: random.Random
) -> None:
    for task in range(TASKS):
        task_id = f"t{task}"
        job = Job(url=checkmate_file_url, task_ids=[task_id], log=str(log), pause=0.03, long="fail")
        ended = kill_until_it_ends(job, log, workers, rng).wait()
        assert ended.said["error"] in ("StageFailedException", "TaskRolledBackException"), ended
        stages = TaskStore(checkmate_file_url).get(task_id).stages
        assert [stage.status for stage in stages] == [StageStatus.ROLLED_BACK] * len(NAMES)
        check_items(log, task_id)
        for index, stage in enumerate(stages):
            statuses = [entry.status for entry in stage.history]
            going_back = statuses.index(StageStatus.ROLLED_BACK if index == 4 else StageStatus.ROLLING_BACK)
            assert not {StageStatus.RUNNING, StageStatus.COMPLETE} & set(statuses[going_back:])
            assert statuses.count(StageStatus.ROLLED_BACK) == 1
        # Each began to be rolled back behind the last rollback of the one behind it.
        begun = [_first_epoch(stage, StageStatus.ROLLING_BACK) for stage in stages[:-1]]
        assert begun == sorted(begun, reverse=True)
        undone = [index for index, _, token in lines(log, "rollbacks", task_id) if token >= begun[-1]]
        undone = [index for index in undone if index < len(begun)]
        assert undone == sorted(undone, reverse=True)
        assert set(undone) == set(range(len(begun)))
        assert TaskStore(checkmate_file_url).get(task_id).holder is None


def _first_epoch(stage: StageView, status: StageStatus) -> int:
    epoch = next(entry.epoch for entry in stage.history if entry.status is status)
    assert epoch is not None
    return epoch


def _objects(io: TaskIO) -> dict[str, bytes]:
    return {info.name: io.read(info.name).data for info in io.list()}


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_child_of_a_killed_worker_ends_by_itself_and_stores_nothing(
    checkmate_file_url: str, log: Path, workers: Workers
) -> None:
    job = Job(url=checkmate_file_url, task_ids=["t"], log=str(log), pause=0.1, long="isolated")
    parent = workers.start(job)
    wait_until(lambda: parent.has_ended or len(lines(log, "items-0", "t")) > EVERY)
    child = lines(log, "items-0", "t")[0][1]
    assert child != parent.pid
    parent.signal(signal.SIGKILL)
    assert parent.wait().was_killed
    io = open_task_io(checkmate_file_url)
    left = _objects(io)
    wait_until(lambda: _is_gone(child))
    assert len(lines(log, "items-0", "t")) < ITEMS, "it ended, and not because it was done"
    assert _objects(io) == left
    assert workers.start(job).finish().said["results"] == {"t": str(2 * ITEMS)}
    check_items(log, "t")
    assert done_of(checkmate_file_url, "t").items[:ITEMS] == [f"{NAMES[0]} {item}" for item in range(ITEMS)]
