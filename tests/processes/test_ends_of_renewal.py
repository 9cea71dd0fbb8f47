"""Renewal ends with the hold on the task, with the process, and in a forked child."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from checkmate_core import CheckMateEngine, open_task_io
from checkmate_core.layout import lock_object_name
from checkmate_core.lock_record import read_lock, read_lock_version

from .pipeline import Job, PipelineState, Step
from .proxy import Fault, Proxy
from .workers import TIMEOUT, wait_until

ROOT = Path(__file__).parents[2]
BOUND = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.processes.pipeline import Job, cm_factory_pipeline
job = Job(url=sys.argv[1], task_ids=["t"], log=os.devnull, lease=float(sys.argv[2]))
engine = cm_factory_pipeline(job, "t")
engine.bind()
"""
# As strict as Python gets: warnings are errors, and it tells of whatever was left open. In its
# development mode the HTTP client under S3 would refuse the answers of moto, which name two servers.
STRICT = {
    "file": ("-X", "dev", "-W", "error"),
    "gs": ("-X", "dev", "-W", "error"),
    "az": ("-X", "dev", "-W", "error"),
    "s3": ("-W", "error"),
}


@contextmanager
def running(script: str, url: str, lease: float) -> Iterator["subprocess.Popen[str]"]:
    """A process that has bound a task and then does what the script says."""
    command = [sys.executable, *STRICT[url.partition(":")[0]], "-c", BOUND + script, url, str(lease)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def check_silent_end(process: "subprocess.Popen[str]") -> None:
    # The bound is only for a process that never ends.
    _, errors = process.communicate("", timeout=TIMEOUT)
    assert process.returncode == 0, errors
    assert errors == ""


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip() or process.communicate("", timeout=TIMEOUT)[1]


def test_ends_at_unbind(url: str) -> None:
    name = f"checkmate renews {lock_object_name('unbound')}"

    def is_renewing() -> bool:
        return name in {thread.name for thread in threading.enumerate()}

    stages = [Step(stage_name="a", index=0, job=Job(url=url, task_ids=["unbound"], log=os.devnull))]
    engine = CheckMateEngine[Step, PipelineState](url, "unbound", stages)
    engine.bind()
    assert is_renewing()
    engine.unbind()
    wait_until(lambda: not is_renewing())


def test_ends_when_the_interpreter_exits_without_unbinding(url: str) -> None:
    """It is due in twenty seconds and would go on for ever."""
    with running("", url, 60.0) as process:
        check_silent_end(process)
    held = read_lock(open_task_io(url), lock_object_name("t"))
    assert held is not None
    assert held.owner is not None


@pytest.mark.slow
def test_does_not_hold_up_an_exit_in_the_middle_of_a_request(proxied_url: str, proxy: Proxy) -> None:
    with running('print("bound", flush=True); sys.stdin.read()', proxied_url, 12.0) as process:
        assert read_line(process) == "bound"
        proxy.plan = lambda: Fault.STALL
        wait_until(lambda: proxy.counts[Fault.STALL] > 0)
        check_silent_end(process)
    # Its first request was still waiting for an answer when it ended: nothing had been sent again.
    assert proxy.counts[Fault.STALL] == 1


@pytest.mark.slow
def test_ends_with_the_parent_of_a_forked_child(url: str) -> None:
    """The child lives on, and holds nothing."""
    script = """
import threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # that one should not fork with threads: one does
pid = os.fork()
if pid == 0:
    os.write(1, f"{','.join(thread.name for thread in threading.enumerate())}\\n".encode())
    sys.stdin.read()
    os._exit(0)
os.write(1, f"{pid}\\n".encode())
os.waitpid(pid, 0)
"""
    io, lease = open_task_io(url), 3.0
    with running(script, url, lease) as parent:
        child, threads = sorted(read_line(parent) for _ in range(2))
        assert threads == "MainThread"
        parent.kill()
        parent.wait(TIMEOUT)
        left, began = read_lock_version(io, lock_object_name("t")), time.monotonic()
        wait_until(lambda: time.monotonic() - began > lease)
        os.kill(int(child), 0)
        assert read_lock_version(io, lock_object_name("t")) == left


@pytest.mark.slow
def test_goes_on_while_the_process_lives(url: str) -> None:
    """Without this, the tests above would pass with nothing that renews."""
    io = open_task_io(url)
    with running('print("bound", flush=True); sys.stdin.read()', url, 15.0) as process:
        assert read_line(process) == "bound"
        acquired = io.read(lock_object_name("t")).version
        wait_until(lambda: io.read(lock_object_name("t")).version != acquired)
        check_silent_end(process)
