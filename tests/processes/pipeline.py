"""A pipeline of six stages that can be told to die, to wait or to fill its disk at any point.

A worker does one job and prints how it ended as a line of JSON.
"""

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from checkmate_core import BaseStage, BaseStageState, CheckMate, TaskIO, open_task_io, process
from checkmate_core.layout import PROBE_PREFIX
from checkmate_core.lease import DEFAULT_LEASE
from checkmate_core.testing import CountingTaskIO
from checkmate_core.types import ANY, Expect, RemoveExpect, Version

STAGES = 6
_LONGEST_WAIT = 120.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one worker is to do.

    Attributes:
        url: The store.
        task_ids: The tasks to run, one after another.
        log: Where each execution of a stage leaves one line.
        wait: Seconds to wait for a task's lock.
        lease: Seconds that the worker may be silent; None is for ever.
        boot: The worker's host claims to be in this boot: another than the real one makes it another
            host, whose processes nobody here can prove dead.
        pause: Seconds that each stage takes.
        die: ``INDEX:POINT``: kill this process there. Points: start, middle, end (of the stage's own
            code), RUNNING, COMPLETE (just after that was stored).
        die_after_change: Kill this process after so many writes and removes of the task's objects.
        hold: Index of the stage that waits until ``gate`` exists.
        gate: See there.
        ask: What that stage asks while it waits: ``check_alive`` or ``lock_lost``.
        fill: A file that the stage ``hold`` lets grow until its disk is full.
        ballast: So many bytes of state in the stage ``hold``.
        file_limit: No file that this process writes can grow beyond so many bytes.
        stages: How many stages the pipeline has.
        long: Do the pipeline of `long_pipeline` instead: ``run``, ``arun`` (in an event loop), ``fail``
            (its last stage fails, and the task is rolled back) or ``isolated`` (items in a child process).
        children: Instead of ``task_ids``: bind the task ``parent``, start so many processes that run
            ``child-0`` and so on, execute ``parent`` meanwhile, then ask for the children's results.
        method: How `multiprocessing` starts the children.
    """

    url: str
    task_ids: Sequence[str]
    log: str
    wait: float | None = None
    lease: float | None = DEFAULT_LEASE
    boot: str | None = None
    pause: float = 0.0
    die: str | None = None
    die_after_change: int | None = None
    hold: int | None = None
    gate: str | None = None
    ask: str | None = None
    fill: str | None = None
    ballast: int = 0
    file_limit: int | None = None
    stages: int = STAGES
    long: str | None = None
    children: int = 0
    method: str = "spawn"


class PipelineState(BaseStageState):
    total: int | None = None
    trail: list[str] | None = None
    digest: str | None = None
    ballast: str | None = None
    pid: int | None = None


class Step(BaseStage[PipelineState]):
    """Adds to a sum, a trail and a chain of digests; adding twice would show in the state."""

    state: PipelineState = Field(default_factory=PipelineState)
    index: int
    job: Any = Field(default=None, exclude=True)

    def execute_stage(self, previous_state_copy: PipelineState) -> None:
        job: Job = self.job
        log_execution(job.log, self.engine.task_id, self.index, self.engine.fencing_token)
        self._maybe_die("start")
        if job.hold == self.index:
            if job.gate:
                wait_for(lambda gate=Path(job.gate): gate.exists() or self._is_lost())
            if job.fill:
                fill_disk(job.fill)
            if job.ballast:
                self.state.ballast = "x" * job.ballast
        self.state.total = (self.state.total or 0) + self.index + 1
        self.state.trail = [*(self.state.trail or []), self.stage_name]
        self._maybe_die("middle")
        time.sleep(job.pause)
        before = previous_state_copy.digest or ""
        self.state.digest = hashlib.sha256(f"{before}/{self.stage_name}".encode()).hexdigest()
        self.state.pid = os.getpid()
        self.state.result = f"{self.state.total} {self.state.digest}"
        self._maybe_die("end")

    def rollback_stage(self, previous_state_copy: PipelineState) -> None:
        log_execution(f"{self.job.log}.rollbacks", self.engine.task_id, self.index, self.engine.fencing_token)

    def _is_lost(self) -> bool:
        if self.job.ask == "check_alive":
            self.check_alive()
        return self.job.ask == "lock_lost" and self.engine.lock_lost

    def _maybe_die(self, point: str) -> None:
        if self.job.die == f"{self.index}:{point}":
            die()


class Pipeline(CheckMate[Step, str]):
    def state_update_hook(self, stage: Step) -> None:
        if stage.job.die == f"{stage.index}:{stage.status}":
            die()


class DyingTaskIO(CountingTaskIO):
    """Kills this process after so many writes and removes of its task's objects."""

    def __init__(self, io: TaskIO, changes: int) -> None:
        super().__init__(io)
        self._left = changes

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        version = super().write(obj_name, data, expect=expect)
        self._count_down(obj_name)
        return version

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        super().remove(obj_name, expect=expect)
        self._count_down(obj_name)

    def _count_down(self, obj_name: str) -> None:
        self._left -= not obj_name.startswith(PROBE_PREFIX)
        if self._left == 0:
            die()


def cm_factory_pipeline(job: Job, task_id: str, io: TaskIO | str | None = None) -> Pipeline:
    stages = [Step(stage_name=f"step {index}", index=index, job=job) for index in range(job.stages)]
    return Pipeline(
        io or job.url,
        task_id,
        stages,
        bind_lock_timeout=job.wait,
        lease=job.lease,
        # That a stage which keeps killing its process is stopped is tested elsewhere.
        max_interruptions=1000,
    )


def log_execution(path: str, task_id: str, index: int, epoch: int | None) -> None:
    """Append one line in one write, so that lines of several processes do not mix."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{task_id} {index} {os.getpid()} {epoch}\n".encode())
    finally:
        os.close(fd)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    while True:  # whatever the kernel still lets us do, we do not
        signal.pause()


def wait_for(is_met: Any) -> None:
    deadline = time.monotonic() + _LONGEST_WAIT
    while not is_met():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.002)


def fill_disk(path: str) -> None:
    with open(path, "ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def do(job: Job) -> dict[str, str | None]:
    """Run the tasks; their results."""
    if job.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.file_limit, resource.RLIM_INFINITY))
    if job.long:
        from .long_pipeline import do_long

        return {task_id: do_long(job, task_id) for task_id in job.task_ids}
    io = open_task_io(job.url)
    if job.children:
        return do_with_children(job)
    if job.die_after_change is not None:
        io = DyingTaskIO(io, job.die_after_change)
    return {task_id: cm_factory_pipeline(job, task_id, io).run() for task_id in job.task_ids}


def do_with_children(job: Job) -> dict[str, str | None]:
    context: Any = multiprocessing.get_context(job.method)
    task_ids = [f"child-{number}" for number in range(job.children)]
    with cm_factory_pipeline(job, "parent") as parent:
        children = [context.Process(target=be_child, args=(job, task_id)) for task_id in task_ids]
        for child in children:
            child.start()
        parent.execute()
        for child in children:
            child.join(_LONGEST_WAIT)
        failed = [child.exitcode for child in children if child.exitcode != 0]
        if failed:
            raise RuntimeError(f"children ended with {failed}")
        results = {"parent": parent.task_result}
    return results | {task_id: cm_factory_pipeline(job, task_id).run() for task_id in task_ids}


def be_child(job: Job, task_id: str) -> None:
    cm_factory_pipeline(job, task_id).run()


def main(job: Job) -> int:
    # A shell starts what it puts into the background with interrupts ignored, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if job.boot is not None:
        process._boot_id = lambda: job.boot
    try:
        ended: dict[str, Any] = {"results": do(job)}
    except BaseException as exc:
        ended = {"error": type(exc).__name__, "message": str(exc)}
    print(json.dumps(ended), flush=True)
    return 1 if "error" in ended else 0


def work(job: Job, environment: Mapping[str, str], said: str, errors: str) -> None:
    """What a worker process does.

    Args:
        job: Its job.
        environment: Environment variables.
        said: The file that becomes its standard output.
        errors: The file that becomes its standard error.
    """
    for path, fd in ((said, 1), (errors, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    os.environ.update(environment)
    sys.exit(main(job))
