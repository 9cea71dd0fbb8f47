"""A request or its answer is lost, comes late or is answered wrongly, at each request of a run in turn."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from checkmate import (
    BindException,
    CheckMateEngine,
    StageStatus,
    StorageUnavailableException,
    TaskEngineException,
    TaskIO,
    VersionConflictException,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import (
    ApplyLater,
    Call,
    CallBefore,
    FaultyTaskIO,
    LoseResponse,
    Operation,
    RaiseBefore,
)

from .pipelines import (
    Crash,
    Engine,
    Logged,
    Witness,
    bury_holder,
    engine_for,
    is_locked,
    raw,
    stage_documents,
    steps,
)

FINAL = ["a", "b", "c"]
CHANGES = (Operation.WRITE, Operation.REMOVE)
OUTAGE = 5
"""How often one request is sent before the engine gives up."""


def run(engine: Engine) -> None:
    with engine:
        engine.execute(strict_recovery=True)


def is_change(call: Call) -> bool:
    return call.operation in CHANGES


def dropped(client: FaultyTaskIO, number: int) -> None:
    client.plan(number, RaiseBefore())


def answer_lost(client: FaultyTaskIO, number: int) -> None:
    client.plan(number, LoseResponse())


def sent_twice_by_the_sdk(client: FaultyTaskIO, number: int) -> None:
    error = VersionConflictException("412, on the SDK's own first copy")
    client.plan(lambda call: call.number == number and is_change(call), LoseResponse(error))


def arrives_after_its_resend(client: FaultyTaskIO, number: int) -> None:
    client.plan(lambda call: call.number == number and is_change(call), ApplyLater(2))


def arrives_before_its_resend(client: FaultyTaskIO, number: int) -> None:
    client.plan(lambda call: call.number == number and is_change(call), ApplyLater(1))


def outage(client: FaultyTaskIO, number: int) -> None:
    client.plan(lambda call: number <= call.number < number + OUTAGE, RaiseBefore(), times=None)


def applied_then_outage(client: FaultyTaskIO, number: int) -> None:
    client.plan(lambda call: call.number == number and is_change(call), LoseResponse())
    client.plan(lambda call: number < call.number < number + OUTAGE, RaiseBefore(), times=None)


def late_then_outage(client: FaultyTaskIO, number: int) -> None:
    client.plan(lambda call: call.number == number and is_change(call), ApplyLater(OUTAGE + 1))
    client.plan(lambda call: number < call.number < number + OUTAGE, RaiseBefore(), times=None)


def store_gone_for_good(client: FaultyTaskIO, number: int) -> None:
    client.plan(lambda call: call.number == number and is_change(call), LoseResponse())
    client.plan(lambda call: call.number >= number, RaiseBefore(), times=None)


Fault = Callable[[FaultyTaskIO, int], None]
SINGLE = [dropped, answer_lost, sent_twice_by_the_sdk, arrives_after_its_resend, arrives_before_its_resend]
LASTING = [outage, applied_then_outage, late_then_outage, store_gone_for_good]


def requests() -> int:
    client = FaultyTaskIO(MemoryTaskIO())
    run(engine_for(client))
    return len(client.calls)


def struck(fault: Fault, executed: Logged) -> Iterator[tuple[int, Witness, FaultyTaskIO, Engine]]:
    """One new run for each request, with the fault at that request. ``executed`` is emptied each time."""
    for number in range(1, requests() + 1):
        store = Witness(MemoryTaskIO())
        client = FaultyTaskIO(store)
        fault(client, number)
        executed.names.clear()
        yield number, store, client, engine_for(client, steps(action=executed))


def check_finished(store: Witness, number: int) -> None:
    assert [s["status"] for s in stage_documents(store)] == ["COMPLETE"] * 3, number
    assert stage_documents(store)[-1]["state"]["trail"] == FINAL, number
    for stage in stage_documents(store):
        assert [e["status"] for e in stage["history"]].count("COMPLETE") == 1, number
    store.check_guarantees()


def resume_elsewhere(store: Witness, log: Logged) -> None:
    bury_holder(store)
    run(engine_for(store, steps(action=log)))


@pytest.mark.parametrize("fault", SINGLE)
def test_one_lost_answer_is_resolved_or_raised_and_nothing_is_lost(fault: Fault, log: Logged) -> None:
    survived = 0
    for number, store, client, engine in struck(fault, log):
        try:
            run(engine)
        except StorageUnavailableException:
            assert client.calls[number - 1].operation not in CHANGES, (
                f"a write is resolved by itself: {number}"
            )
            resume_elsewhere(store, log)
        else:
            survived += 1
        client.deliver_late()
        check_finished(store, number)
        assert log.names == FINAL, f"no outage, so every stage ran once: request {number}"
        assert not is_locked(store), number
    assert survived >= 8, "every write of a run survives the fault"


@pytest.mark.parametrize("fault", LASTING)
def test_an_outage_at_any_request_fails_within_the_tree_and_is_resumed_elsewhere(
    fault: Fault, log: Logged
) -> None:
    for number, store, client, engine in struck(fault, log):
        with suppress(TaskEngineException):
            run(engine)
        assert not engine.is_bound, "unbound nevertheless"
        before = raw(store)
        resume_elsewhere(store, log)
        client.deliver_late()
        check_finished(store, number)
        assert len(log.names) <= 4, f"only the stage in flight ran again: {number}, {sorted(before)}"


@pytest.mark.parametrize("fault", LASTING[:3])
def test_the_same_bound_engine_goes_on_after_an_outage_at_any_request(fault: Fault, log: Logged) -> None:
    for number, store, client, engine in struck(fault, log):
        try:
            engine.bind()
        except TaskEngineException:
            resume_elsewhere(store, log)
            check_finished(store, number)
            continue
        for _ in range(3):
            try:
                engine.execute(strict_recovery=True)
            except StorageUnavailableException:
                continue
            break
        assert engine.status is StageStatus.COMPLETE, number
        try:
            engine.unbind()
        except StorageUnavailableException:
            bury_holder(store)
        client.deliver_late()
        check_finished(store, number)
        assert len(log.names) <= 4, number


@pytest.mark.parametrize("fault", LASTING[:3])
def test_a_clean_after_an_outage_at_any_request_leaves_only_a_tombstone(fault: Fault, log: Logged) -> None:
    for number, store, client, engine in struck(fault, log):
        with suppress(StorageUnavailableException):
            engine.bind()
            engine.execute()
        if not engine.is_bound:
            continue
        try:
            engine.unbind(clean=True)
        except StorageUnavailableException:
            bury_holder(store)
            helper = engine_for(store)
            helper.bind()
            helper.unbind(clean=True)
        client.deliver_late()
        store.check_guarantees()
        left = {name for name in raw(store) if "/stages/" not in name and not name.startswith("_locks/")}
        assert left == {"task-1/task.json"}, number
        assert not is_locked(store), number


def test_a_request_of_a_dead_owner_that_arrives_at_any_request_of_its_successor_changes_nothing_wrong() -> (
    None
):
    count = requests()

    def late(number: int, arrival: int) -> None:
        store, log = Witness(MemoryTaskIO()), Logged()
        dead = FaultyTaskIO(store)
        dead.plan(number, ApplyLater(None, Crash()))
        dead.plan(lambda call: call.number > number, RaiseBefore(Crash()), times=None)
        with pytest.raises(Crash):
            run(engine_for(dead, steps(action=log)))
        bury_holder(store)
        successor = FaultyTaskIO(store)
        successor.plan(arrival, CallBefore(lambda _: dead.deliver_late()))
        engine = engine_for(successor, steps(action=log))
        try:
            run(engine)
        except BindException:
            # The dead owner's acquisition came alive: it is held by the dead, and says so.
            bury_holder(store)
            run(engine_for(store, steps(action=log)))
        dead.deliver_late()
        if is_locked(store):
            bury_holder(store)
        check_finished(store, number)
        assert len(log.names) <= 4, (number, arrival)

    for number in range(1, count + 1):
        for arrival in range(1, count + 3):
            late(number, arrival)


def test_an_owner_whose_acquire_was_given_up_does_not_come_alive_late(memory: TaskIO) -> None:
    client = FaultyTaskIO(memory)
    first_lock_write = next(
        call.number for call in _calls_of_a_run() if call.name.startswith("_locks/") and is_change(call)
    )
    client.plan(first_lock_write, ApplyLater(OUTAGE + 2))
    client.plan(
        lambda call: first_lock_write < call.number < first_lock_write + OUTAGE, RaiseBefore(), times=None
    )
    engine = engine_for(client)
    with pytest.raises(StorageUnavailableException):
        engine.bind()
    client.deliver_late()
    assert not is_locked(memory)
    run(engine_for(memory))


def _calls_of_a_run() -> list[Call]:
    client = FaultyTaskIO(MemoryTaskIO())
    run(engine_for(client))
    return client.calls


def test_a_complete_whose_answer_is_lost_is_never_executed_again_by_the_same_engine(
    io: TaskIO, log: Logged
) -> None:
    store = Witness(io)
    client = FaultyTaskIO(store)

    def is_commit(call: Call) -> bool:
        return call.operation is Operation.WRITE and "/stages/000" in call.name and log.names == ["a"]

    client.plan(is_commit, LoseResponse())
    client.plan(lambda _: log.names == ["a"], RaiseBefore(), times=OUTAGE - 1)
    engine = engine_for(client, steps(action=log))
    with engine:
        with pytest.raises(StorageUnavailableException):
            engine.execute()
        assert stage_documents(io)[0]["status"] == "COMPLETE"
        engine.execute(strict_recovery=True)
    assert log.names == FINAL
    store.check_guarantees()


def test_the_engines_own_clock_does_the_waiting_between_resends(memory: TaskIO) -> None:
    assert CheckMateEngine.clock.now() > 0
    client = FaultyTaskIO(memory)
    client.plan(lambda call: is_change(call), RaiseBefore(), times=3)
    engine = engine_for(client)
    run(engine)
    assert engine.clock.sleeps  # type: ignore[attr-defined]
