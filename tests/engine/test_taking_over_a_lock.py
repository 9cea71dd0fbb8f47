"""A lock is taken from a holder that is proven dead on this very host, and from nobody else."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkmate import (
    BindException,
    BindLock,
    TaskIO,
    open_task_io,
)

from .pipelines import (
    LOCK,
    FakeClock,
    Logged,
    document,
    edit,
    engine_for,
    is_locked,
    raw,
    stage_documents,
    steps,
)

HOLDER = """
import sys, time
from checkmate import BindLock, open_task_io
lock = BindLock(open_task_io(sys.argv[1]), sys.argv[2])
lock.acquire()
print(lock.epoch, flush=True)
sys.stdin.read()
"""


def held_by_a_process(url: str, name: str = LOCK) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip().isdigit()
    return holder


@pytest.fixture(scope="module")
def dead_holder(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The lock of a process that was killed on this host."""
    url = (tmp_path_factory.mktemp("dead") / "store").as_uri()
    end(held_by_a_process(url))
    return open_task_io(url).read(LOCK).data


def end(holder: "subprocess.Popen[str]") -> None:
    holder.send_signal(signal.SIGKILL)
    holder.communicate()


def test_a_dead_holder_on_this_host_is_taken_over_at_once(checkmate_file_url: str) -> None:
    io = open_task_io(checkmate_file_url)
    holder = held_by_a_process(checkmate_file_url)
    with pytest.raises(BindException, match=f"pid {holder.pid} "):
        BindLock(io, LOCK).acquire()
    end(holder)
    with BindLock(io, LOCK) as lock:
        assert lock.epoch == 2
        assert document(io, LOCK)["pid"] == os.getpid()


def test_a_dead_holder_that_nobody_has_waited_for_is_taken_over_too(checkmate_file_url: str) -> None:
    """The parent that starts a worker again has often not reaped the killed one yet."""
    holder = held_by_a_process(checkmate_file_url)
    try:
        holder.send_signal(signal.SIGKILL)
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        with BindLock(open_task_io(checkmate_file_url), LOCK) as lock:
            assert lock.epoch == 2
    finally:
        end(holder)


def test_a_pid_that_was_used_again_is_a_dead_holder(io: TaskIO) -> None:
    BindLock(io, LOCK).acquire()
    started = document(io, LOCK)["pid_started"]
    edit(io, LOCK, pid_started=started - 1)
    with BindLock(io, LOCK) as lock:
        assert lock.epoch == 2


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"boot_id": "00000000-0000-4000-8000-000000000000"},
        {"pid_ns": "pid:[1]"},
        {"boot_id": None},
        {"pid_ns": None},
        {"pid_started": None},
        {"boot_id": "00000000-0000-4000-8000-000000000000", "host": "another-host"},
    ],
    ids=str,
)
def test_a_holder_that_cannot_be_proven_dead_is_never_taken_over(
    io: TaskIO, dead_holder: bytes, elsewhere: dict[str, Any]
) -> None:
    io.write(LOCK, dead_holder)
    edit(io, LOCK, acquired_at="2001-01-01T00:00:00Z", renewed_at="2001-01-01T00:00:00Z", **elsewhere)
    before = raw(io)
    with pytest.raises(BindException, match="2001-01-01"):
        BindLock(io, LOCK, acquire_timeout=100.0, clock=FakeClock()).acquire()
    assert raw(io) == before
    assert BindLock(io, LOCK).force_unlock() is not None
    with BindLock(io, LOCK) as lock:
        assert lock.epoch == 2


def test_a_killed_worker_can_simply_be_started_again(
    checkmate_file_url: str, tmp_path: Path, log: Logged
) -> None:
    io = open_task_io(checkmate_file_url)
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from checkmate import open_task_io\n"
        f"from {steps.__module__} import engine_for, steps\n"
        "def die(stage, previous):\n"
        "    if stage.stage_name == 'b': os.kill(os.getpid(), signal.SIGKILL)\n"
        "with engine_for(open_task_io(sys.argv[1]), steps(action=die)) as engine:\n"
        "    engine.execute()\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    died = subprocess.run(
        [sys.executable, str(script), checkmate_file_url], env=environment, cwd=root, timeout=60
    )
    assert died.returncode == -signal.SIGKILL
    assert is_locked(io)
    assert [stage["status"] for stage in stage_documents(io)] == ["COMPLETE", "RUNNING"]
    with engine_for(io, steps(action=log)) as engine:
        assert engine.fencing_token == 2
        engine.execute(strict_recovery=True)
    assert log.names == ["b", "c"]
