"""Workers that sleep through their own replacement."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from checkmate_core import StageStatus, TaskStore

from .checks import check_finished, executions
from .pipeline import Job, cm_factory_pipeline
from .tallies import Tally
from .workers import TIMEOUT, Worker, Workers, wait_until

HELD = 2


def _unlock(url: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "checkmate", "unlock", url, "t"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return done.stdout


def _stopped_in_stage(url: str, log: Path, gate: Path, workers: Workers) -> Worker:
    # So long a lease that no renewal comes by meanwhile and finds out first.
    job = Job(url=url, task_ids=["t"], log=str(log), hold=HELD, gate=str(gate), lease=3600.0)
    worker = workers.start(job)
    wait_until(lambda: len(executions(log)["t"]) > HELD)
    worker.stop()
    return worker


def _wake(zombie: Worker, gate: Path) -> None:
    gate.touch()
    zombie.signal(signal.SIGCONT)
    ended = zombie.wait()
    assert ended.returncode == 1
    assert ended.said["error"] == "LockLostException", ended


def test_who_wakes_after_the_task_was_finished_stores_nothing(
    url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    gate = log.with_name("gate")
    zombie = _stopped_in_stage(url, log, gate, workers)
    assert f"pid {zombie.pid}" in _unlock(url)
    second = workers.start(Job(url=url, task_ids=["t"], log=str(log)))
    assert not second.finish().took_over
    finished = TaskStore(url).dump("t")
    _wake(zombie, gate)
    assert TaskStore(url).dump("t") == finished
    check_finished(url, "t", log, tally)
    assert [each.pid for each in executions(log)["t"]] == [zombie.pid] * 3 + [second.pid] * 4


def test_who_wakes_while_the_next_one_is_at_the_same_stage_stores_nothing(
    url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    gate, second_gate = log.with_name("gate"), log.with_name("second gate")
    zombie = _stopped_in_stage(url, log, gate, workers)
    _unlock(url)
    second = workers.start(Job(url=url, task_ids=["t"], log=str(log), hold=HELD, gate=str(second_gate)))
    wait_until(lambda: len(executions(log)["t"]) > HELD + 1)
    _wake(zombie, gate)
    task = TaskStore(url).get("t")
    assert task.stages[HELD].status is StageStatus.RUNNING
    assert f"pid {second.pid}" in str(task.holder), "the zombie must not release what is another's"
    second_gate.touch()
    second.finish()
    check_finished(url, "t", log, tally)


@pytest.mark.parametrize("url", ["file", "s3"], indirect=True)
def test_who_wakes_after_the_task_was_rolled_back_stores_nothing(
    url: str, log: Path, workers: Workers
) -> None:
    gate = log.with_name("gate")
    zombie = _stopped_in_stage(url, log, gate, workers)
    _unlock(url)
    cm_factory_pipeline(Job(url=url, task_ids=["t"], log=str(log)), "t").rollback()
    rolled_back = TaskStore(url).dump("t")
    assert TaskStore(url).get("t").status is StageStatus.ROLLED_BACK
    _wake(zombie, gate)
    assert TaskStore(url).dump("t") == rolled_back
    assert [each.index for each in executions(log)["t"]] == [0, 1, 2]


@pytest.mark.parametrize("is_unlocked", [True, False])
def test_an_unlock_alone_costs_the_holder_nothing(
    url: str, log: Path, workers: Workers, tally: Tally, is_unlocked: bool
) -> None:
    """Until somebody else claims the task, its worker may go on: nobody else can have run anything."""
    gate = log.with_name("gate")
    worker = _stopped_in_stage(url, log, gate, workers)
    if is_unlocked:
        _unlock(url)
    gate.touch()
    worker.signal(signal.SIGCONT)
    worker.finish()
    task = TaskStore(url).get("t")
    assert task.status is StageStatus.COMPLETE
    assert task.holder is None
