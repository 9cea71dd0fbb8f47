"""What must be true of a task that workers were killed over."""

import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from checkmate_core import StageStatus, StageView, TaskStore, open_task_io
from checkmate_core.layout import LOCKS_PREFIX

from .pipeline import Job, cm_factory_pipeline
from .tallies import Tally

# Which process did it, unlike what it did, differs from run to run.
_VARYING = {"pid"}


@dataclass(frozen=True)
class Execution:
    """One line of the log of executions."""

    index: int
    pid: int
    epoch: int


def executions(log: Path) -> dict[str, list[Execution]]:
    """The executions of each task in the order in which they began."""
    found: dict[str, list[Execution]] = defaultdict(list)
    for line in log.read_text().splitlines() if log.exists() else ():
        task_id, index, pid, epoch = line.split()
        found[task_id].append(Execution(int(index), int(pid), int(epoch)))
    return found


@cache
def undisturbed_states(stages: int) -> list[dict[str, Any]]:
    """The state of each stage after a run that nobody disturbed."""
    url = f"memory://undisturbed-{uuid4().hex}"
    cm_factory_pipeline(Job(url=url, task_ids=["t"], log=os.devnull, stages=stages), "t").run()
    return [_lasting(stage) for stage in TaskStore(url).get("t").stages]


def check_finished(url: str, task_id: str, log: Path, tally: Tally) -> None:
    """The task is complete, as if nobody had disturbed it, and left nothing behind."""
    task = TaskStore(url).get(task_id)
    assert task.status is StageStatus.COMPLETE
    assert task.holder is None
    assert [info.name for info in open_task_io(url).list(f"{LOCKS_PREFIX}{task_id}")] == []
    assert [_lasting(stage) for stage in task.stages] == undisturbed_states(len(task.stages))
    # By epoch: an earlier owner that was slow may have logged an execution late, and then met the fence.
    done = sorted(executions(log)[task_id], key=lambda each: each.epoch)
    tally.executions += len(done)
    # A stage begins only behind the completed one before it: none was begun again after its successor.
    assert [each.index for each in done] == sorted(each.index for each in done)
    for index, stage in enumerate(task.stages):
        check_stage(stage, [each for each in done if each.index == index], tally)


def check_stage(stage: StageView, done: list[Execution], tally: Tally) -> None:
    """The stage was committed once, by the last who executed it, and no execution went unrecorded."""
    statuses = [entry.status for entry in stage.history]
    commits = statuses.count(StageStatus.COMPLETE)
    tally.commits += commits
    tally.doubled += max(0, commits - 1)
    tally.lost += commits == 0
    assert commits == 1
    assert statuses[-1] is StageStatus.COMPLETE
    begun = [entry.epoch for entry in stage.history if entry.status is StageStatus.RUNNING]
    assert len(begun) == stage.attempts
    epochs = [entry.epoch for entry in stage.history]
    assert epochs == sorted(epoch for epoch in epochs if epoch is not None)
    executed = [each.epoch for each in done]
    assert len(set(executed)) == len(executed), "an owner executed a stage twice"
    assert set(executed) <= set(begun), "an execution whose beginning was not stored"
    assert stage.history[-1].epoch == executed[-1], "the last to execute it committed it"
    assert stage.state["pid"] == done[-1].pid


def _lasting(stage: StageView) -> dict[str, Any]:
    return {name: value for name, value in stage.state.items() if name not in _VARYING}
