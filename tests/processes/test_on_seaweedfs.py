"""Workers that are killed, and that race, on an S3 server that is no emulator."""

from pathlib import Path

import pytest

from .checks import check_finished, executions
from .pipeline import Job
from .tallies import Tally
from .test_kills_in_order import CHANGES, FEW
from .workers import Workers

pytestmark = pytest.mark.slow

RACERS = 6


def test_is_killed_after_every_change_of_the_store_and_resumes(
    seaweedfs_url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    for change in range(1, CHANGES + 1):
        task_id = f"t{change}"
        job = Job(url=seaweedfs_url, task_ids=[task_id], log=str(log), stages=FEW, die_after_change=change)
        first = workers.start(job).wait()
        assert first.was_killed, (change, first)
        second = workers.start(Job(url=seaweedfs_url, task_ids=[task_id], log=str(log), stages=FEW)).finish()
        # After the last change the lock is gone.
        assert second.took_over == (change < CHANGES), (change, second)
        check_finished(seaweedfs_url, task_id, log, tally)


def test_each_task_is_run_once_by_whoever_comes_first(
    seaweedfs_url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    task_ids = [f"t{number}" for number in range(5)]
    job = Job(url=seaweedfs_url, task_ids=task_ids, log=str(log), wait=200.0, pause=0.002, stages=FEW)
    racers = [workers.start(job) for _ in range(RACERS)]
    results = [racer.finish().said["results"] for racer in racers]
    assert all(result == results[0] for result in results)
    for task_id in task_ids:
        check_finished(seaweedfs_url, task_id, log, tally)
        assert [each.index for each in executions(log)[task_id]] == [*range(FEW)]
