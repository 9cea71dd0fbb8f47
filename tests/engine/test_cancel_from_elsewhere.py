"""Anybody may ask for a task to be canceled; whoever executes it sees that, and does it."""

import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest

from checkmate import (
    CheckMate,
    InvalidTransitionException,
    PersistenceDataNotFoundException,
    RetryPolicy,
    StageFailedException,
    StageStatus,
    StorageUnavailableException,
    TaskCanceledException,
    TaskEngineException,
    TaskIO,
    TaskRolledBackException,
    TaskStore,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import FaultyTaskIO, Operation, RaiseBefore

from .leftovers import left_canceled, left_complete, left_created, left_in_error, left_in_retry, left_running
from .pipelines import (
    LOCK,
    TASK,
    Crash,
    Engine,
    FakeClock,
    Logged,
    Notes,
    Step,
    Witness,
    bury_holder,
    document,
    engine_for,
    is_locked,
    raw,
    stage_documents,
    steps,
)
from .test_a_crash_at_any_request import MOMENTS, dies_at

REQUEST = f"{TASK}/cancel.json"
LEASE = 60.0


def ask(io: TaskIO, reason: str = "") -> None:
    TaskStore(io).request_cancel(TASK, reason)


def told(stages: list[Step], names: list[str]) -> list[Step]:
    """Stages that note which of them was told to clean up."""
    for stage in stages:
        stage.on_cancel = lambda stage: names.append(stage.stage_name)
    return stages


def canceled(engine: Engine, match: str = TASK) -> None:
    """Executing it ends in a cancel."""
    with pytest.raises(TaskCanceledException, match=match), engine:
        engine.execute(strict_recovery=True)


def check_canceled(io: TaskIO, statuses: list[str]) -> None:
    assert [stage["status"] for stage in stage_documents(io)] == statuses
    task = TaskStore(io).get(TASK)
    assert task.status is StageStatus.CANCELED
    assert task.ended is not None
    assert not io.exists(LOCK)


def in_a(act: Callable[[Step], object], log: Logged | None = None) -> list[Step]:
    """Stages of which the first does something."""

    def action(stage: Step, previous: Notes) -> None:
        if log:
            log(stage, previous)
        if stage.stage_name == "a":
            act(stage)

    return steps(action=action)


def test_a_running_stage_sees_it_at_the_next_renewal_of_the_lock(io: TaskIO, clock: FakeClock) -> None:
    seen: list[bool] = []
    cleaned: list[str] = []

    def act(stage: Step) -> None:
        ask(io, "too dear")
        seen.append(stage.cancel_requested)
        clock.pass_time(LEASE / 3)
        seen.append(stage.cancel_requested)
        stage.raise_if_canceled()
        pytest.fail("it went on")

    canceled(engine_for(io, told(in_a(act), cleaned), clock=clock, lease=LEASE), "as somebody asked")
    assert seen == [False, True]
    assert cleaned == ["a"]
    check_canceled(io, ["CANCELED"])
    assert document(io, REQUEST)["reason"] == "too dear"
    assert [e["status"] for e in stage_documents(io)[0]["history"]] == ["RUNNING", "CANCELED"]


def test_a_running_stage_sees_it_at_its_next_checkpoint(io: TaskIO) -> None:
    seen: list[bool] = []

    def act(stage: Step) -> None:
        stage.checkpoint()
        ask(io)
        seen.append(stage.cancel_requested)
        stage.checkpoint()
        seen.append(stage.cancel_requested)
        stage.raise_if_canceled()

    canceled(engine_for(io, in_a(act)))
    assert seen == [False, True]
    check_canceled(io, ["CANCELED"])


def test_a_resumable_loop_ends_between_two_items(io: TaskIO) -> None:
    done: list[int] = []

    def act(stage: Step) -> None:
        for number in stage.resumable(range(10), every=2):
            done.append(number)
            if number == 4:
                ask(io)

    canceled(engine_for(io, in_a(act)))
    assert done == [0, 1, 2, 3, 4, 5], "it was seen at the save behind the sixth"
    check_canceled(io, ["CANCELED"])


def test_a_stage_that_does_not_look_ends_and_the_next_does_not_begin(
    io: TaskIO, clock: FakeClock, log: Logged
) -> None:
    def act(_: Step) -> None:
        ask(io)
        clock.pass_time(LEASE)

    cleaned: list[str] = []
    canceled(engine_for(io, told(in_a(act, log), cleaned), clock=clock, lease=LEASE))
    assert log.names == ["a"]
    assert cleaned == ["b"]
    check_canceled(io, ["COMPLETE", "CANCELED"])
    assert stage_documents(io)[1]["attempts"] == 0


def test_a_wait_for_the_next_attempt_is_cut_short(io: TaskIO, clock: FakeClock, log: Logged) -> None:
    def fail(_: Step) -> None:
        raise ValueError

    clock.on_sleep = lambda: ask(io)
    policy = RetryPolicy.fixed(3600)
    cleaned: list[str] = []
    stages = told(in_a(fail, log), cleaned)
    begin = clock.time
    canceled(engine_for(io, stages, clock=clock, lease=LEASE, retry_policy=policy, max_attempts=2))
    assert clock.time - begin <= LEASE
    assert (log.names, cleaned) == (["a"], ["a"])
    check_canceled(io, ["CANCELED"])


@pytest.mark.parametrize(
    ("leave", "statuses"),
    [
        (left_created, ["CANCELED"]),
        (left_running, ["COMPLETE", "CANCELED"]),
        (left_in_retry, ["COMPLETE", "CANCELED"]),
        # What is in ERROR can be canceled only once it runs again; it does not get to run.
        (left_in_error, ["COMPLETE", "CANCELED"]),
    ],
)
def test_a_task_that_nobody_holds_is_canceled_by_the_next_run_and_nothing_is_executed(
    io: TaskIO, log: Logged, leave: Callable[[TaskIO], None], statuses: list[str]
) -> None:
    leave(io)
    before = raw(io)
    ask(io)
    assert {name: data for name, data in raw(io).items() if name != REQUEST} == before, "a letter, no more"
    cleaned: list[str] = []
    canceled(engine_for(io, told(steps(action=log), cleaned)))
    assert log.names == []
    assert cleaned == ["ab"[len(statuses) - 1]]
    check_canceled(io, statuses)
    with pytest.raises(TaskCanceledException):
        CheckMate[Step, Any](io, TASK, steps()).run()


def test_it_comes_too_late_for_a_task_whose_last_stage_has_ended(io: TaskIO) -> None:
    def act(stage: Step, _: Notes) -> None:
        if stage.stage_name == "c":
            ask(io)
            stage.checkpoint()

    with engine_for(io, steps(action=act)) as engine:
        engine.execute()
        assert engine.cancel_requested
        assert engine.status is StageStatus.COMPLETE
    with engine_for(io) as again:
        again.execute()
        assert again.status is StageStatus.COMPLETE


def test_it_does_not_stop_a_rollback(io: TaskIO) -> None:
    left_in_error(io)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    stages = steps()
    stages[1].undo = interrupted
    with pytest.raises(KeyboardInterrupt):
        engine_for(io, stages).rollback()
    ask(io)
    with pytest.raises(TaskRolledBackException), engine_for(io) as engine:
        engine.execute(strict_recovery=True)
    assert {stage["status"] for stage in stage_documents(io)} == {"ROLLED_BACK"}


@pytest.mark.parametrize("leave", [left_complete, left_canceled])
def test_a_finished_task_takes_no_request(io: TaskIO, leave: Callable[[TaskIO], None]) -> None:
    leave(io)
    with pytest.raises(InvalidTransitionException, match="can not be canceled any more"):
        ask(io)
    assert not io.exists(REQUEST)


def test_nobody_can_be_asked_to_cancel_nothing(io: TaskIO) -> None:
    with pytest.raises(PersistenceDataNotFoundException, match="no task"):
        ask(io)
    assert list(io.list()) == []


def test_asked_twice_the_first_request_stays(io: TaskIO) -> None:
    left_created(io)
    ask(io, "first")
    ask(io, "second")
    assert document(io, REQUEST)["reason"] == "first"


def test_a_request_to_an_earlier_life_means_nothing_and_is_replaced(io: TaskIO, log: Logged) -> None:
    left_created(io)
    ask(io, "in the first life")
    old = io.read(REQUEST).data
    engine = engine_for(io)
    engine.bind()
    engine.unbind(clean=True)
    assert not io.exists(REQUEST), "a removal sweeps it"
    left_created(io)
    io.write(REQUEST, old)
    with engine_for(io, in_a(lambda stage: stage.checkpoint(), log)) as later:
        assert not later.cancel_requested
        later.execute()
    assert log.names == ["a", "b", "c"]
    engine.bind()
    engine.unbind(clean=True)
    left_created(io)
    io.write(REQUEST, old)
    ask(io, "in the third")
    canceled(engine_for(io))


def test_a_cleanup_that_fails_leaves_the_request_for_the_next_run(io: TaskIO) -> None:
    left_running(io)
    ask(io)
    stages = steps()

    def broken(_: Step) -> None:
        raise RuntimeError("cannot clean up")

    stages[1].on_cancel = broken
    with pytest.raises(TaskEngineException, match="cannot clean up"), engine_for(io, stages) as engine:
        engine.execute(strict_recovery=True)
    assert not is_locked(io)
    canceled(engine_for(io))
    check_canceled(io, ["COMPLETE", "CANCELED"])


def test_a_stage_that_says_it_was_canceled_though_nobody_asked_has_failed(io: TaskIO) -> None:
    def act(_: Step) -> None:
        raise TaskCanceledException("of another task, say")

    with pytest.raises(StageFailedException), engine_for(io, in_a(act)) as engine:
        engine.execute()
    assert stage_documents(io)[0]["status"] == "ERROR"


def test_a_store_that_is_silent_for_a_while_hides_it_for_no_longer(
    memory: TaskIO, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = FaultyTaskIO(memory)
    seen: list[bool] = []

    def act(stage: Step) -> None:
        ask(memory)
        client.plan(
            lambda call: call.operation is Operation.READ and call.name == REQUEST,
            RaiseBefore(StorageUnavailableException("gone")),
            times=1,
        )
        for _ in range(2):
            clock.pass_time(LEASE / 3)
            seen.append(stage.cancel_requested)
        stage.raise_if_canceled()

    with caplog.at_level(logging.WARNING):
        canceled(engine_for(client, in_a(act), clock=clock, lease=LEASE))
    assert seen == [False, True]
    assert "could not look for what others want" in caplog.text


def test_after_a_crash_at_any_request_of_a_cancel_that_was_asked_for_the_next_run_ends_it() -> None:
    def prepared() -> Witness:
        store = Witness(MemoryTaskIO())
        left_running(store)
        ask(store)
        return store

    def run(io: TaskIO) -> None:
        engine = engine_for(io)
        engine.bind()
        with pytest.raises(TaskCanceledException):
            engine.execute(strict_recovery=True)
        engine.unbind()

    counting = FaultyTaskIO(prepared())
    run(counting)
    for number, moment in itertools.product(range(1, len(counting.calls) + 1), MOMENTS):
        store, log = prepared(), Logged()
        with pytest.raises(Crash):
            run(dies_at(store, number, moment))
        bury_holder(store)
        canceled(engine_for(store, steps(action=log)))
        assert log.names == [], (number, moment)
        check_canceled(store, ["COMPLETE", "CANCELED"])
        store.check_guarantees()
