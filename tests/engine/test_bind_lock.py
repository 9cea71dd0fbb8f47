"""BindLock: who holds it, how it is waited for, when it may be taken from somebody else."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from checkmate import (
    BindException,
    BindLock,
    LockLostException,
    TaskEngineException,
    TaskIO,
    UnsupportedBackendException,
    open_task_io,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.types import Capability

from .pipelines import LOCK, TASK, FakeClock, Logged, document, edit, engine_for, is_locked, raw, stage_documents, steps

HOLDER = """
import sys, time
from checkmate import BindLock, open_task_io
lock = BindLock(open_task_io(sys.argv[1]), sys.argv[2])
lock.acquire()
print(lock.epoch, flush=True)
sys.stdin.read()
"""


class Limited(MemoryTaskIO):
    """A store that cannot do everything."""

    def __init__(self, *missing: Capability) -> None:
        super().__init__(f"memory://limited-{uuid.uuid4().hex}")
        self.capabilities = frozenset(Capability) - set(missing)  # type: ignore[misc]


def held_by_a_process(url: str, name: str = LOCK) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip().isdigit()
    return holder


def end(holder: "subprocess.Popen[str]") -> None:
    holder.send_signal(signal.SIGKILL)
    holder.communicate()


def test_it_is_held_and_released(io: TaskIO) -> None:
    lock = BindLock(io, LOCK)
    assert lock.owner is None
    with lock as entered:
        assert entered is lock
        found = document(io, LOCK)
        assert found["owner"] == lock.owner is not None
        assert (found["epoch"], found["lease_s"], found["pid"]) == (1, None, os.getpid())
        assert lock.epoch == 1
    assert document(io, LOCK)["owner"] is None
    assert document(io, LOCK)["epoch"] == 1
    assert lock.owner is None


def test_it_is_released_when_the_block_raises(io: TaskIO) -> None:
    with pytest.raises(ZeroDivisionError), BindLock(io, LOCK):
        raise ZeroDivisionError
    assert not is_locked(io)


def test_a_second_acquirer_is_refused_at_once(io: TaskIO) -> None:
    with BindLock(io, LOCK):
        before = raw(io)
        for timeout in (None, 0.0):
            with pytest.raises(BindException, match=f"pid {os.getpid()}"):
                BindLock(io, LOCK, timeout).acquire()
            with pytest.raises(TaskEngineException), BindLock(io, LOCK, timeout):
                pass
        assert raw(io) == before


def test_to_release_what_is_not_held_does_nothing(io: TaskIO) -> None:
    lock = BindLock(io, LOCK)
    lock.release()
    assert raw(io) == {}
    with lock:
        pass
    before = raw(io)
    lock.release()
    assert raw(io) == before


def test_a_lock_that_is_held_cannot_be_acquired_again_through_the_same_object(io: TaskIO) -> None:
    with BindLock(io, LOCK) as lock:
        with pytest.raises(BindException):
            lock.acquire()
        assert is_locked(io)


def test_the_epoch_rises_with_every_acquisition(io: TaskIO) -> None:
    epochs = []
    for _ in range(5):
        with BindLock(io, LOCK) as lock:
            epochs.append(lock.epoch)
    with BindLock(io, LOCK, min_epoch=40) as lock:
        epochs.append(lock.epoch)
    with BindLock(io, LOCK, min_epoch=3) as lock:
        epochs.append(lock.epoch)
    assert epochs == [1, 2, 3, 4, 5, 40, 41]


def test_a_waiter_gets_the_lock_once_another_thread_releases_it(io: TaskIO) -> None:
    clock, polls = FakeClock(), threading.Event()
    clock.on_sleep = polls.set
    holder = BindLock(io, LOCK)
    holder.acquire()
    waiter = BindLock(io, LOCK, acquire_timeout=1e9, clock=clock)
    thread = threading.Thread(target=waiter.acquire)
    thread.start()
    assert polls.wait(30)
    holder.release()
    thread.join(30)
    assert waiter.owner == document(io, LOCK)["owner"]
    assert waiter.epoch == 2
    waiter.release()


def test_a_waiter_of_the_same_object_waits_too(io: TaskIO) -> None:
    lock = BindLock(io, LOCK, acquire_timeout=60)
    lock.acquire()
    waiter = threading.Thread(target=lock.acquire)
    waiter.start()
    lock.release()
    waiter.join(30)
    assert not waiter.is_alive()
    assert is_locked(io)
    lock.release()


def test_a_waiter_gives_up_after_its_timeout_and_not_before(io: TaskIO) -> None:
    clock = FakeClock()
    begin = clock.time
    with BindLock(io, LOCK):
        with pytest.raises(BindException, match="held by"):
            BindLock(io, LOCK, acquire_timeout=10.0, clock=clock).acquire()
    assert clock.time - begin == pytest.approx(10.0)
    assert len(set(clock.sleeps)) > 5, "polling with jitter"
    assert max(clock.sleeps) <= 1.0


def test_the_engines_timeout_is_that_of_its_lock(io: TaskIO, clock: FakeClock) -> None:
    holder = BindLock(io, LOCK)
    holder.acquire()
    clock.on_sleep = holder.release
    with engine_for(io, clock=clock, bind_lock_timeout=30.0) as engine:
        assert engine.has_lockfile
    assert clock.sleeps


def test_of_sixteen_threads_one_at_a_time_holds_it(io: TaskIO) -> None:
    inside, epochs, overlaps = [0], [], []
    shared = BindLock(io, LOCK, acquire_timeout=240)

    def work(number: int) -> None:
        lock = shared if number % 4 == 0 else BindLock(io, LOCK, acquire_timeout=240)
        for _ in range(2):
            with lock:
                inside[0] += 1
                overlaps.append(inside[0])
                epochs.append(document(io, LOCK)["epoch"])
                inside[0] -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(250)
    assert len(epochs) == 32
    assert set(overlaps) == {1}
    assert epochs == sorted(set(epochs)), "strictly increasing"
    assert not is_locked(io)


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
        {"boot_id": str(uuid.uuid4())},
        {"pid_ns": "pid:[1]"},
        {"boot_id": None},
        {"pid_ns": None},
        {"pid_started": None},
        {"boot_id": str(uuid.uuid4()), "host": "another-host"},
    ],
    ids=str,
)
def test_a_holder_that_cannot_be_proven_dead_is_never_taken_over(
    checkmate_file_url: str, elsewhere: dict[str, Any]
) -> None:
    io = open_task_io(checkmate_file_url)
    end(held_by_a_process(checkmate_file_url))
    edit(io, LOCK, acquired_at="2001-01-01T00:00:00Z", renewed_at="2001-01-01T00:00:00Z", **elsewhere)
    before = raw(io)
    with pytest.raises(BindException, match="2001-01-01"):
        BindLock(io, LOCK, acquire_timeout=1e6, clock=FakeClock()).acquire()
    assert raw(io) == before
    assert BindLock(io, LOCK).force_unlock() is not None
    with BindLock(io, LOCK) as lock:
        assert lock.epoch == 2


def test_a_killed_worker_can_simply_be_started_again(checkmate_file_url: str, tmp_path: Path, log: Logged) -> None:
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
    died = subprocess.run([sys.executable, str(script), checkmate_file_url], env=environment, cwd=root, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert is_locked(io)
    assert [stage["status"] for stage in stage_documents(io)] == ["COMPLETE", "RUNNING"]
    with engine_for(io, steps(action=log)) as engine:
        assert engine.fencing_token == 2
        engine.execute(strict_recovery=True)
    assert log.names == ["b", "c"]


def test_force_unlock_releases_whatever_is_there(io: TaskIO) -> None:
    lock = BindLock(io, LOCK)
    assert lock.force_unlock() is None
    assert raw(io) == {}
    lock.acquire()
    released = BindLock(io, LOCK).force_unlock()
    assert released is not None
    assert released.owner == lock.owner
    assert document(io, LOCK)["owner"] is None
    with BindLock(io, LOCK) as later:
        lock.release()
        assert document(io, LOCK)["owner"] == later.owner, "a release by the unlocked one disturbs nobody"


@pytest.mark.parametrize("missing", [Capability.CREATE, Capability.SWAP])
def test_a_store_that_cannot_hold_a_lock_is_refused_with_the_way_out(missing: Capability) -> None:
    io = Limited(missing)
    with pytest.raises(UnsupportedBackendException, match="no_lock=True"):
        BindLock(io, LOCK)
    with pytest.raises(UnsupportedBackendException, match="no_lock=True"):
        engine_for(io).bind()
    assert raw(io) == {}
    with engine_for(io, no_lock=True) as engine:
        engine.execute()
        assert engine.check_sync()
    with engine_for(io, no_lock=True) as engine:
        assert engine.task_result == 3


def test_where_nothing_can_be_removed_the_released_lock_says_finished() -> None:
    io = Limited(Capability.REMOVE_IF)
    with engine_for(io) as engine:
        engine.execute()
    assert not engine.has_lockfile
    found = document(io, LOCK)
    assert found["owner"] is None
    assert found["finished"] is True
    with engine_for(io) as again:
        assert again.task_result == 3


def test_without_a_lock_there_is_no_token_and_the_second_writer_is_told(io: TaskIO, log: Logged) -> None:
    first, second = engine_for(io, no_lock=True), engine_for(io, steps(action=log), no_lock=True)
    with first, second:
        assert first.fencing_token is None
        assert not first.has_lockfile
        first.execute()
        assert stage_documents(io)[0]["history"][0]["status"] == "RUNNING"
        assert stage_documents(io)[0]["history"][0]["epoch"] is None
        before = raw(io)
        with pytest.raises(LockLostException):
            second.execute()
        assert raw(io) == before
    assert log.names == []


def test_has_lockfile_is_true_while_the_lock_has_an_owner(io: TaskIO) -> None:
    engine = engine_for(io)
    assert not engine.has_lockfile
    with engine:
        assert engine.has_lockfile
        assert engine_for(io).has_lockfile
        assert engine.lock_obj_name == LOCK == f"_locks/{TASK}.lock"
    assert not engine.has_lockfile
    assert io.exists(LOCK), "a task that is not finished keeps its released lock"


def test_a_finished_task_has_no_lock_object(io: TaskIO) -> None:
    with engine_for(io) as engine:
        engine.execute()
    assert not io.exists(LOCK)


def test_the_lock_says_since_when_in_utc(io: TaskIO) -> None:
    with BindLock(io, LOCK):
        acquired = datetime.fromisoformat(document(io, LOCK)["acquired_at"])
        assert abs((datetime.now(UTC) - acquired).total_seconds()) < 3600
        assert json.loads(io.read(LOCK).data)["format"] == 1
