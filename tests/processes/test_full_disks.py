"""Local files when there is no room for the next checkpoint."""

import json
from pathlib import Path

import pytest

from checkmate_core import StageStatus, TaskStore

from .checks import executions
from .disks import SmallDisk, limited_files, small_disk
from .pipeline import STAGES, Job
from .workers import Workers

HELD = 3


@pytest.mark.slow
def test_a_full_disk_fails_the_task_and_harms_nothing(tmp_path: Path, log: Path, workers: Workers) -> None:
    with small_disk(tmp_path) as disk:
        _run_out_of_room(disk, log, workers)


@pytest.mark.slow
def test_a_file_size_limit_fails_the_task_and_harms_nothing(
    tmp_path: Path, log: Path, workers: Workers
) -> None:
    _run_out_of_room(limited_files(tmp_path / "files"), log, workers)


def _run_out_of_room(disk: SmallDisk, log: Path, workers: Workers) -> None:
    store = disk.folder / "store"
    url = store.as_uri()
    fill = None if disk.filler is None else str(disk.filler)
    job = Job(
        url=url,
        task_ids=["t"],
        log=str(log),
        hold=HELD,
        fill=fill,
        ballast=1 << 17,
        file_limit=disk.file_limit,
    )
    ended = workers.start(job).wait()
    assert ended.said["error"] == "StorageUnavailableException", ended
    assert ".json" in ended.said["message"] or ".lock" in ended.said["message"]

    # Every object is whole, and tells what was acknowledged.
    for path in (*store.glob("t/**/*.json"), *store.glob("_locks/*")):
        json.loads(path.read_bytes())
    assert [stage.status for stage in TaskStore(url).get("t").stages] == [
        *[StageStatus.COMPLETE] * HELD,
        StageStatus.RUNNING,
        *[StageStatus.CREATED] * (STAGES - HELD - 1),
    ]
    # Nothing of the failed writes is left to take up room.
    assert list((store / ".checkmate/tmp").iterdir()) == []

    disk.make_room()
    workers.start(Job(url=url, task_ids=["t"], log=str(log), hold=HELD, ballast=1 << 17)).finish()
    task = TaskStore(url).get("t")
    assert task.status is StageStatus.COMPLETE
    assert task.holder is None
    assert task.stages[-1].state["ballast"] == "x" * (1 << 17)
    assert [each.index for each in executions(log)["t"]] == [0, 1, 2, 3, 3, 4, 5]
