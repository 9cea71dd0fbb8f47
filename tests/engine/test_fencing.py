"""An owner that was paused, and wakes up after another one has taken its task."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from checkmate import BindLock, LockLostException, StageStatus, TaskIO
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import ApplyLater, CallBefore, FaultyTaskIO, writes_to

from .pipelines import (
    LOCK,
    MANIFEST,
    TASK,
    Crash,
    Engine,
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


def overtaken_in(name: str, overtake: Callable[[], object], log: Logged) -> list[Step]:
    """Stages of which one is paused in its midst while somebody else does ``overtake``."""

    def action(stage: Step, previous: Notes) -> None:
        log(stage, previous)
        if stage.stage_name == name:
            overtake()

    return steps(action=action)


@pytest.mark.parametrize("paused_in", ["a", "b", "c"])
def test_the_paused_owners_next_write_is_refused_and_changes_nothing(
    io: TaskIO, paused_in: str, log: Logged
) -> None:
    store, others = Witness(io), Logged()
    successor = engine_for(store, steps(action=others))
    before: dict[str, bytes] = {}

    def overtake() -> None:
        bury_holder(store)
        successor.bind()
        successor.execute(strict_recovery=True)
        before.update(raw(store))

    zombie = engine_for(store, overtaken_in(paused_in, overtake, log))
    zombie.bind()
    with pytest.raises(LockLostException, match=rf"stages/00\d-{paused_in}\.json.*another owner"):
        zombie.execute()
    with pytest.raises(LockLostException):
        zombie.execute(strict_recovery=True)
    zombie.unbind()
    assert raw(store) == before
    assert is_locked(store), "the zombie's release disturbs nobody"
    successor.unbind()
    store.check_guarantees()
    assert others.names == ["a", "b", "c"]["abc".index(paused_in) :]


@pytest.mark.parametrize("paused_in", ["a", "b", "c"])
def test_a_successor_that_only_claimed_fences_the_zombie(io: TaskIO, paused_in: str, log: Logged) -> None:
    store = Witness(io)

    def die(stage: Step, _: Notes) -> None:
        raise Crash

    def overtake() -> None:
        bury_holder(store)
        successor.bind()
        with pytest.raises(Crash):
            successor.execute(strict_recovery=True)

    successor = engine_for(store, steps(action=die))
    zombie = engine_for(store, overtaken_in(paused_in, overtake, log))
    zombie.bind()
    with pytest.raises(LockLostException):
        zombie.execute()
    index = "abc".index(paused_in)
    assert stage_documents(store)[index]["status"] == "RUNNING"
    assert stage_documents(store)[index]["epoch"] == 2
    zombie.unbind()
    successor.unbind()
    store.check_guarantees()


def test_a_zombie_that_is_only_bound_cannot_begin(io: TaskIO, log: Logged) -> None:
    zombie = engine_for(io, steps(action=log))
    zombie.bind()
    bury_holder(io)
    with engine_for(io) as successor:
        successor.execute()
    before = raw(io)
    with pytest.raises(LockLostException):
        zombie.execute()
    assert log.names == []
    zombie.unbind()
    assert raw(io) == before


def test_a_zombie_cannot_cancel_what_its_successor_has_claimed(io: TaskIO) -> None:
    zombie = engine_for(io)
    zombie.bind()
    bury_holder(io)
    with engine_for(io) as successor:
        successor.execute()
    before = raw(io)
    with pytest.raises(LockLostException):
        zombie.cancel()
    zombie.unbind()
    assert raw(io) == before


def test_a_zombie_cannot_clean_what_its_successor_has_claimed(io: TaskIO) -> None:
    def stop(stage: Step, _: Notes) -> None:
        raise KeyboardInterrupt

    zombie = engine_for(io)
    zombie.bind()
    bury_holder(io)
    with pytest.raises(KeyboardInterrupt), engine_for(io, steps(action=stop)) as successor:
        successor.execute()
    before = raw(io)
    with pytest.raises(LockLostException):
        zombie.unbind(clean=True)
    assert raw(io) == before
    assert not zombie.is_bound


def test_a_successor_that_only_bound_has_fenced_nobody_and_is_fenced_itself(io: TaskIO, log: Logged) -> None:
    """The claim is the fence: a bind alone writes no stage object."""
    first = engine_for(io, steps(action=log))
    first.bind()
    bury_holder(io)
    second = engine_for(io, steps(action=log))
    second.bind()
    first.execute()
    assert first.status is StageStatus.COMPLETE
    # What the first stored is history to the second, not a rival's: it adopts it all.
    second.execute()
    assert second.status is StageStatus.COMPLETE
    assert log.names == ["a", "b", "c"]
    assert second.check_sync()
    first.unbind()
    assert is_locked(io)
    second.unbind()
    assert not is_locked(io)


@pytest.mark.parametrize("status", ["RUNNING", "COMPLETE"])
def test_a_late_write_of_the_dead_owner_between_read_and_claim_is_adopted(
    memory: TaskIO, log: Logged, status: str
) -> None:
    store = Witness(memory)
    dead = FaultyTaskIO(store)
    nth = {"RUNNING": 1, "COMPLETE": 2}[status]
    seen: list[int] = []

    def is_it(call: object) -> bool:
        if not writes_to(f"{TASK}/stages/000")(call):  # type: ignore[arg-type]
            return False
        seen.append(1)
        return len(seen) == nth

    dead.plan(is_it, ApplyLater(None, Crash()))
    with pytest.raises(Crash), engine_for(dead, steps(action=log)) as first:
        first.execute()
    bury_holder(store)
    client = FaultyTaskIO(store)
    client.plan(writes_to(f"{TASK}/stages/000"), CallBefore(lambda _: dead.deliver_late()))
    with engine_for(client, steps(action=log)) as second:
        second.execute(strict_recovery=True)
        assert second.stages[-1].state.trail == ["a", "b", "c"]
        assert second.check_sync()
    assert log.names == ["a", "b", "c"], "the late COMPLETE counts, and a late RUNNING was never executed"
    store.check_guarantees()


def test_the_fencing_token_rises_with_every_owner_and_stands_in_the_history(io: TaskIO) -> None:
    tokens: list[int | None] = []

    def fail(stage: Step, _: Notes) -> None:
        tokens.append(stage.engine.fencing_token)
        raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt), engine_for(io, steps(action=fail)) as engine:
            engine.execute(strict_recovery=True)
    assert engine.fencing_token is None
    assert tokens == sorted({token for token in tokens if token is not None})
    assert [entry["epoch"] for entry in stage_documents(io)[0]["history"]] == tokens


def test_the_epoch_rises_though_the_lock_object_was_removed_by_hand(io: TaskIO) -> None:
    def stop(stage: Step, _: Notes) -> None:
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), engine_for(io, steps(action=stop)) as engine:
            engine.execute(strict_recovery=True)
        io.remove(LOCK)
    epochs = [entry["epoch"] for entry in stage_documents(io)[0]["history"]]
    assert epochs == sorted(set(epochs))


def test_an_engine_whose_lock_was_taken_while_it_read_never_executes_what_is_done() -> None:
    """The reads before an acquisition only propose the epoch; a higher one found later sends it back."""

    def overtaken_at(number: int) -> None:
        store, others, mine = Witness(MemoryTaskIO()), Logged(), Logged()
        with engine_for(store):
            pass

        def overtake(_: object) -> None:
            bury_holder(store)
            with engine_for(store, steps(action=others)) as other:
                other.execute()

        client = FaultyTaskIO(store)
        client.plan(number, CallBefore(overtake))
        engine = engine_for(client, steps(action=mine))
        engine.bind()
        with suppress(LockLostException):
            engine.execute()
        engine.unbind()
        assert others.names == ["a", "b", "c"]
        assert mine.names == [], number
        store.check_guarantees()

    for number in range(1, _requests_of_a_bind() + 1):
        overtaken_at(number)


def _requests_of_a_bind() -> int:
    client = FaultyTaskIO(MemoryTaskIO())
    with engine_for(client):
        pass
    before = len(client.calls)
    with engine_for(client):
        return len(client.calls) - before


def test_a_zombie_of_an_earlier_life_cannot_touch_the_next(io: TaskIO, log: Logged) -> None:
    store = Witness(io)
    before: dict[str, bytes] = {}
    later: list[Engine] = []

    def overtake() -> None:
        bury_holder(store)
        with engine_for(store) as cleaner:
            cleaner.execute(strict_recovery=True)
            cleaner.unbind(clean=True)
            cleaner.bind()
        later.append(engine_for(store))
        later[0].bind()
        before.update(raw(store))

    zombie = engine_for(store, overtaken_in("b", overtake, log))
    zombie.bind()
    with pytest.raises(LockLostException):
        zombie.execute()
    zombie.unbind()
    assert raw(store) == before
    later[0].execute()
    assert later[0].stages[-1].state.trail == ["a", "b", "c"]
    later[0].unbind()
    store.check_guarantees()


def test_a_zombie_does_not_note_the_end_of_a_task_that_was_begun_anew(io: TaskIO, log: Logged) -> None:
    zombie = engine_for(io, steps(action=log))
    zombie.bind()
    zombie.execute()
    bury_holder(io)
    with engine_for(io) as cleaner:
        cleaner.unbind(clean=True)
        cleaner.bind()
    manifest = document(io, MANIFEST)
    zombie.execute()  # complete as far as it knows: it has nothing to do and nothing to write
    zombie.unbind()
    assert document(io, MANIFEST) == manifest


def test_force_unlock_says_whom_it_unlocked(io: TaskIO) -> None:
    with engine_for(io):
        held = BindLock(io, LOCK).force_unlock()
    assert held is not None
    assert held.epoch == 1
    assert BindLock(io, LOCK).force_unlock() is None
