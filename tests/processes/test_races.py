"""Workers that race for the same tasks."""

import random
from pathlib import Path

import pytest

from checkmate_core import TaskStore

from .checks import check_finished, executions
from .pipeline import STAGES, Job
from .tallies import Tally
from .workers import Workers, wait_until

PROCESSES = 8
TASKS = 50
STEPS = 2


@pytest.mark.slow
def test_each_task_is_run_once_by_whoever_comes_first(
    url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    task_ids, half = [f"t{number}" for number in range(TASKS)], TASKS // 2
    racers = [
        workers.start(
            Job(
                url=url,
                # Each in an order of its own for one half, all in step for the other.
                task_ids=[*task_ids[:half], *random.Random(racer).sample(task_ids[half:], TASKS - half)],
                log=str(log),
                wait=200.0,
                pause=0.002,
                stages=STEPS,
            )
        )
        for racer in range(PROCESSES)
    ]
    results = [racer.finish().said["results"] for racer in racers]
    # Who came late was told the result of who came first.
    assert all(result == results[0] for result in results)
    for task_id in task_ids:
        check_finished(url, task_id, log, tally)
        assert [each.index for each in executions(log)[task_id]] == [*range(STEPS)]


def test_who_does_not_wait_is_told_who_holds_the_task(
    url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    gate = log.with_name("gate")
    holder = workers.start(Job(url=url, task_ids=["t"], log=str(log), hold=1, gate=str(gate)))
    wait_until(lambda: len(executions(log)["t"]) == 2)
    other = workers.start(Job(url=url, task_ids=["t"], log=str(log))).wait()
    assert other.said["error"] == "BindException"
    assert f"pid {holder.pid}" in other.said["message"]
    assert TaskStore(url).get("t").holder
    gate.touch()
    holder.finish()
    check_finished(url, "t", log, tally)
    assert len(executions(log)["t"]) == STAGES
