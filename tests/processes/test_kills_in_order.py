"""Workers that are killed at every point in turn, each followed by one that resumes."""

from pathlib import Path

import pytest

from checkmate_core import StageStatus, TaskStore

from .checks import check_finished, executions
from .pipeline import STAGES, Job
from .tallies import Tally
from .workers import Workers

EVERY_POINT = ["start", "middle", "end", "RUNNING", "COMPLETE"]
# Two stages have every kind of change: lock, manifest, two writes a stage, end of the task, lock's removal.
FEW = 2
CHANGES = 2 * FEW + 4


@pytest.mark.slow
@pytest.mark.parametrize("point", EVERY_POINT)
def test_is_killed_in_every_stage_on_files_and_resumes(
    checkmate_file_url: str, log: Path, workers: Workers, tally: Tally, point: str
) -> None:
    _kill_in_every_stage(checkmate_file_url, log, workers, tally, point)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["middle", "RUNNING", "COMPLETE"])
def test_is_killed_in_every_stage_on_s3_and_resumes(
    checkmate_s3_url: str, log: Path, workers: Workers, tally: Tally, point: str
) -> None:
    _kill_in_every_stage(checkmate_s3_url, log, workers, tally, point)


def _kill_in_every_stage(url: str, log: Path, workers: Workers, tally: Tally, point: str) -> None:
    for index in range(STAGES):
        job = Job(url=url, task_ids=["t"], log=str(log), die=f"{index}:{point}")
        ended = workers.start(job).wait()
        assert ended.was_killed, ended
        assert ended.took_over == (index > 0), ended
        stages = TaskStore(url).get("t").stages
        assert [stage.status for stage in stages] == [
            *[StageStatus.COMPLETE] * index,
            StageStatus.COMPLETE if point == "COMPLETE" else StageStatus.RUNNING,
            *[StageStatus.CREATED] * (STAGES - index - 1),
        ]
    last = workers.start(Job(url=url, task_ids=["t"], log=str(log))).finish()
    assert last.took_over
    check_finished(url, "t", log, tally)
    # Killed before or after the stage's own code, its code runs once; killed within it, twice.
    runs = 2 if point in ("start", "middle", "end") else 1
    expected = [index for index in range(STAGES) for _ in range(runs)]
    assert [each.index for each in executions(log)["t"]] == expected


@pytest.mark.slow
def test_is_killed_after_every_change_of_the_store_and_resumes(
    url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    for change in range(1, CHANGES + 1):
        task_id = f"t{change}"
        job = Job(url=url, task_ids=[task_id], log=str(log), stages=FEW, die_after_change=change)
        first = workers.start(job).wait()
        assert first.was_killed, (change, first)
        second = workers.start(Job(url=url, task_ids=[task_id], log=str(log), stages=FEW)).finish()
        # After the last change the lock is gone.
        assert second.took_over == (change < CHANGES), (change, second)
        check_finished(url, task_id, log, tally)


def test_makes_no_more_changes_than_are_tested(url: str, log: Path, workers: Workers) -> None:
    job = Job(url=url, task_ids=["t"], log=str(log), stages=FEW, die_after_change=CHANGES + 1)
    workers.start(job).finish()
