"""A lock is taken at once from a holder that is proven dead on this very host; from others by their lease."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from checkmate import (
    BindException,
    BindLock,
    TaskIO,
    open_task_io,
)
from checkmate_core.types import StoredObject

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
lock = BindLock(open_task_io(sys.argv[1]), sys.argv[2], lease=None)
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


LEASE = 60.0
FOREIGN = {"boot_id": "00000000-0000-4000-8000-000000000000", "lease_s": LEASE}


@dataclass
class Aged:
    """A store that says how old its objects are."""

    io: TaskIO
    age: float | None

    def read(self, obj_name: str) -> StoredObject:
        return replace(self.io.read(obj_name), age=self.age)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.io, name)


def aged(io: TaskIO, age: float | None) -> TaskIO:
    return cast("TaskIO", Aged(io, age))


@pytest.mark.parametrize("age", [None, 0.0])
def test_a_silent_holder_elsewhere_is_taken_over_after_a_whole_lease_and_never_earlier(
    io: TaskIO, dead_holder: bytes, clock: FakeClock, age: float | None
) -> None:
    io.write(LOCK, dead_holder)
    edit(io, LOCK, **FOREIGN)
    before, began = raw(io), clock.time
    with pytest.raises(BindException, match="silent for 60 s"):
        # The lease is the holder's; what the waiter's will be does not matter.
        BindLock(aged(io, age), LOCK, acquire_timeout=LEASE, lease=1.0, clock=clock).acquire()
    assert clock.time - began == LEASE
    assert raw(io) == before
    began = clock.time
    with BindLock(aged(io, age), LOCK, acquire_timeout=4 * LEASE, clock=clock) as lock:
        assert lock.epoch == 2
        # Seen once in every second or so.
        assert LEASE < clock.time - began < LEASE + 2.0


def test_a_holder_that_renews_is_never_taken_over(io: TaskIO, dead_holder: bytes, clock: FakeClock) -> None:
    io.write(LOCK, dead_holder)
    edit(io, LOCK, **FOREIGN)
    renewed = [clock.time]

    def renew() -> None:
        if clock.time - renewed[-1] >= LEASE - 2:
            renewed.append(clock.time)
            edit(io, LOCK, write_id=f"renewal {clock.time}")

    clock.on_sleep = renew
    with pytest.raises(BindException):
        BindLock(aged(io, None), LOCK, acquire_timeout=4 * LEASE, clock=clock).acquire()
    assert len(renewed) > 3
    clock.on_sleep = None
    last = clock.time
    edit(io, LOCK, write_id="the last one")
    with BindLock(aged(io, None), LOCK, acquire_timeout=4 * LEASE, clock=clock):
        assert clock.time - last > LEASE


def test_who_comes_back_after_a_lease_and_finds_nothing_changed_does_not_wait_again(
    io: TaskIO, dead_holder: bytes, clock: FakeClock
) -> None:
    io.write(LOCK, dead_holder)
    edit(io, LOCK, **FOREIGN)
    lock = BindLock(aged(io, None), LOCK, clock=clock)
    for seconds in (0.0, LEASE):
        clock.pass_time(seconds)
        with pytest.raises(BindException):
            lock.acquire()
    clock.pass_time(0.001)
    lock.acquire()
    assert lock.epoch == 2


@pytest.mark.parametrize(("age", "is_free"), [(None, False), (LEASE, False), (LEASE + 0.001, True)])
def test_a_lock_that_is_older_than_its_lease_by_the_stores_own_clock_is_free_at_once(
    io: TaskIO, dead_holder: bytes, clock: FakeClock, age: float | None, is_free: bool
) -> None:
    io.write(LOCK, dead_holder)
    # What the holder's clock said is for people.
    edit(io, LOCK, acquired_at="2001-01-01T00:00:00Z", renewed_at="2001-01-01T00:00:00Z", **FOREIGN)
    lock = BindLock(aged(io, age), LOCK, clock=clock)
    if is_free:
        lock.acquire()
        assert lock.epoch == 2
    else:
        with pytest.raises(BindException):
            lock.acquire()


def test_a_lock_without_a_lease_is_not_taken_over_however_old_it_is(
    io: TaskIO, dead_holder: bytes, clock: FakeClock
) -> None:
    io.write(LOCK, dead_holder)
    edit(io, LOCK, **{**FOREIGN, "lease_s": None})
    before = raw(io)
    with pytest.raises(BindException, match="checkmate unlock"):
        BindLock(aged(io, 1e9), LOCK, acquire_timeout=4 * LEASE, clock=clock).acquire()
    assert raw(io) == before


@pytest.mark.parametrize("count", [2, 5])
def test_of_many_who_saw_the_lease_run_out_one_gets_the_lock(
    io: TaskIO, dead_holder: bytes, clock: FakeClock, count: int
) -> None:
    io.write(LOCK, dead_holder)
    edit(io, LOCK, **FOREIGN)
    waiters = [BindLock(aged(io, None), LOCK, clock=clock) for _ in range(count)]
    for waiter in waiters:
        with pytest.raises(BindException):
            waiter.acquire()
    clock.pass_time(LEASE + 0.001)
    for waiter in waiters:
        waiter.observe()
    waiters[-1].acquire()
    for waiter in waiters[:-1]:
        # It goes by what it saw, and its swap fails.
        with pytest.raises(BindException):
            waiter.acquire()
    assert document(io, LOCK)["owner"] == waiters[-1].owner


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
