"""Tasks in forked and spawned children, and in threads, all on one store."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .checks import check_finished, executions
from .pipeline import Job, cm_factory_pipeline
from .tallies import Tally
from .workers import Workers

CHILDREN = 4
THREADS = 16


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_run_their_own_tasks(
    url: str, log: Path, workers: Workers, tally: Tally, method: str
) -> None:
    job = Job(url=url, task_ids=(), log=str(log), children=CHILDREN, method=method, stages=3)
    parent = workers.start(job)
    results = parent.finish().said["results"]
    assert len(results) == CHILDREN + 1
    assert len(set(results.values())) == 1
    for task_id in results:
        check_finished(url, task_id, log, tally)
    # The parent, who asked again for what its children had done, executed none of it.
    done = executions(log)
    assert {task_id for task_id in results if parent.pid in {each.pid for each in done[task_id]}} == {
        "parent"
    }
    assert all(len(each) == 3 for each in done.values())


@pytest.mark.parametrize("url", ["memory", "file", "s3"], indirect=True)
def test_threads_run_their_own_tasks(url: str, log: Path, tally: Tally) -> None:
    task_ids = [f"t{number}" for number in range(THREADS)]
    job = Job(url=url, task_ids=task_ids, log=str(log), stages=3)
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(lambda task_id: cm_factory_pipeline(job, task_id).run(), task_ids))
    assert len(set(results)) == 1
    for task_id in task_ids:
        check_finished(url, task_id, log, tally)


@pytest.mark.parametrize("url", ["memory", "file", "s3"], indirect=True)
def test_threads_that_race_for_one_task_run_it_once(url: str, log: Path, tally: Tally) -> None:
    job = Job(url=url, task_ids=["t"], log=str(log), wait=100.0, stages=3)
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(lambda _: cm_factory_pipeline(job, "t").run(), range(THREADS)))
    assert len(set(results)) == 1
    check_finished(url, "t", log, tally)
    assert [each.index for each in executions(log)["t"]] == [0, 1, 2]
