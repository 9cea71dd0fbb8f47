"""A lock with a lease: renewed while its holder lives, lost for good when it was silent for too long."""

import gc
import threading
import time
from collections.abc import Callable

import pytest

from checkmate import (
    BindException,
    BindLock,
    CheckMate,
    LockLostException,
    StageStatus,
    TaskEngineException,
    TaskIO,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import (
    ApplyLater,
    CallBefore,
    CountingTaskIO,
    FaultyTaskIO,
    LoseResponse,
    RaiseBefore,
    writes_to,
)

from .pipelines import (
    LOCK,
    TASK,
    FakeClock,
    Logged,
    Notes,
    Step,
    bury_holder,
    document,
    edit,
    engine_for,
    is_locked,
    raw,
    stage_documents,
    steps,
)

LEASE = 60.0


def held(io: TaskIO, clock: FakeClock, lease: float | None = LEASE) -> BindLock:
    lock = BindLock(io, LOCK, lease=lease, clock=clock)
    lock.acquire()
    return lock


def renewals(io: TaskIO) -> Callable[[object], bool]:
    """A predicate that is true of every write of the lock but the first, which acquires it."""
    seen: list[object] = []

    def is_renewal(call: object) -> bool:
        if writes_to(LOCK)(call):  # type: ignore[arg-type]
            seen.append(call)
            return len(seen) > 1
        return False

    return is_renewal


@pytest.mark.parametrize("lease", [0, -1.0, float("nan"), float("inf"), True, "60"])
def test_what_is_no_lease_is_refused(memory: TaskIO, lease: float) -> None:
    with pytest.raises(TaskEngineException, match="lease"):
        BindLock(memory, LOCK, lease=lease)
    with pytest.raises(TaskEngineException, match="lease"):
        engine_for(memory, lease=lease)
    assert raw(memory) == {}


def test_the_engines_lease_is_that_of_its_lock(io: TaskIO) -> None:
    for lease in (60.0, 7.5, None):
        with engine_for(io, lease=lease):
            assert document(io, LOCK)["lease_s"] == lease
    with CheckMate[Step, int].load(io, TASK, lease=9.0):
        assert document(io, LOCK)["lease_s"] == 9.0


def test_it_is_renewed_three_times_a_lease_by_a_swap(memory: TaskIO, clock: FakeClock) -> None:
    counting = CountingTaskIO(memory)
    lock = held(counting, clock)
    before, acquired = counting.counts, document(memory, LOCK)
    clock.pass_time(100 * LEASE)
    made = counting.counts - before
    assert made.total == made.writes
    # Jitter makes it a little more often than every third, never less.
    assert 300 <= made.writes <= 400
    found = document(memory, LOCK)
    assert found["renewed_at"] > acquired["renewed_at"]
    changing = {"write_id", "renewed_at"}
    assert {k: v for k, v in found.items() if k not in changing} == {
        k: v for k, v in acquired.items() if k not in changing
    }
    assert not lock.is_lost
    lock.release()
    before = counting.counts
    clock.pass_time(100 * LEASE)
    assert counting.counts == before, "nothing is renewed after the release"


def test_without_a_lease_nothing_is_renewed_and_nothing_lost(memory: TaskIO, clock: FakeClock) -> None:
    lock = held(memory, clock, lease=None)
    before = raw(memory)
    clock.pass_time(1e7)
    assert raw(memory) == before
    assert not lock.is_lost
    lock.check_held()


def test_a_holder_that_was_silent_for_its_lease_has_lost_it_for_good(io: TaskIO, clock: FakeClock) -> None:
    lock = held(io, clock)
    clock.stand_still(LEASE * 0.89)
    assert not lock.is_lost
    clock.stand_still(LEASE * 0.02)
    assert lock.is_lost, "earlier than anybody may take it over"
    with pytest.raises(LockLostException, match=r"lease is 60 s"):
        lock.check_held()
    before = raw(io)
    clock.pass_time(10 * LEASE)
    assert lock.is_lost, "though the store could be reached again and nobody took it"
    assert raw(io) == before, "what is lost is not renewed"
    lock.release()
    assert not is_locked(io), "nobody has to wait for what its holder has given up"
    assert not lock.is_lost
    lock.acquire()
    assert not lock.is_lost, "another acquisition, another lease"


def test_a_stopped_process_does_not_renew_what_ran_out_meanwhile(memory: TaskIO, clock: FakeClock) -> None:
    """The renewal wakes up before anybody has asked whether the lock is lost."""
    lock = held(memory, clock)
    before = raw(memory)
    clock.stand_still(LEASE)
    clock.pass_time(LEASE)
    assert raw(memory) == before
    assert lock.is_lost


@pytest.mark.parametrize("fault", [RaiseBefore, LoseResponse, ApplyLater])
def test_a_store_that_fails_for_less_than_the_lease_is_survived(
    memory: TaskIO, clock: FakeClock, fault: Callable[[], RaiseBefore | LoseResponse | ApplyLater]
) -> None:
    client = FaultyTaskIO(memory)
    lock = held(client, clock)
    client.plan(lambda call: 1_700_000_020 < clock.time < 1_700_000_045, fault(), times=None)
    clock.pass_time(50)
    client.deliver_late()
    clock.pass_time(10 * LEASE)
    assert not lock.is_lost
    lock.release()
    client.deliver_late()
    assert not is_locked(memory)


def test_a_store_that_fails_for_longer_than_the_lease_loses_it(memory: TaskIO, clock: FakeClock) -> None:
    client = FaultyTaskIO(memory)
    lock = held(client, clock)
    client.plan(lambda call: True, RaiseBefore(), times=None)
    clock.pass_time(LEASE)
    assert lock.is_lost
    calls = len(client.calls)
    clock.pass_time(10 * LEASE)
    assert len(client.calls) == calls, "it is final, so nothing more is tried"


@pytest.mark.parametrize("answer", [b"not a lock", b'{"format": 99, "written_by": "9"}'])
def test_what_cannot_be_read_is_no_proof_of_a_loss(memory: TaskIO, clock: FakeClock, answer: bytes) -> None:
    lock = held(memory, clock)
    found = memory.read(LOCK).data
    memory.write(LOCK, answer)
    clock.pass_time(LEASE / 2)
    assert not lock.is_lost
    memory.write(LOCK, found)
    clock.pass_time(10 * LEASE)
    assert not lock.is_lost


def test_an_unlock_by_hand_is_noticed_at_the_next_renewal(memory: TaskIO, clock: FakeClock) -> None:
    lock = held(memory, clock)
    bury_holder(memory)
    before = raw(memory)
    assert not lock.is_lost
    clock.pass_time(LEASE / 3)
    with pytest.raises(LockLostException, match="somebody else released it"):
        lock.check_held()
    lock.release()
    assert raw(memory) == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_successor_is_noticed_and_left_alone(memory: TaskIO, clock: FakeClock, when: str) -> None:
    lock = held(memory, clock)
    bury_holder(memory)
    successor = BindLock(memory, LOCK)
    successor.acquire()
    if when == "after":
        clock.pass_time(LEASE / 3)
        with pytest.raises(LockLostException, match=r"pid \d+ .*has it now"):
            lock.check_held()
    before = raw(memory)
    lock.release()
    assert raw(memory) == before
    assert not successor.is_lost
    successor.release()


def test_an_object_that_was_removed_is_a_lost_lock(memory: TaskIO, clock: FakeClock) -> None:
    lock = held(memory, clock)
    memory.remove(LOCK)
    clock.pass_time(LEASE / 3)
    with pytest.raises(LockLostException, match="removed"):
        lock.check_held()
    lock.release()
    assert raw(memory) == {}


@pytest.mark.parametrize("finished", [False, True])
def test_a_renewal_that_arrives_just_before_the_release_does_not_keep_the_lock(
    memory: TaskIO, clock: FakeClock, finished: bool
) -> None:
    client = FaultyTaskIO(memory)
    lock = held(client, clock)
    client.plan(renewals(client), ApplyLater(None), times=None)
    clock.pass_time(LEASE / 3)
    client.deliver_late()
    assert not lock.is_lost
    quiet = FaultyTaskIO(memory)
    lock._held._writer._io = quiet  # type: ignore[union-attr]
    lock.release(finished=finished)
    assert not is_locked(memory)
    assert finished != memory.exists(LOCK)


def test_a_renewal_that_arrives_after_the_release_does_not_take_the_lock_back(
    memory: TaskIO, clock: FakeClock
) -> None:
    client = FaultyTaskIO(memory)
    lock = held(client, clock)
    late = ApplyLater(None)
    client.plan(lambda call: 1_700_000_015 < clock.time < 1_700_000_020.5, late, times=None)
    clock.pass_time(20.5)
    lock.release()
    client.deliver_late()
    assert not is_locked(memory)


def test_a_lock_whose_owner_forgot_it_is_not_renewed_for_ever(memory: TaskIO) -> None:
    lock = BindLock(memory, LOCK, lease=0.05)
    lock.acquire()
    version = memory.read(LOCK).version
    wait_until(lambda: memory.read(LOCK).version != version)
    del lock
    gc.collect()
    wait_until(lambda: not any(LOCK in thread.name for thread in threading.enumerate()))


def test_the_renewing_thread_is_a_daemon_and_ends_with_the_release(memory: TaskIO) -> None:
    with BindLock(memory, LOCK, lease=0.3):
        (thread,) = [thread for thread in threading.enumerate() if LOCK in thread.name]
        assert thread.daemon
        version = memory.read(LOCK).version
        wait_until(lambda: memory.read(LOCK).version != version)
    thread.join(30)
    assert not thread.is_alive()


def wait_until(is_met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_met():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


# What the loss of a lock means to an engine.


def losing_in(name: str, clock: FakeClock, then: Callable[[Step], object] = lambda _: None) -> list[Step]:
    """Stages of which one is stopped for longer than the lease, then does something."""

    def action(stage: Step, _: Notes) -> None:
        if stage.stage_name == name:
            clock.stand_still(LEASE)
            then(stage)

    return steps(action=action)


def test_a_lost_lease_raises_at_the_next_write(io: TaskIO, clock: FakeClock) -> None:
    engine = engine_for(io, losing_in("b", clock), clock=clock)
    engine.bind()
    with pytest.raises(LockLostException, match=r"last renewed"):
        engine.execute()
    assert engine.lock_lost
    assert [stage["status"] for stage in stage_documents(io)] == ["COMPLETE", "RUNNING"]
    before = raw(io)
    with pytest.raises(LockLostException):
        engine.execute()
    with pytest.raises(LockLostException):
        engine.execute(strict_recovery=True)
    with pytest.raises(LockLostException):
        engine.cancel()
    with pytest.raises(LockLostException):
        engine.unbind(clean=True)
    assert not engine.is_bound
    assert not engine.lock_lost
    after = raw(io)
    assert {n: d for n, d in before.items() if n != LOCK} == {n: d for n, d in after.items() if n != LOCK}
    with engine_for(io) as again:
        again.execute(strict_recovery=True)
        assert again.stages[-1].state.trail == ["a", "b", "c"]


def test_a_stage_can_see_that_the_lock_is_lost(io: TaskIO, clock: FakeClock) -> None:
    seen: list[bool] = []

    def look(stage: Step) -> None:
        seen.append(stage.engine.lock_lost)
        stage.check_alive()

    undone: list[str] = []
    stages = losing_in("b", clock, look)
    for stage in stages:
        stage.undo = lambda stage, _: undone.append(stage.stage_name)
    with engine_for(io, stages, clock=clock) as engine:
        assert not engine.lock_lost
        engine.stages[0].check_alive()
        with pytest.raises(LockLostException):
            engine.execute()
    assert seen == [True]
    assert undone == [], "what a rollback would undo may be another worker's by now"


def test_a_failure_after_the_loss_is_told_with_it_and_not_rolled_back(io: TaskIO, clock: FakeClock) -> None:
    def fail(stage: Step) -> None:
        raise ZeroDivisionError

    undone: list[str] = []
    stages = losing_in("b", clock, fail)
    for stage in stages:
        stage.undo = lambda stage, _: undone.append(stage.stage_name)
    with engine_for(io, stages, clock=clock) as engine, pytest.raises(LockLostException) as caught:
        engine.execute()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert undone == []
    assert [stage["status"] for stage in stage_documents(io)] == ["COMPLETE", "RUNNING"]


def test_a_lost_engine_does_not_run_the_cleanup_of_a_cancel(io: TaskIO, clock: FakeClock) -> None:
    cleaned: list[str] = []
    stages = steps()
    for stage in stages:
        stage.on_cancel = lambda stage: cleaned.append(stage.stage_name)
    with engine_for(io, stages, clock=clock) as engine:
        clock.stand_still(LEASE)
        with pytest.raises(LockLostException):
            engine.cancel()
    assert cleaned == []
    assert stage_documents(io) == []


def test_an_engine_that_is_not_bound_or_has_no_lock_has_lost_nothing(io: TaskIO, clock: FakeClock) -> None:
    engine = engine_for(io, clock=clock)
    assert not engine.lock_lost
    with pytest.raises(TaskEngineException):
        engine.stages[0].check_alive()
    with engine_for(io, no_lock=True, clock=clock) as unlocked:
        clock.stand_still(1e6)
        assert not unlocked.lock_lost
        unlocked.execute()
        assert unlocked.status is StageStatus.COMPLETE


def test_a_long_stage_keeps_its_lock(io: TaskIO, clock: FakeClock, log: Logged) -> None:
    def work(stage: Step, previous: Notes) -> None:
        log(stage, previous)
        clock.pass_time(50 * LEASE)
        stage.check_alive()
        with pytest.raises(BindException, match="last heard of at"):
            engine_for(io, clock=clock).bind()

    with engine_for(io, steps(action=work), clock=clock) as engine:
        engine.execute()
    assert log.names == ["a", "b", "c"]


def test_a_finished_task_whose_holder_died_is_taken_at_once(io: TaskIO) -> None:
    """Nobody can change it, so whoever still seems to hold its lock keeps nothing from anybody."""
    with engine_for(io) as engine:
        engine.execute()
        stale = io.read(LOCK).data
    io.write(LOCK, stale)
    edit(io, LOCK, boot_id="another", lease_s=None)
    with engine_for(io) as again:
        assert again.status is StageStatus.COMPLETE
        assert again.fencing_token == 2
    assert not io.exists(LOCK)


def test_a_late_acquire_of_an_earlier_life_does_not_hold_up_the_next(memory: TaskIO) -> None:
    """Given up, its slot filled; then the lock was removed with the finished task, and the slot is free."""
    client = FaultyTaskIO(memory)
    client.plan(writes_to(LOCK), ApplyLater(None, error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        BindLock(client, LOCK, lease=None).acquire()
    assert not is_locked(memory)
    with engine_for(memory) as engine:
        engine.execute()
    assert client.deliver_late() == 1, "the create found no object"
    assert is_locked(memory)
    edit(memory, LOCK, boot_id="another")
    with engine_for(memory) as cleaner:
        cleaner.unbind(clean=True)
        cleaner.bind()
        cleaner.execute()
        assert cleaner.stages[-1].state.trail == ["a", "b", "c"]


def test_renewal_and_stage_writes_do_not_disturb_each_other(clock: FakeClock) -> None:
    store = MemoryTaskIO()
    client = FaultyTaskIO(store)
    client.plan(writes_to(f"{TASK}/stages/"), CallBefore(lambda _: clock.pass_time(LEASE)), times=None)
    with engine_for(client, clock=clock) as engine:
        engine.execute()
        assert engine.status is StageStatus.COMPLETE
