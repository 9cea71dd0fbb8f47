"""Local files on a disk that is full, or cannot be written to, while the task is being worked on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from checkmate_core import StageStatus, TaskStore, open_task_io
from checkmate_core.layout import lock_object_name

from .checks import check_finished, executions
from .disks import Disk, blockable_disk
from .pipeline import Job
from .tallies import Tally
from .workers import Worker, Workers, wait_until

HELD = 2
LOCK = lock_object_name("t")


@pytest.fixture(params=["full", "read-only"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with blockable_disk(tmp_path, is_full=request.param == "full") as disk:
        yield disk


@pytest.fixture
def store(disk: Disk) -> Path:
    return disk.folder / "store"


def held(job: Job, log: Path, workers: Workers) -> Worker:
    worker = workers.start(job)
    wait_until(lambda: worker.has_ended or len(executions(log)["t"]) > HELD)
    assert not worker.has_ended, worker.wait()
    return worker


def contents(store: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_a_new_task_cannot_be_bound_and_leaves_nothing_behind(
    disk: Disk, store: Path, log: Path, workers: Workers, tally: Tally
) -> None:
    job = Job(url=store.as_uri(), task_ids=["t"], log=str(log))
    disk.block()
    ended = workers.start(job).wait()
    assert ended.said["error"] == "StorageUnavailableException", ended
    assert f"{store.as_uri()}/{LOCK}" in ended.said["message"]
    assert disk.reason in ended.said["message"]
    assert executions(log) == {}
    disk.unblock()
    assert not [path for path in store.rglob("*") if path.is_file() and path.parent.name != "locks"]
    assert not workers.start(job).finish().took_over
    check_finished(job.url, "t", log, tally)


def test_a_task_that_is_there_cannot_be_bound_and_is_not_changed(
    disk: Disk, store: Path, log: Path, workers: Workers, tally: Tally
) -> None:
    job = Job(url=store.as_uri(), task_ids=["t"], log=str(log))
    died = workers.start(Job(url=job.url, task_ids=["t"], log=str(log), die=f"{HELD}:middle"))
    assert died.wait().was_killed
    before = contents(store)
    disk.block()
    ended = workers.start(job).wait()
    assert ended.said["error"] == "StorageUnavailableException", ended
    assert f"{store.as_uri()}/{LOCK}" in ended.said["message"]
    disk.unblock()
    assert contents(store) == before
    assert workers.start(job).finish().took_over
    check_finished(job.url, "t", log, tally)


def test_a_holder_that_cannot_renew_for_less_than_its_lease_goes_on(
    disk: Disk, store: Path, log: Path, workers: Workers, tally: Tally
) -> None:
    gate, io = log.with_name("gate"), open_task_io(store.as_uri())
    job = Job(url=store.as_uri(), task_ids=["t"], log=str(log), lease=12.0, hold=HELD, gate=str(gate))
    worker = held(job, log, workers)
    before = io.read(LOCK).version
    disk.block()
    wait_until(lambda: "sending it again" in worker.errors)
    assert io.read(LOCK).version == before
    disk.unblock()
    wait_until(lambda: io.read(LOCK).version != before)
    gate.touch()
    worker.finish()
    check_finished(job.url, "t", log, tally)
    assert {each.pid for each in executions(log)["t"]} == {worker.pid}


def test_a_holder_that_cannot_renew_for_its_lease_is_lost_and_its_task_resumes(
    disk: Disk, store: Path, log: Path, workers: Workers, tally: Tally
) -> None:
    never = str(log.with_name("never"))
    url = store.as_uri()
    job = Job(url=url, task_ids=["t"], log=str(log), lease=6.0, hold=HELD, gate=never, ask="check_alive")
    worker = held(job, log, workers)
    disk.block()
    ended = worker.wait()
    assert ended.was_fenced, ended
    assert TaskStore(url).get("t").stages[HELD].status is StageStatus.RUNNING
    disk.unblock()
    assert workers.start(Job(url=url, task_ids=["t"], log=str(log))).finish().took_over
    check_finished(url, "t", log, tally)
    assert [each.index for each in executions(log)["t"]] == [0, 1, 2, 2, 3, 4, 5]
