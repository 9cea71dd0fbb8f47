"""A task is rolled back: its stages in reverse order, each stored before the next, whoever dies meanwhile."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import pytest

from checkmate import (
    CheckMate,
    InterruptedStageException,
    InvalidTransitionException,
    LockLostException,
    RetryPolicy,
    StageFailedException,
    StageStatus,
    StorageUnavailableException,
    TaskEngineException,
    TaskIO,
    TaskRolledBackException,
    TaskStore,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import ApplyLater, CallBefore, FaultyTaskIO, writes_to

from .leftovers import left_canceled, left_complete, left_created, left_in_error, left_in_retry, left_running
from .pipelines import (
    LOCK,
    MANIFEST,
    TASK,
    Crash,
    Engine,
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
from .test_a_lost_answer_at_any_request import CHANGES, SINGLE, Fault

Way = Literal["execute", "rollback"]
BOUGHT = ["do a", "do b", "do c", "undo c", "undo b", "undo a"]
ROLLED_BACK = ["ROLLED_BACK"] * 3


class World:
    """What stages do to the world outside: a stage may fail, or be stopped, in doing or in undoing."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.on: dict[str, Callable[[Step, Notes], object]] = {}

    def stages(self) -> list[Step]:
        made = steps("a", "b", "c", action=lambda stage, previous: self.happen("do", stage, previous))
        for stage in made:
            stage.undo = lambda stage, previous: self.happen("undo", stage, previous)
        return made

    def happen(self, what: str, stage: Step, previous: Notes) -> None:
        deed = f"{what} {stage.stage_name}"
        self.log.append(deed)
        if deed in self.on:
            self.on[deed](stage, previous)

    def fail(self, deed: str, error: BaseException | None = None, *, times: int = 10**9) -> None:
        left = [times]

        def fail(*_: object) -> None:
            if left[0]:
                left[0] -= 1
                raise error or ValueError(f"no {deed}")

        self.on[deed] = fail


@pytest.fixture
def world() -> World:
    return World()


def buy(io: TaskIO, world: World, **options: Any) -> Engine:
    """An engine of the saga, not bound."""
    return engine_for(io, world.stages(), **{"on_error": "compensate", **options})


def go_back(engine: Engine, way: Way) -> None:
    """Roll a task back to its end, in the one way or the other."""
    if way == "rollback":
        engine.rollback()
        return
    with pytest.raises(TaskRolledBackException), engine:
        engine.execute(strict_recovery=True)


def statuses(io: TaskIO) -> list[str]:
    return [stage["status"] for stage in stage_documents(io)]


def check_rolled_back(io: TaskIO) -> None:
    assert set(statuses(io)) == {"ROLLED_BACK"}
    assert document(io, MANIFEST)["ended_as"] == "ROLLED_BACK"
    task = TaskStore(io).get(TASK)
    assert task.status is StageStatus.ROLLED_BACK
    assert task.ended is not None
    assert not io.exists(LOCK), "a finished task"


def test_a_task_that_fails_for_good_is_rolled_back_last_stage_first(io: TaskIO, world: World) -> None:
    world.fail("do c", error := ValueError("sold out"))
    seen: dict[str, list[str]] = {}
    for name in "ab":
        world.on[f"undo {name}"] = lambda stage, _: seen.update({stage.stage_name: statuses(io)})
    engine = buy(io, world, max_attempts=2, retry_policy=RetryPolicy.fixed(1))
    with (
        pytest.raises(StageFailedException, match=r"stage 'c' .*sold out.*was rolled back") as caught,
        engine,
    ):
        engine.execute()
    assert caught.value.__cause__ is error
    assert world.log == ["do a", "do b", "do c", "undo c", *BOUGHT[2:]]
    assert seen["b"] == ["COMPLETE", "ROLLING_BACK", "ROLLED_BACK"], (
        "each is stored before the next is undone"
    )
    assert seen["a"] == ["ROLLING_BACK", "ROLLED_BACK", "ROLLED_BACK"]
    check_rolled_back(io)
    histories = [[entry["status"] for entry in stage["history"]] for stage in stage_documents(io)]
    assert histories[0] == ["RUNNING", "COMPLETE", "ROLLING_BACK", "ROLLED_BACK"]
    assert histories[2] == ["RUNNING", "RETRY", "RUNNING", "ROLLED_BACK"]
    assert stage_documents(io)[1]["state"]["trail"] == ["a", "b"], "the state stays, to be looked at"


def test_a_rollback_gets_the_state_of_the_stage_and_a_copy_of_the_previous_one(
    io: TaskIO, world: World
) -> None:
    seen: list[tuple[list[str], list[str]]] = []

    def look(stage: Step, previous: Notes) -> None:
        seen.append((list(stage.state.trail), list(previous.trail)))
        previous.trail.append("changed")

    world.fail("do c")
    world.on |= {"undo a": look, "undo b": look}
    with suppress(StageFailedException), buy(io, world) as engine:
        engine.execute()
    assert seen == [(["a", "b"], ["a"]), (["a"], ["a"])]


def test_by_default_a_task_stops_where_it_failed(io: TaskIO, world: World) -> None:
    world.fail("do c", times=1)
    with pytest.raises(StageFailedException), buy(io, world, on_error="stop") as engine:
        engine.execute()
    assert world.log == ["do a", "do b", "do c", "undo c"]
    assert statuses(io) == ["COMPLETE", "COMPLETE", "ERROR"]
    with buy(io, world, on_error="stop") as engine:
        engine.execute()
        assert engine.status is StageStatus.COMPLETE


def test_what_happens_on_error_is_stored_for_whoever_loads_the_task(io: TaskIO, world: World) -> None:
    with buy(io, world):
        pass
    loaded = CheckMate[Step, Any].load(io, TASK)
    assert loaded.on_error == "compensate"
    for stage in loaded.task_state.stage_templates:
        stage.action = lambda stage, previous: world.happen("do", stage, previous)
        stage.undo = lambda stage, previous: world.happen("undo", stage, previous)
    world.fail("do b")
    with pytest.raises(StageFailedException, match="rolled back"):
        loaded.run()
    assert loaded.status is StageStatus.ROLLED_BACK
    assert world.log == ["do a", "do b", "undo b", "undo a"]


def test_any_other_wish_for_what_happens_on_error_is_refused(io: TaskIO, world: World) -> None:
    with pytest.raises(TaskEngineException, match=r"'explode'.*compensate"):
        buy(io, world, on_error="explode")


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize(
    ("leave", "undone"),
    [
        (left_created, []),
        (left_running, ["undo b", "undo a"]),
        (left_in_retry, ["undo b", "undo a"]),
        (left_in_error, ["undo b", "undo a"]),
    ],
)
def test_an_unfinished_task_can_be_rolled_back(
    io: TaskIO, world: World, leave: Callable[[TaskIO], None], undone: list[str], bound: bool
) -> None:
    leave(io)
    engine = buy(io, world)
    if bound:
        with engine:
            engine.rollback()
            assert engine.status is StageStatus.ROLLED_BACK
            assert engine.check_sync()
    else:
        engine.rollback()
    assert world.log == undone
    check_rolled_back(io)


def test_a_task_between_two_stages_is_rolled_back_behind_a_mark_on_the_next(io: TaskIO, world: World) -> None:
    world.fail("do b", KeyboardInterrupt())

    def stop(stage: Step) -> None:
        if stage.stage_name == "a" and stage.status is StageStatus.COMPLETE:
            raise Crash

    engine = buy(io, world)
    engine.state_update_hook = stop  # type: ignore[method-assign]
    with pytest.raises(Crash), engine:
        engine.execute()
    assert statuses(io) == ["COMPLETE"]
    buy(io, world).rollback()
    assert world.log == ["do a", "undo a"]
    assert statuses(io) == ["ROLLED_BACK", "ROLLED_BACK"]
    assert stage_documents(io)[1]["history"][0]["message"] == "Never begun"
    check_rolled_back(io)


@pytest.mark.parametrize("leave", [left_complete, left_canceled])
def test_a_finished_task_is_not_rolled_back(
    io: TaskIO, world: World, leave: Callable[[TaskIO], None]
) -> None:
    leave(io)
    before = raw(io)
    with pytest.raises(InvalidTransitionException, match="finished and cannot be rolled back"):
        buy(io, world).rollback()
    assert {n: d for n, d in raw(io).items() if n != LOCK} == {n: d for n, d in before.items() if n != LOCK}
    assert world.log == []


def test_a_task_that_was_rolled_back_is_neither_executed_nor_canceled_nor_rolled_back(
    io: TaskIO, world: World
) -> None:
    left_in_error(io)
    buy(io, world).rollback()
    before = raw(io)
    cm = CheckMate[Step, Any](io, TASK, world.stages())
    with pytest.raises(TaskRolledBackException, match="start a new task"):
        cm.run()
    assert cm.status is StageStatus.ROLLED_BACK
    for refused in (buy(io, world).rollback, buy(io, world).cancel):
        with pytest.raises(InvalidTransitionException):
            refused()
    assert raw(io) == before
    assert world.log == ["undo b", "undo a"]


@pytest.mark.parametrize("way", ["execute", "rollback"])
def test_a_rollback_that_fails_goes_on_at_that_stage(io: TaskIO, world: World, way: Way) -> None:
    world.fail("do c", original := ValueError("original"))
    world.fail("undo b", error := RuntimeError("cannot undo"), times=2)
    with (
        pytest.raises(
            StageFailedException, match=r"stage 'b' could not be rolled back.*cannot undo"
        ) as caught,
        buy(io, world) as engine,
    ):
        engine.execute()
    assert caught.value.__cause__ is error
    assert error.__cause__ is original
    for _ in range(2):
        assert statuses(io) == ["COMPLETE", "ROLLING_BACK", "ROLLED_BACK"]
        assert TaskStore(io).get(TASK).status is StageStatus.ROLLING_BACK
        assert "cannot undo" in stage_documents(io)[1]["history"][-1]["message"]
        assert not is_locked(io)
        with suppress(StageFailedException, TaskRolledBackException), buy(io, world) as engine:
            # Nothing is in flight, so nobody's word is needed.
            engine.execute() if way == "execute" else engine.rollback()
    assert world.log == [*BOUGHT[:5], "undo b", "undo b", "undo a"]
    check_rolled_back(io)


def test_a_stage_whose_own_rollback_fails_is_in_error_and_nothing_else_is_undone(
    io: TaskIO, world: World
) -> None:
    world.fail("do c")
    world.fail("undo c", times=1)
    with pytest.raises(StageFailedException), buy(io, world) as engine:
        engine.execute()
    assert world.log == BOUGHT[:4]
    assert statuses(io) == ["COMPLETE", "COMPLETE", "ERROR"]
    buy(io, world).rollback()
    assert world.log == [*BOUGHT[:4], "undo c", "undo b", "undo a"]
    check_rolled_back(io)


def test_a_rollback_that_was_in_flight_needs_the_operators_word(io: TaskIO, world: World) -> None:
    world.fail("do c")
    world.fail("undo b", KeyboardInterrupt(), times=1)
    with pytest.raises(KeyboardInterrupt), buy(io, world) as engine:
        engine.execute()
    assert not is_locked(io)
    before = world.log.copy()
    with (
        pytest.raises(InterruptedStageException, match=r"'b'.*rolled back in part"),
        buy(io, world) as engine,
    ):
        engine.execute()
    assert world.log == before
    go_back(buy(io, world), "execute")
    assert world.log == [*BOUGHT[:5], "undo b", "undo a"]


def failing_run(io: TaskIO, world: World) -> None:
    world.fail("do c")
    engine = buy(io, world)
    engine.bind()
    with suppress(StageFailedException):
        engine.execute(strict_recovery=True)
    engine.unbind()


def ordered_rollback(io: TaskIO, world: World) -> None:
    engine = buy(io, world)
    engine.bind()
    engine.rollback()
    engine.unbind()


def undone(world: World) -> list[str]:
    return [deed for deed in world.log if deed.startswith("undo")]


@pytest.mark.parametrize("way", ["execute", "rollback"])
@pytest.mark.parametrize("begin", [failing_run, ordered_rollback])
def test_a_crash_at_any_request_of_a_rollback_is_followed_by_the_rest(
    begin: Callable[[TaskIO, World], None], way: Way
) -> None:
    def prepared() -> Witness:
        store = Witness(MemoryTaskIO())
        if begin is ordered_rollback:
            first = World()
            first.fail("do c")
            with suppress(StageFailedException), buy(store, first, on_error="stop") as engine:
                engine.execute()
        return store

    counting = FaultyTaskIO(prepared())
    begin(counting, World())
    resumed = 0
    for number, moment in itertools.product(range(1, len(counting.calls) + 1), MOMENTS):
        store, world = prepared(), World()
        with pytest.raises(Crash):
            begin(dies_at(store, number, moment), world)
        where = f"{number} {moment}"
        bury_holder(store)
        was_back = "ROLLED_BACK" in statuses(store) or "ROLLING_BACK" in statuses(store)
        if way == "rollback" and set(statuses(store)) == {"ROLLED_BACK"} and statuses(store):
            with suppress(InvalidTransitionException):
                buy(store, world).rollback()
        elif was_back:
            resumed += 1
            go_back(buy(store, world), way)
        else:
            # It had not turned yet: the run goes on, and fails; or is told to turn.
            begin(store, world)
        assert set(statuses(store)) == {"ROLLED_BACK"}, where
        if was_back:
            assert len(undone(world)) <= 3 + 1, f"only what was in flight is undone again: {where}"
            assert list(dict.fromkeys(undone(world))) == BOUGHT[3:], where
        elif begin is failing_run:
            assert undone(world)[-3:] == BOUGHT[3:], where
        store.check_guarantees()
        assert not is_locked(store), where
    assert resumed > 5


@pytest.mark.parametrize("fault", SINGLE)
def test_one_lost_answer_within_a_rollback_is_resolved_or_raised(fault: Fault) -> None:
    counting = FaultyTaskIO(MemoryTaskIO())
    failing_run(counting, World())
    for number in range(1, len(counting.calls) + 1):
        store, world = Witness(MemoryTaskIO()), World()
        client = FaultyTaskIO(store)
        fault(client, number)
        try:
            failing_run(client, world)
        except StorageUnavailableException:
            assert client.calls[number - 1].operation not in CHANGES, number
            bury_holder(store)
            failing_run(store, world)
        client.deliver_late()
        assert world.log == BOUGHT, number
        assert statuses(store) == ROLLED_BACK, number
        store.check_guarantees()


@pytest.mark.parametrize("paused_in", ["a", "b", "c"])
def test_a_zombie_that_runs_forward_is_fenced_by_who_rolls_back(
    io: TaskIO, world: World, paused_in: str
) -> None:
    store, others = Witness(io), World()
    before: dict[str, bytes] = {}

    def overtake(*_: object) -> None:
        bury_holder(store)
        buy(store, others).rollback()
        before.update(raw(store))

    world.on[f"do {paused_in}"] = overtake
    zombie = buy(store, world)
    zombie.bind()
    with pytest.raises(LockLostException):
        zombie.execute()
    zombie.unbind()
    assert raw(store) == before
    assert world.log == [f"do {name}" for name in "abc" if name <= paused_in], "and it undoes nothing"
    assert others.log == [f"undo {name}" for name in "cba" if name <= paused_in]
    store.check_guarantees()
    check_rolled_back(store)


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_zombie_between_two_stages_cannot_begin_the_next(io: TaskIO, world: World, done: int) -> None:
    """The mark on the stage that never began is what keeps it out."""
    store, others = Witness(io), World()

    def overtake(_: object) -> None:
        bury_holder(store)
        buy(store, others).rollback()

    client = FaultyTaskIO(store)
    client.plan(writes_to(f"{TASK}/stages/00{done}"), CallBefore(overtake))
    zombie = buy(client, world)
    zombie.bind()
    with pytest.raises(LockLostException):
        zombie.execute()
    zombie.unbind()
    assert world.log == [f"do {name}" for name in "abc"[:done]]
    assert others.log == [f"undo {name}" for name in "abc"[:done][::-1]]
    store.check_guarantees()
    check_rolled_back(store)


@pytest.mark.parametrize("paused_in", ["c", "b", "a"])
def test_a_zombie_that_rolls_back_is_fenced_by_who_goes_on_with_it(
    io: TaskIO, world: World, paused_in: str
) -> None:
    store, others = Witness(io), World()

    def overtake(*_: object) -> None:
        world.on.clear()
        bury_holder(store)
        go_back(buy(store, others), "execute")

    left_in_error_at_c(store)
    world.on[f"undo {paused_in}"] = overtake
    zombie = buy(store, world)
    zombie.bind()
    with pytest.raises(LockLostException):
        zombie.rollback()
    zombie.unbind()
    assert world.log == [f"undo {name}" for name in "cba" if name >= paused_in]
    assert others.log == [f"undo {name}" for name in "cba" if name <= paused_in]
    store.check_guarantees()
    check_rolled_back(store)


def test_a_zombie_that_is_about_to_roll_back_is_fenced_by_who_runs_forward(io: TaskIO, world: World) -> None:
    store, others = Witness(io), World()
    left_in_error_at_c(store)

    def overtake(_: object) -> None:
        bury_holder(store)
        with buy(store, others) as engine:
            engine.execute()

    client = FaultyTaskIO(store)
    client.plan(writes_to(f"{TASK}/stages/"), CallBefore(overtake))
    zombie = buy(client, world)
    zombie.bind()
    with pytest.raises(LockLostException):
        zombie.rollback()
    zombie.unbind()
    assert (world.log, others.log) == ([], ["do c"])
    assert statuses(store) == ["COMPLETE"] * 3
    store.check_guarantees()


@pytest.mark.parametrize("status", ["ROLLING_BACK", "ROLLED_BACK"])
def test_a_late_write_of_a_dead_rollback_between_read_and_claim_is_adopted(
    memory: TaskIO, world: World, status: str
) -> None:
    """Whatever arrives, the claim meets the one object that the dead owner could write next."""
    store, first = Witness(memory), World()
    left_in_error_at_c(store)
    dead = FaultyTaskIO(store)
    nth = {"ROLLING_BACK": 1, "ROLLED_BACK": 2}[status]
    seen: list[object] = []

    def is_it(call: Any) -> bool:
        if writes_to(f"{TASK}/stages/001")(call):
            seen.append(call)
            return len(seen) == nth
        return False

    dead.plan(is_it, ApplyLater(None, Crash()))
    with pytest.raises(Crash), buy(dead, first) as engine:
        engine.rollback()
    bury_holder(store)
    client = FaultyTaskIO(store)
    client.plan(writes_to(f"{TASK}/stages/001"), CallBefore(lambda _: dead.deliver_late()))
    go_back(buy(client, world), "execute")
    assert undone(first) == (["undo c"] if status == "ROLLING_BACK" else ["undo c", "undo b"])
    assert world.log == (["undo b", "undo a"] if status == "ROLLING_BACK" else ["undo a"])
    store.check_guarantees()
    check_rolled_back(store)


@pytest.mark.parametrize("paused_in", ["c", "b", "a"])
def test_a_removal_in_the_middle_of_a_rollback_fences_it(io: TaskIO, world: World, paused_in: str) -> None:
    left_in_error_at_c(io)
    before: dict[str, bytes] = {}

    def overtake(*_: object) -> None:
        bury_holder(io)
        remover = buy(io, World())
        remover.bind()
        remover.unbind(clean=True)
        before.update(raw(io))

    world.on[f"undo {paused_in}"] = overtake
    zombie = buy(io, world)
    zombie.bind()
    with pytest.raises(LockLostException):
        zombie.rollback()
    zombie.unbind()
    assert raw(io) == before
    assert document(io, MANIFEST)["removed"]
    assert world.log == [f"undo {name}" for name in "cba" if name >= paused_in]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_removal_that_dies_in_the_middle_of_a_rollback_is_finished_by_the_next_bind(
    memory: TaskIO, moment: Literal["before", "after"]
) -> None:
    half = World()
    left_in_error_at_c(memory)
    half.fail("undo b", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), buy(memory, half) as engine:
        engine.rollback()
    left = raw(memory)
    counting = FaultyTaskIO(memory)
    remover = buy(counting, World())
    remover.bind()
    bound = len(counting.calls)
    remover.unbind(clean=True)
    for number in range(bound + 1, len(counting.calls) + 1):
        io = MemoryTaskIO()
        for name, data in left.items():
            io.write(name, data)
        remover = buy(dies_at(io, number, moment), World())
        remover.bind()
        with pytest.raises(Crash):
            remover.unbind(clean=True)
        is_begun = document(io, MANIFEST).get("removed") or "REMOVING" in statuses(io)
        bury_holder(io)
        again = buy(io, World())
        again.bind()
        assert again.status is (StageStatus.CREATED if is_begun else StageStatus.ROLLING_BACK), number
        again.unbind(clean=True)
        assert [info.name for info in io.list(TASK)] == [MANIFEST], number


def left_in_error_at_c(io: TaskIO) -> None:
    world = World()
    world.fail("do c")
    with suppress(StageFailedException), buy(io, world, on_error="stop") as engine:
        engine.execute()
    assert statuses(io) == ["COMPLETE", "COMPLETE", "ERROR"]
