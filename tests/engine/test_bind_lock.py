"""BindLock: who holds it, how it is waited for, when it may be taken from somebody else."""

import json
import os
import threading
from datetime import UTC, datetime

import pytest

from checkmate import (
    BindException,
    BindLock,
    TaskEngineException,
    TaskIO,
)

from .pipelines import (
    LOCK,
    TASK,
    FakeClock,
    document,
    engine_for,
    is_locked,
    raw,
)


def test_it_is_held_and_released(io: TaskIO) -> None:
    lock = BindLock(io, LOCK)
    assert lock.owner is None
    with lock as entered:
        assert entered is lock
        found = document(io, LOCK)
        assert found["owner"] == lock.owner is not None
        assert (found["epoch"], found["lease_s"], found["pid"]) == (1, 60.0, os.getpid())
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
    clock, polls, released = FakeClock(), threading.Event(), threading.Event()

    def on_sleep() -> None:
        polls.set()
        assert released.wait(30)

    clock.on_sleep = on_sleep
    holder = BindLock(io, LOCK)
    holder.acquire()
    waiter = BindLock(io, LOCK, acquire_timeout=1e4, clock=clock)
    thread = threading.Thread(target=waiter.acquire)
    thread.start()
    assert polls.wait(30)
    holder.release()
    released.set()
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
    with BindLock(io, LOCK), pytest.raises(BindException, match="held by"):
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
