"""A stage suspends its task until a time or an event, and nothing runs meanwhile."""

import asyncio
import itertools
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field

from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMate,
    IncompatibleTaskException,
    InvalidTransitionException,
    MissingStateException,
    PersistenceDataNotFoundException,
    RetryPolicy,
    StageFailedException,
    StageStatus,
    StorageUnavailableException,
    Suspend,
    TaskCanceledException,
    TaskEngineException,
    TaskIO,
    TaskStore,
    TaskSuspendedException,
    VersionConflictException,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.letters.mailbox import DATA_LIMIT
from checkmate_core.testing import FaultyTaskIO
from checkmate_core.types import Capability

from .pipelines import (
    LOCK,
    MANIFEST,
    TASK,
    Crash,
    FakeClock,
    Limited,
    Witness,
    bury_holder,
    document,
    is_locked,
    raw,
    stage_documents,
)
from .test_a_crash_at_any_request import MOMENTS, dies_at
from .test_a_lost_answer_at_any_request import CHANGES, SINGLE, Fault

SIGNAL = f"{TASK}/signals/go.json"


class Answer(BaseModel):
    by: str
    on: datetime | None = None


class Talk(BaseStageState):
    """What was heard: ``go`` is the event's field, emptied once it was heard."""

    go: Answer | None = None
    number: int | None = None
    heard: list[str] = Field(default_factory=list)


Act = Callable[["Talker"], object]


class Talker(BaseStage[Talk]):
    state: Talk = Field(default_factory=Talk)
    act: Act | None = Field(default=None, exclude=True, repr=False)
    undone: list[str] = Field(default_factory=list, exclude=True)

    def execute_stage(self, previous_state_copy: Talk) -> None:
        if self.act:
            self.act(self)

    def rollback_stage(self, previous_state_copy: Talk) -> None:
        self.undone.append(self.stage_name)


def listen(stage: Talker) -> None:
    """Wait for the event twice, and note who sent it."""
    if stage.state.go is not None:
        stage.state.heard.append(stage.state.go.by)
        stage.state.go = None
    if len(stage.state.heard) < 2:
        raise Suspend(event="go")


def wait_for(**wait: Any) -> Act:
    """Wait once, for what the arguments of `Suspend` say."""

    def act(stage: Talker) -> None:
        if stage.attempts == 1:
            raise Suspend(**wait)

    return act


def talk(
    io: TaskIO, act: Act | None = listen, names: str = "a", clock: FakeClock | None = None, **options: Any
) -> CheckMate[Talker, Any]:
    cm = CheckMate[Talker, Any](io, TASK, [Talker(stage_name=name, act=act) for name in names], **options)
    cm.clock = clock or FakeClock()
    return cm


def suspended(cm: CheckMate[Talker, Any]) -> None:
    with pytest.raises(TaskSuspendedException, match=TASK):
        cm.run()
    assert cm.status is StageStatus.SUSPENDED


def signal(io: TaskIO, by: str, *, replace: bool = False, event: str = "go") -> None:
    TaskStore(io).signal(TASK, event, {"by": by}, replace=replace)


def test_a_task_that_waits_for_a_time_runs_again_once_it_has_come(io: TaskIO, clock: FakeClock) -> None:
    until = datetime.fromtimestamp(clock.now(), UTC) + timedelta(hours=1)
    acts: list[int] = []

    def act(stage: Talker) -> None:
        acts.append(stage.attempts)
        stage.state.heard.append("before")
        wait_for(until=until)(stage)

    suspended(talk(io, act, clock=clock))
    assert not is_locked(io)
    before = raw(io)
    suspended(talk(io, act, clock=clock))
    assert acts == [1], "it is too early"
    assert {n: d for n, d in raw(io).items() if n != LOCK} == {n: d for n, d in before.items() if n != LOCK}
    clock.time += 3600
    cm = talk(io, act, clock=clock)
    cm.run()
    assert stage_documents(io)[0]["state"]["heard"] == ["before", "before"], (
        "the state at the suspension is kept"
    )
    history = stage_documents(io)[0]["history"]
    assert [e["status"] for e in history] == ["RUNNING", "SUSPENDED", "RUNNING", "COMPLETE"]
    assert history[1]["message"] == f"Waits for {until:%Y-%m-%d %H:%M:%S} UTC"
    assert not io.exists(LOCK)
    assert clock.sleeps == [], "no process waits"


@pytest.mark.parametrize(
    ("suspension", "first"),
    [
        ({"until": timedelta(hours=1), "event": "go"}, "event"),
        ({"until": timedelta(hours=1), "event": "go"}, "time"),
        ({"event": "go"}, "event"),
    ],
)
def test_an_event_or_a_time_whichever_comes_first(io: TaskIO, suspension: dict[str, Any], first: str) -> None:
    clock = FakeClock()
    # `Suspend` counts a duration from the real present.
    clock.time = datetime.now(UTC).timestamp()
    suspended(talk(io, wait_for(**suspension), clock=clock))
    if first == "event":
        signal(io, "me")
    else:
        clock.time += 3601
    cm = talk(io, wait_for(**suspension), clock=clock)
    cm.run()
    found = cm.state
    assert isinstance(found, Talk)
    assert found.go == (Answer(by="me") if first == "event" else None)
    assert not io.exists(SIGNAL)


def test_the_data_is_in_the_state_as_the_type_that_it_declares(io: TaskIO) -> None:
    suspended(talk(io, wait_for(event="a decision", field="go")))
    on = datetime(2026, 11, 24, tzinfo=UTC)
    talk(io).signal("a decision", {"by": "me", "on": on.isoformat()})
    cm = talk(io, wait_for(event="a decision", field="go"))
    cm.run()
    assert isinstance(cm.state, Talk)
    assert cm.state.go == Answer(by="me", on=on)


def test_data_that_does_not_fit_changes_nothing_and_can_be_replaced(io: TaskIO) -> None:
    suspended(talk(io))
    TaskStore(io).signal(TASK, "go", {"by": 7})
    before = raw(io)
    for _ in range(2):
        with pytest.raises(
            IncompatibleTaskException, match=r"event 'go' does not fit 'go'.*go\.by.*--replace"
        ):
            talk(io).run()
        assert {n: d for n, d in raw(io).items() if n != LOCK} == {
            n: d for n, d in before.items() if n != LOCK
        }
        assert not is_locked(io)
    signal(io, "me", replace=True)
    suspended(talk(io))
    assert stage_documents(io)[0]["state"]["heard"] == ["me"]


def test_an_event_that_came_before_the_wait_is_taken_without_one(io: TaskIO) -> None:
    with talk(io):
        pass
    signal(io, "early bird")
    suspended(talk(io))
    [stage] = stage_documents(io)
    assert stage["state"]["heard"] == ["early bird"]
    assert [e["status"] for e in stage["history"]] == ["RUNNING", "SUSPENDED", "RUNNING", "SUSPENDED"]


def test_an_event_is_refused_while_one_of_its_name_waits(io: TaskIO) -> None:
    suspended(talk(io))
    signal(io, "first")
    stored = io.read(SIGNAL).data
    with pytest.raises(VersionConflictException, match=r"signals/go\.json.*Nothing was changed"):
        signal(io, "second")
    assert io.read(SIGNAL).data == stored
    signal(io, "third", replace=True)
    signal(io, "unrelated", event="another")
    suspended(talk(io))
    signal(io, "fourth")
    talk(io).run()
    assert stage_documents(io)[0]["state"]["heard"] == ["third", "fourth"]
    assert not io.exists(SIGNAL)
    assert io.exists(f"{TASK}/signals/another.json"), "nobody waited for it"


def test_a_signal_needs_no_lock_and_changes_nothing_else(io: TaskIO) -> None:
    holder = talk(io, act=None)
    with holder:
        before = raw(io)
        client = FaultyTaskIO(io)
        signal(client, "me")
        assert [call.name for call in client.calls] == [MANIFEST, SIGNAL]
        assert {name: data for name, data in raw(io).items() if name != SIGNAL} == before
        holder.execute()


def test_any_stage_can_suspend_its_task_again_and_again(io: TaskIO) -> None:
    def act(stage: Talker) -> None:
        if stage.attempts <= 2:
            raise Suspend(event="go")

    for index, turn in itertools.product(range(3), range(2)):
        suspended(talk(io, act, "abc"))
        assert [each["status"] for each in stage_documents(io)] == ["COMPLETE"] * index + ["SUSPENDED"]
        assert stage_documents(io)[index]["attempts"] == turn + 1
        assert TaskStore(io).get(TASK).status is StageStatus.SUSPENDED
        assert not is_locked(io)
        signal(io, f"{index} {turn}")
    cm = talk(io, act, "abc")
    cm.run()
    assert [stage["attempts"] for stage in stage_documents(io)] == [3, 3, 3]
    assert isinstance(cm.state, Talk)
    assert cm.state.go == Answer(by="2 1")


def test_a_suspension_is_no_failure(io: TaskIO) -> None:
    """It passes `except Exception`, uses no attempt, and nothing is rolled back."""

    def act(stage: Talker) -> None:
        try:
            listen(stage)
        except Exception:
            pytest.fail("a suspension was taken for an error")
        if stage.attempts == 3:
            raise ValueError("the first failure")

    undone: list[str] = []
    clock = FakeClock()
    for _ in range(2):
        cm = talk(io, act, clock=clock, max_attempts=2, retry_policy=RetryPolicy.fixed(1))
        cm.task_state.stage_templates[0].undone = undone
        suspended(cm)
        signal(io, "me")
    talk(io, act, clock=clock, max_attempts=2, retry_policy=RetryPolicy.fixed(1)).run()
    history = [entry["status"] for entry in stage_documents(io)[0]["history"]]
    assert history == ["RUNNING", "SUSPENDED"] * 2 + ["RUNNING", "RETRY", "RUNNING", "COMPLETE"]
    assert undone == []
    assert stage_documents(io)[0]["state"]["heard"] == ["me", "me"]


def test_the_engine_returns_and_a_coroutine_can_wait_as_well(io: TaskIO) -> None:
    class Patient(Talker):
        async def execute_stage(self, previous_state_copy: Talk) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            listen(self)

    def cm() -> CheckMate[Patient, Any]:
        return CheckMate(io, TASK, [Patient(stage_name="a")])

    with cm() as engine:
        engine.execute()
        assert engine.status is StageStatus.SUSPENDED
        engine.execute()
        signal(io, "while it is bound")
        engine.execute()
        assert engine.stages[0].state.heard == ["while it is bound"]
        assert engine.check_sync()
    with pytest.raises(TaskSuspendedException):
        asyncio.run(cm().arun())
    signal(io, "me")
    asyncio.run(cm().arun())
    assert stage_documents(io)[0]["status"] == "COMPLETE"


def test_a_suspended_task_can_be_canceled(io: TaskIO) -> None:
    suspended(talk(io))
    talk(io).cancel()
    assert TaskStore(io).get(TASK).status is StageStatus.CANCELED
    with pytest.raises(InvalidTransitionException, match=r"CANCELED.*no event"):
        signal(io, "me")


def test_a_suspended_task_that_is_to_be_canceled_waits_no_longer(io: TaskIO) -> None:
    suspended(talk(io))
    TaskStore(io).request_cancel(TASK)
    with pytest.raises(TaskCanceledException):
        talk(io).run()
    [stage] = stage_documents(io)
    assert (stage["status"], stage["attempts"]) == ("CANCELED", 1)


def test_who_looks_is_told_what_is_waited_for_and_whether_it_is_there(io: TaskIO) -> None:
    store = TaskStore(io)
    with talk(io, wait_for(event="go", until=timedelta(hours=1))):
        assert store.get(TASK).is_due is None
    suspended(talk(io, wait_for(event="go", until=timedelta(hours=1))))
    view = store.get(TASK)
    assert view.suspension is not None
    assert (view.suspension.event, view.is_due) == ("go", False)
    signal(io, "me")
    assert store.get(TASK).is_due is True
    taken = store.list()[0]
    assert taken.is_due is True
    io.remove(SIGNAL)
    store.request_cancel(TASK)
    assert store.get(TASK).is_due is True
    io.remove(f"{TASK}/cancel.json")
    name = f"{TASK}/stages/000-a.json"
    stage = document(io, name)
    stage["notes"]["suspension"]["until"] = "2020-01-01T00:00:00Z"
    _put(io, name, stage)
    assert store.get(TASK).is_due is True


def _put(io: TaskIO, name: str, body: dict[str, Any]) -> None:
    io.write(name, json.dumps(body).encode())


def test_a_suspension_of_the_state_has_a_place_for_the_data_or_the_stage_fails(io: TaskIO) -> None:
    with pytest.raises(StageFailedException, match=r"no attribute 'nowhere'.*Suspend\(field=…\)") as caught:
        talk(io, wait_for(event="nowhere"), max_attempts=3, retry_policy=RetryPolicy.fixed(0)).run()
    assert isinstance(caught.value.__cause__, MissingStateException)
    assert [e["status"] for e in stage_documents(io)[0]["history"]] == ["RUNNING", "ERROR"]


@pytest.mark.parametrize("is_async", [False, True])
def test_only_the_execution_of_a_stage_can_wait(io: TaskIO, is_async: bool) -> None:
    class Undecided(Talker):
        def rollback_stage(self, previous_state_copy: Talk) -> None:
            raise Suspend(event="go")

        def cancel(self) -> None:
            raise Suspend(event="go")

    def fail(_: Talker) -> None:
        raise ValueError

    cm = CheckMate[Talker, Any](io, TASK, [Undecided(stage_name="a", act=fail)])
    with pytest.raises(TaskEngineException, match=r"cancel\(\) of stage 'a'.*outside of execute_stage"):
        asyncio.run(cm.acancel()) if is_async else cm.cancel()
    with pytest.raises(StageFailedException, match="outside of execute_stage"):
        asyncio.run(cm.arun()) if is_async else cm.run()
    assert [e["status"] for e in stage_documents(io)[0]["history"]] == ["RUNNING", "ERROR"]
    assert not is_locked(io)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({}, "until=… or event=…"),
        ({"event": ""}, "until=… or event=…"),
        ({"until": timedelta(1), "field": "go"}, "needs event=…"),
        ({"until": datetime(2026, 1, 1)}, "time zone"),
    ],
)
def test_a_wait_for_nothing_is_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(TaskEngineException, match=word):
        Suspend(**arguments)


@pytest.mark.parametrize(
    ("event", "data", "word"),
    [
        ("", None, "event name"),
        ("x" * 151, None, "event name"),
        ("go", {"f": math.nan}, "no JSON"),
        ("go", {1, 2}, "no JSON"),
        ("go", "x" * DATA_LIMIT, f"{DATA_LIMIT} are allowed"),
    ],
)
def test_a_signal_that_cannot_be_stored_is_refused(io: TaskIO, event: str, data: object, word: str) -> None:
    suspended(talk(io))
    before = raw(io)
    with pytest.raises(TaskEngineException, match=word):
        TaskStore(io).signal(TASK, event, data)
    assert raw(io) == before


def test_a_signal_to_nobody_is_refused(io: TaskIO) -> None:
    with pytest.raises(PersistenceDataNotFoundException, match="no task"):
        signal(io, "me")
    cm = talk(io, act=None)
    cm.run()
    with pytest.raises(InvalidTransitionException, match="COMPLETE"):
        signal(io, "me")
    cm.bind()
    cm.unbind(clean=True)
    with pytest.raises(PersistenceDataNotFoundException):
        signal(io, "me")
    assert list(io.list(f"{TASK}/signals/")) == []


def test_a_signal_of_an_earlier_life_is_ignored_and_replaced(io: TaskIO) -> None:
    suspended(talk(io))
    signal(io, "in the first life")
    old = io.read(SIGNAL).data
    cm = talk(io)
    cm.bind()
    cm.unbind(clean=True)
    assert not io.exists(SIGNAL), "a removal sweeps it"
    suspended(talk(io))
    io.write(SIGNAL, old)
    suspended(talk(io))
    assert TaskStore(io).get(TASK).is_due is False
    assert stage_documents(io)[0]["state"]["heard"] == []
    signal(io, "in the second")
    suspended(talk(io))
    assert stage_documents(io)[0]["state"]["heard"] == ["in the second"]


@pytest.mark.parametrize(
    ("missing", "no_lock"), [([Capability.REMOVE_IF], False), ([Capability.REMOVE_IF, Capability.SWAP], True)]
)
def test_a_store_without_conditions_takes_each_event_once(missing: list[Capability], no_lock: bool) -> None:
    io = Limited(*missing)
    suspended(talk(io, no_lock=no_lock))
    for by in ("first", "second"):
        signal(io, by)
        if by == "first":
            suspended(talk(io, no_lock=no_lock))
            suspended(talk(io, no_lock=no_lock))
            assert TaskStore(io).get(TASK).is_due is False
    talk(io, no_lock=no_lock).run()
    assert stage_documents(io)[0]["state"]["heard"] == ["first", "second"]


def take(io: TaskIO) -> None:
    cm = talk(io)
    cm.bind()
    cm.execute(strict_recovery=True)
    cm.unbind()


@pytest.mark.parametrize("missing", [[], [Capability.REMOVE_IF]])
def test_an_event_is_taken_once_whatever_request_the_process_dies_at(missing: list[Capability]) -> None:
    def prepared() -> Witness:
        store = Witness(Limited(*missing))
        take(store)
        signal(store, "me")
        return store

    counting = FaultyTaskIO(prepared())
    take(counting)
    for number, moment in itertools.product(range(1, len(counting.calls) + 1), MOMENTS):
        store = prepared()
        with pytest.raises(Crash):
            take(dies_at(store, number, moment))
        for _ in range(2):
            bury_holder(store)
            take(store)
            [stage] = stage_documents(store)
            assert (stage["status"], stage["state"]["heard"]) == ("SUSPENDED", ["me"]), (number, moment)
        signal(store, "you")
        take(store)
        [stage] = stage_documents(store)
        assert (stage["status"], stage["state"]["heard"]) == ("COMPLETE", ["me", "you"]), (number, moment)
        store.check_guarantees()


def test_a_crash_at_any_request_of_a_suspension_loses_no_more_than_the_stage_in_flight() -> None:
    counting = FaultyTaskIO(MemoryTaskIO())
    take(counting)
    for number, moment in itertools.product(range(1, len(counting.calls) + 1), MOMENTS):
        store = Witness(MemoryTaskIO())
        with pytest.raises(Crash):
            take(dies_at(store, number, moment))
        bury_holder(store)
        take(store)
        [stage] = stage_documents(store)
        assert stage["status"] == "SUSPENDED", (number, moment)
        assert stage["attempts"] <= 2, (number, moment)
        assert not is_locked(store)


@pytest.mark.parametrize("fault", SINGLE)
def test_one_lost_answer_while_an_event_is_taken_is_resolved_or_raised(fault: Fault) -> None:
    probe = MemoryTaskIO()
    take(probe)
    signal(probe, "me")
    counting = FaultyTaskIO(probe)
    take(counting)
    for number in range(1, len(counting.calls) + 1):
        store = Witness(MemoryTaskIO())
        take(store)
        signal(store, "me")
        client = FaultyTaskIO(store)
        fault(client, number)
        try:
            take(client)
        except StorageUnavailableException:
            assert client.calls[number - 1].operation not in CHANGES, number
            bury_holder(store)
            take(store)
        client.deliver_late()
        take(store)
        [stage] = stage_documents(store)
        assert (stage["status"], stage["state"]["heard"]) == ("SUSPENDED", ["me"]), number
        assert not store.exists(SIGNAL), number


@pytest.mark.parametrize("fault", SINGLE)
def test_one_lost_answer_while_an_event_is_sent_leaves_it_there_once(fault: Fault) -> None:
    for number in (1, 2):
        store = MemoryTaskIO()
        take(store)
        client = FaultyTaskIO(store)
        fault(client, number)
        try:
            signal(client, "me")
        except StorageUnavailableException:
            assert number == 1, "the look at the manifest"
            signal(store, "me")
        take(store)
        client.deliver_late()
        take(store)
        assert stage_documents(store)[0]["state"]["heard"] == ["me"], number
