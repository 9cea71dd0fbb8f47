"""TaskStore: what can be known of tasks without a lock."""

from contextlib import suppress

import pytest

from checkmate import (
    PersistenceDataNotFoundException,
    StageStatus,
    TaskEngineException,
    TaskIO,
    TaskStore,
)
from checkmate_core.testing import CallAfter, CountingTaskIO, FaultyTaskIO, RaiseBefore

from .pipelines import (
    LOCK,
    TASK,
    Crash,
    FakeClock,
    Notes,
    Step,
    bury_holder,
    engine_for,
    is_locked,
    raw,
    steps,
)


def test_an_empty_store_has_no_tasks(io: TaskIO) -> None:
    store = TaskStore(io)
    assert store.list() == []
    for look in (store.get, store.render, store.dump, store.unlock):
        with pytest.raises(PersistenceDataNotFoundException, match=f"there is no task {TASK}"):
            look(TASK)
    assert raw(io) == {}


def test_unfinished_tasks_come_first_and_the_newest_of_each(io: TaskIO) -> None:
    clock = FakeClock()
    for number in range(4):
        clock.sleep(10)
        with engine_for(io, task_id=f"open-{number}", clock=clock):
            pass
        with engine_for(io, task_id=f"done-{number}", clock=clock) as engine:
            engine.execute()
    order = [f"open-{n}" for n in (3, 2, 1, 0)] + [f"done-{n}" for n in (3, 2, 1, 0)]
    assert [view.task_id for view in TaskStore(io).list()] == order


def test_a_view_tells_what_the_engine_tells(io: TaskIO) -> None:
    def fail(stage: Step, _: Notes) -> None:
        if stage.stage_name == "b":
            raise ValueError("no")

    with engine_for(io, steps(action=fail)) as engine:
        with pytest.raises(TaskEngineException):
            engine.execute()
        view = TaskStore(io).get(TASK)
        assert view.status is engine.status is StageStatus.ERROR
        assert view.stages_complete == 1
        assert view.result == engine.task_result == 1
        assert view.ended is None
        assert view.holder is not None
        assert not view.is_removing
        assert view.url == io.build_url(f"{TASK}/task.json")
        for told, stage in zip(view.stages, engine.stages, strict=True):
            assert told.name == stage.stage_name
            assert told.status is stage.status
            assert told.attempts == stage.attempts
            assert list(told.history) == stage.state.history
            assert told.url == stage.url
            assert told.class_name == f"{Step.__module__}.Step"
        assert view.stages[1].epoch == engine.fencing_token
        assert view.stages[2].epoch is None
    assert TaskStore(io).get(TASK).holder is None


def test_reading_needs_no_lock_and_changes_nothing(io: TaskIO) -> None:
    with engine_for(io) as engine:
        engine.execute()
        before = raw(io)
        store = TaskStore(io)
        store.list()
        store.get(TASK)
        store.render(TASK)
        assert set(store.dump(TASK)) == set(before)
        assert raw(io) == before


def test_rendered_text_is_that_of_the_engine_but_for_the_bookkeeping(io: TaskIO) -> None:
    with engine_for(io) as engine:
        engine.execute()
        text = TaskStore(io).render(TASK)
        for line in engine.dump_stages(color="").splitlines():
            if line.startswith(("#", "- Object", "- Attempts", "|")):
                assert line in text


@pytest.mark.parametrize("executed", [0, 1, 3])
def test_a_task_in_the_midst_of_its_removal_can_still_be_looked_at(memory: TaskIO, executed: int) -> None:
    def fail(stage: Step, _: Notes) -> None:
        if executed < 3 and stage.stage_name == "abc"[executed]:
            raise ValueError("no")

    def clean_until(number: int) -> bool:
        """Die after so many requests of a clean; False once it has fewer."""
        client = FaultyTaskIO(memory)
        engine = engine_for(client, steps(action=fail))
        engine.bind()
        with suppress(TaskEngineException):
            engine.execute()
        begun = len(client.calls)

        def die(_: object) -> None:
            raise Crash

        client.plan(begun + number, CallAfter(die))
        client.plan(lambda call: call.number > begun + number, RaiseBefore(Crash()), times=None)
        try:
            engine.unbind(clean=True)
        except Crash:
            return True
        return False

    number = 1
    while clean_until(number):
        for view in TaskStore(memory).list():
            assert view.fault is None, number
            assert view.is_removing or view.stages_complete == 3
        bury_holder(memory)
        with engine_for(memory) as helper:
            assert helper.status in (StageStatus.CREATED, StageStatus.COMPLETE)
            helper.unbind(clean=True)
            helper.bind()
            helper.unbind(clean=True)
            helper.bind()
        number += 1
    assert number > 2


def test_unlock_gives_back_what_a_dead_worker_held(io: TaskIO) -> None:
    engine = engine_for(io)
    engine.bind()
    assert "pid" in str(TaskStore(io).unlock(TASK))
    assert not is_locked(io)
    assert TaskStore(io).unlock(TASK) is None
    with engine_for(io) as again:
        again.execute()


def test_a_lock_without_a_manifest_is_a_task_that_never_started(io: TaskIO) -> None:
    with engine_for(io):
        pass
    io.remove(f"{TASK}/task.json")
    assert TaskStore(io).list() == []
    assert io.exists(LOCK)
    with engine_for(io) as engine:
        engine.execute()


def test_strangers_objects_are_left_out(io: TaskIO) -> None:
    with engine_for(io):
        pass
    for name in ("notes.txt", "x y/task.json", "deep/er/task.json", "_locks/odd name.lock", "_locks/x.txt"):
        io.write(name, b"hello")
    assert [view.task_id for view in TaskStore(io).list()] == [TASK]


def test_a_listing_costs_one_read_an_object(memory: TaskIO) -> None:
    for number in range(5):
        with engine_for(memory, task_id=f"t{number}") as engine:
            engine.execute()
    counting = CountingTaskIO(memory)
    assert len(TaskStore(counting).list()) == 5
    assert counting.counts.lists == 1
    assert counting.counts.reads <= 5 * (1 + 1 + 3)
    assert counting.counts.writes == counting.counts.removes == 0
