"""The process dies before or after each single request of a run; a fresh engine goes on."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

import pytest

from checkmate import RetryPolicy, StageStatus, TaskEngineException, TaskIO
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import CallAfter, CallBefore, FaultyTaskIO, RaiseBefore

from .pipelines import (
    Crash,
    Engine,
    Logged,
    Notes,
    Step,
    Witness,
    bury_holder,
    engine_for,
    is_locked,
    stage_documents,
    steps,
)

Moment: TypeAlias = Literal["before", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "after")
FINAL = ["a", "b", "c"]


def die(*_: object) -> None:
    raise Crash


def dies_at(io: TaskIO, number: int, moment: Moment) -> FaultyTaskIO:
    """A client whose process is gone with this request: nothing after it is sent either."""
    client = FaultyTaskIO(io)
    client.plan(number, CallBefore(die) if moment == "before" else CallAfter(die))
    client.plan(lambda call: call.number > number, RaiseBefore(Crash()), times=None)
    return client


def run(engine: Engine, *, unbind: bool = True) -> None:
    engine.bind()
    engine.execute(strict_recovery=True)
    if unbind:
        engine.unbind()


def requests_of(action: Callable[[TaskIO], object], io: TaskIO | None = None) -> int:
    client = FaultyTaskIO(io or MemoryTaskIO())
    action(client)
    return len(client.calls)


def points(count: int) -> Iterator[tuple[int, Moment]]:
    return itertools.product(range(1, count + 1), MOMENTS)


def finish(witness: Witness, log: Logged, names: Sequence[str] = FINAL) -> None:
    """Another process takes over and runs the task to its end; everything must have held."""
    bury_holder(witness)
    fresh = engine_for(witness, steps(*names, action=log))
    fresh.bind()
    fresh.execute(strict_recovery=True)
    assert fresh.status is StageStatus.COMPLETE
    assert fresh.stages[-1].state.trail == list(names)
    assert fresh.task_result == len(names)
    assert fresh.check_sync()
    fresh.unbind()
    assert not is_locked(witness)
    witness.check_guarantees()
    for stage in stage_documents(witness):
        commits = [entry for entry in stage["history"] if entry["status"] == "COMPLETE"]
        assert len(commits) == 1, f"{stage['stage_name']} was committed {len(commits)} times"


def test_after_a_crash_at_any_request_a_fresh_engine_finishes_the_task(io: TaskIO) -> None:
    count = requests_of(lambda client: run(engine_for(client)))
    assert 10 <= count <= 2 * 3 + 5
    for number, moment in points(count):
        store, log = Witness(MemoryTaskIO() if isinstance(io, MemoryTaskIO) else io), Logged()
        with pytest.raises(Crash):
            run(engine_for(dies_at(store, number, moment), steps(action=log)))
        committed = [
            each.body for each in store.applied if each.body and each.body.get("status") == "COMPLETE"
        ]
        executed = len(log.names)
        finish(store, log)
        again = log.names[executed:]
        for body in committed:
            assert body["stage_name"] not in again, f"a COMPLETE stage ran again: {number} {moment}"
        assert len(log.names) <= len(FINAL) + 1, f"more than the stage in flight ran again: {number} {moment}"
        for name in list(store.io.list()):
            store.io.remove(name.name)


def test_two_crashes_in_a_row_lose_no_more_than_the_stage_in_flight_each() -> None:
    names = ("a", "b")
    count = requests_of(lambda client: run(engine_for(client, steps(*names))))
    for (first, moment), (second, later) in itertools.product(points(count), points(count)):
        store, log = Witness(MemoryTaskIO()), Logged()
        with pytest.raises(Crash):
            run(engine_for(dies_at(store, first, moment), steps(*names, action=log)))
        bury_holder(store)
        with suppress(Crash):
            run(engine_for(dies_at(store, second, later), steps(*names, action=log)))
        finish(store, log, names)
        assert len(log.names) <= len(names) + 2


def test_a_crash_between_two_attempts_grants_no_new_ones() -> None:
    def fail(stage: Step, _: Notes) -> None:
        attempts.append(stage.stage_name)
        raise ValueError("no")

    def engine(io: TaskIO) -> Engine:
        return engine_for(io, steps("a", action=fail), retry_policy=RetryPolicy.fixed(1.0), max_attempts=3)

    def fail_for_good(io: TaskIO) -> None:
        with pytest.raises(TaskEngineException):
            run(engine(io))

    attempts: list[str] = []
    count = requests_of(fail_for_good)
    assert len(attempts) == 3
    for number, moment in points(count):
        attempts.clear()
        store = Witness(MemoryTaskIO())
        with suppress(Crash, TaskEngineException):
            run(engine(dies_at(store, number, moment)))
        stored = stage_documents(store)
        had_given_up = bool(stored) and stored[0]["status"] == "ERROR"
        if had_given_up:
            continue
        bury_holder(store)
        fail_for_good(store)
        # The attempt in flight at the crash has no outcome, so it is the only one to be made again.
        assert 3 <= len(attempts) <= 4, f"{len(attempts)} attempts: {number} {moment}"
        assert [e["status"] for e in stage_documents(store)[0]["history"]].count("RETRY") == 2


@pytest.mark.parametrize("executed", [0, 1, 3])
def test_after_a_crash_at_any_request_of_a_clean_the_next_bind_helps(executed: int) -> None:
    def fail(stage: Step, _: Notes) -> None:
        if executed < 3 and stage.stage_name == FINAL[executed]:
            raise ValueError("no")

    def prepare(io: TaskIO) -> Engine:
        engine = engine_for(io, steps(action=fail))
        engine.bind()
        with suppress(TaskEngineException):
            engine.execute()
        return engine

    probe = FaultyTaskIO(MemoryTaskIO())
    engine = prepare(probe)
    before = len(probe.calls)
    engine.unbind(clean=True)
    for number, moment in itertools.product(range(before + 1, len(probe.calls) + 1), MOMENTS):
        store, log = Witness(MemoryTaskIO()), Logged()
        engine = prepare(dies_at(store, number, moment))
        with pytest.raises(Crash):
            engine.unbind(clean=True)
        was_begun = len(store.applied) > 0 and any(
            each.body and (each.body.get("status") == "REMOVING" or each.body.get("removed"))
            for each in store.applied
        )
        finish(store, log)
        if was_begun:
            assert log.names == FINAL, "a removal that had begun must be finished, and a new life begun"


def test_after_a_crash_at_any_request_of_a_cancel_the_task_can_be_canceled_or_executed() -> None:
    probe = FaultyTaskIO(MemoryTaskIO())
    engine_for(probe).cancel()
    for number, moment in points(len(probe.calls)):
        for then in ("cancel", "execute"):
            store, log = Witness(MemoryTaskIO()), Logged()
            with pytest.raises(Crash):
                engine_for(dies_at(store, number, moment)).cancel()
            stored = stage_documents(store)
            was_canceled = bool(stored) and stored[0]["status"] == "CANCELED"
            if then == "execute" and not was_canceled:
                finish(store, log)
                continue
            bury_holder(store)
            again = engine_for(store)
            if was_canceled:
                with pytest.raises(TaskEngineException, match="CANCELED"):
                    again.cancel()
            else:
                again.cancel()
            assert stage_documents(store)[0]["status"] == "CANCELED"
            assert not is_locked(store)
            store.check_guarantees()
