"""Workers that are asked to stop (Ctrl-C) rather than killed."""

import signal
from pathlib import Path

from checkmate_core import StageStatus, TaskStore

from .checks import check_finished, executions
from .pipeline import Job
from .tallies import Tally
from .workers import Workers, wait_until

HELD = 3


def test_an_interrupt_releases_the_lock(url: str, log: Path, workers: Workers, tally: Tally) -> None:
    gate = log.with_name("gate")
    first = workers.start(Job(url=url, task_ids=["t"], log=str(log), hold=HELD, gate=str(gate)))
    wait_until(lambda: len(executions(log)["t"]) > HELD)
    first.signal(signal.SIGINT)
    assert first.wait().said["error"] == "KeyboardInterrupt"

    task = TaskStore(url).get("t")
    assert task.holder is None
    stage = task.stages[HELD]
    assert stage.status is StageStatus.RUNNING
    assert [entry.status for entry in stage.history] == [StageStatus.RUNNING]

    second = workers.start(Job(url=url, task_ids=["t"], log=str(log))).finish()
    assert not second.took_over
    check_finished(url, "t", log, tally)
    assert [each.index for each in executions(log)["t"]] == [0, 1, 2, 3, 3, 4, 5]
