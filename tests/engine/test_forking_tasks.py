"""A new task from a completed stage of an old one: whole or not there, wherever it is cut off."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest
from pydantic import Field

from checkmate import (
    ArtifactRef,
    BaseStage,
    BaseStageState,
    BindException,
    BindLock,
    CheckMate,
    InvalidStateException,
    PersistenceDataNotFoundException,
    StageStatus,
    TaskEngineException,
    TaskIO,
    TaskStore,
    VersionConflictException,
    open_task_io,
)
from checkmate_core.artifacts import TaskArtifacts
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

from .changing import RENAMED, prepare
from .pipelines import TASK, Crash, Logged, document, engine_for, is_locked, raw, steps
from .test_a_crash_at_any_request import dies_at, points

NEW = "new"
PART = 1024
FILM = random.Random(3).randbytes(2 * PART + 7)
"""Three parts."""


class Album(BaseStageState):
    title: str | None = None
    photo: ArtifactRef | None = None
    film: ArtifactRef | None = None
    notes: list[dict[str, Any]] = Field(default_factory=list)
    shown: int = 0


class Frame(BaseStage[Album]):
    state: Album = Field(default_factory=Album)
    executed: ClassVar[list[str]] = []

    def execute_stage(self, previous_state_copy: Album) -> None:
        self.executed.append(self.stage_name)
        state = self.state
        if self.stage_name == "take":
            state.photo = self.artifacts.put("photo", b"p" * 500, inline_below=0)
            state.film = self.artifacts.put("film", FILM, inline_below=0)
            nested = self.artifacts.put("nested", b"n" * 300, inline_below=0)
            state.notes = [{"deep": nested.model_dump(mode="json")}]
        else:
            state.shown = len(self.artifacts.read(state.photo)) + len(self.artifacts.read(state.film))
        state.result = state.title


def album(io: TaskIO, task_id: str = TASK) -> CheckMate[Frame, str]:
    stages = [
        Frame(stage_name="take", state=Album(title="first")),
        Frame(stage_name="show"),
        Frame(stage_name="keep", state=Album(title="own")),
    ]
    return CheckMate[Frame, str](io, task_id, stages)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskArtifacts, "part_size", PART)
    Frame.executed.clear()


@pytest.fixture(params=["memory", "file", pytest.param("s3", marks=pytest.mark.slow)])
def store_of_each_kind(request: pytest.FixtureRequest) -> TaskIO:
    return open_task_io(request.getfixturevalue(f"checkmate_{request.param}_url"))


def test_a_fork_runs_on_behind_the_stage_with_artifacts_of_its_own(store_of_each_kind: TaskIO) -> None:
    io = store_of_each_kind
    album(io).run()
    old = {name: data for name, data in raw(io).items() if name.startswith(f"{TASK}/")}
    store = TaskStore(io)
    assert store.fork(TASK, "take", new_task_id=NEW) == NEW
    assert {name: data for name, data in raw(io).items() if name.startswith(f"{TASK}/")} == old
    view = store.get(NEW)
    assert [str(stage.status) for stage in view.stages] == ["COMPLETE", "CREATED", "CREATED"]
    assert view.stages[0].history[-1].message == f"Forked from stage 'take' of task {TASK}"
    assert view.holder is None
    assert not is_locked(io, NEW)
    assert io.exists(f"_locks/{NEW}.lock"), "so it is among the unfinished ones"
    # What the fork needs is its own.
    engine = album(io)
    engine.bind()
    engine.unbind(clean=True)
    Frame.executed.clear()
    assert CheckMate[Frame, str].load(io, NEW).run() == "own"
    assert Frame.executed == ["show", "keep"]
    assert store.get(NEW).stages[-1].state["shown"] == 500 + len(FILM)
    nested = ArtifactRef.model_validate(store.get(NEW).stages[0].state["notes"][0]["deep"])
    assert store.artifacts(NEW).read(nested) == b"n" * 300


@pytest.mark.parametrize("state_class", [None, Album])
def test_what_is_set_goes_through_all_later_stages(memory: TaskIO, state_class: type[Album] | None) -> None:
    album(memory).run()
    store = TaskStore(memory)
    new = store.fork(TASK, "show", set={"title": "other"}, state_class=state_class)
    assert store.get(new).stages[1].history[-1].message.endswith("with another title")
    assert store.get(new).stages[0].state["title"] == "first"
    task = CheckMate[Frame, str].load(memory, new)
    assert task.run() == "other", "the input of 'keep' would have overridden it"
    assert TaskStore(memory).get(TASK).result == "own"


@pytest.mark.parametrize(
    ("stage", "options", "error", "fault"),
    [
        ("b", {}, TaskEngineException, r"'b' of task task-1 is not complete.*Completed: 'a'"),
        ("z", {}, TaskEngineException, "does not exist"),
        ("a", {"new_task_id": TASK}, TaskEngineException, "id of its own"),
        ("a", {"new_task_id": "../up"}, TaskEngineException, "is refused"),
        (
            "a",
            {"set": {"nothing": 1}},
            InvalidStateException,
            "has no nothing.*It has count, result, source, trail",
        ),
        ("a", {"set": {"status": "CREATED"}}, InvalidStateException, "has no status"),
        ("a", {"set": {"count": {1}}}, InvalidStateException, "is no JSON"),
        ("a", {"set": {"source": "x" * 5_000_000}}, InvalidStateException, "4,194,304 are allowed"),
        ("a", {"new_task_id": "taken"}, VersionConflictException, "exists"),
        ("a", {"new_task_id": "held"}, BindException, "is held by"),
    ],
)
def test_what_cannot_be_forked_is_refused_and_nothing_is_written(
    memory: TaskIO, stage: str, options: dict[str, Any], error: type[Exception], fault: str
) -> None:
    prepare(memory, 1, "failed")
    with engine_for(memory, task_id="taken"):
        pass
    BindLock(memory, "_locks/held.lock").acquire()
    before = {name: data for name, data in raw(memory).items() if not name.startswith("_locks/held")}
    with pytest.raises(error, match=fault):
        TaskStore(memory).fork(TASK, stage, **options)
    assert {name: data for name, data in raw(memory).items() if not name.startswith("_locks/held")} == before


def test_the_class_of_the_state_refuses_what_does_not_fit_it(memory: TaskIO) -> None:
    album(memory).run()
    before = raw(memory)
    with pytest.raises(InvalidStateException, match="cannot be changed in shown"):
        TaskStore(memory).fork(TASK, "show", set={"shown": "many"}, state_class=Album)
    assert raw(memory) == before


def test_no_task_and_a_removed_task_have_nothing_to_fork(memory: TaskIO) -> None:
    with pytest.raises(PersistenceDataNotFoundException):
        TaskStore(memory).fork("none", "a")
    prepare(memory, 1, "failed")
    engine = engine_for(memory)
    engine.bind()
    engine.unbind(clean=True)
    with pytest.raises(PersistenceDataNotFoundException):
        TaskStore(memory).fork(TASK, "a")


def test_a_fork_of_a_migrated_task_and_over_a_removed_one_is_like_any_other(memory: TaskIO) -> None:
    prepare(memory, 1, "failed")
    RENAMED.run(memory)
    with engine_for(memory, task_id=NEW) as engine:
        engine.auto_cleanup = True
    TaskStore(memory).fork(TASK, "B", new_task_id=NEW)
    assert memory.exists(f"{NEW}/stages/001-B.json")
    log = Logged()
    with engine_for(memory, steps("A", "B", "C", action=log), task_id=NEW) as engine:
        engine.execute()
        assert engine.status is StageStatus.COMPLETE
    assert log.names == ["C"]


def test_a_missing_artifact_is_told_and_leaves_no_task(memory: TaskIO) -> None:
    album(memory).run()
    found = next(info.name for info in memory.list(f"{TASK}/artifacts/"))
    memory.remove(found)
    with pytest.raises(PersistenceDataNotFoundException, match="is not whole"):
        TaskStore(memory).fork(TASK, "take", new_task_id=NEW)
    with pytest.raises(PersistenceDataNotFoundException):
        TaskStore(memory).get(NEW)
    assert not is_locked(memory, NEW)


def forked(io: TaskIO) -> None:
    TaskStore(io).fork(TASK, "show", new_task_id=NEW)


def whole(io: TaskIO) -> bool:
    """Whether the fork is there; if it is, then whole."""
    try:
        view = TaskStore(io).get(NEW)
    except PersistenceDataNotFoundException:
        return False
    assert [str(stage.status) for stage in view.stages] == ["COMPLETE", "COMPLETE", "CREATED"]
    task = CheckMate[Frame, str].load(io, NEW)
    Frame.executed.clear()
    assert task.run() == "own"
    assert Frame.executed == ["keep"]
    return True


def prepared() -> MemoryTaskIO:
    store = MemoryTaskIO()
    album(store).run()
    return store


def requests() -> int:
    client = FaultyTaskIO(prepared())
    forked(client)
    return len(client.calls)


@pytest.mark.parametrize("then", ["fork again", "another task"])
def test_after_a_crash_at_any_request_the_fork_is_whole_or_not_there(then: str) -> None:
    seen = set()
    for number, moment in points(requests()):
        store = prepared()
        with pytest.raises(Crash):
            forked(dies_at(store, number, moment))
        seen.add(is_there := document_is_live(store))
        BindLock(store, f"_locks/{NEW}.lock").force_unlock()
        if is_there:
            assert whole(store)
        elif then == "fork again":
            forked(store)
            assert whole(store)
        else:
            Frame.executed.clear()
            album(store, NEW).run()
            assert Frame.executed == ["take", "show", "keep"], "what was left is garbage"
    assert seen == {True, False}


def document_is_live(io: TaskIO) -> bool:
    name = f"{NEW}/task.json"
    return io.exists(name) and document(io, name)["removed"] is None


def is_write(number: int) -> Callable[[Call], bool]:
    return lambda call: call.number == number and call.operation is Operation.WRITE


def is_after(number: int) -> Callable[[Call], bool]:
    return lambda call: call.number > number


@pytest.mark.parametrize(
    "fault", [LoseResponse(), RaiseBefore(), ApplyLater(1)], ids=["answer", "request", "late"]
)
def test_a_lost_answer_at_any_request_of_a_fork_is_resolved_or_raised(fault: Any) -> None:
    for number in range(1, requests() + 1):
        store = prepared()
        client = FaultyTaskIO(store)
        client.plan(is_write(number), fault)
        forked(client)
        client.deliver_late()
        assert whole(store)


def test_one_that_was_stopped_before_any_request_harms_nobody_who_took_the_id(memory: TaskIO) -> None:
    """Another forks to the same id, or begins a task there, or removes what the other made."""
    for number in range(1, requests() + 1):
        for usurper in (forked, lambda io: album(io, NEW).run(), removed):
            store = prepared()
            client = FaultyTaskIO(store)

            def pause(_: object, store: TaskIO = store, usurper: Any = usurper) -> None:
                BindLock(store, f"_locks/{NEW}.lock").force_unlock()
                try:
                    usurper(store)
                except (VersionConflictException, BindException):
                    return

            client.plan(number, CallBefore(pause))
            try:
                forked(client)
            except TaskEngineException:
                assert not is_locked(store, NEW)
            if document_is_live(store):
                assert CheckMate[Frame, str].load(store, NEW).run() == "own"
            else:
                album(store, NEW).run()
            assert [str(stage.status) for stage in TaskStore(store).get(NEW).stages] == ["COMPLETE"] * 3


def deliver(dead: FaultyTaskIO, _: Call) -> None:
    dead.deliver_late()


def test_what_a_dead_forker_sent_and_arrives_at_any_request_of_the_next_one_harms_nothing() -> None:
    """Its manifest, above all: it would make a task of objects that are not that task's any more."""
    count = requests()
    for number, arrival in [(count - 1, each) for each in range(1, count + 1)] + [
        (count - 3, 6),
        (count - 2, 8),
    ]:
        store = prepared()
        dead = FaultyTaskIO(store)
        dead.plan(number, ApplyLater(None, Crash()))
        dead.plan(is_after(number), RaiseBefore(Crash()), times=None)
        with pytest.raises(Crash):
            forked(dead)
        BindLock(store, f"_locks/{NEW}.lock").force_unlock()
        client = FaultyTaskIO(store)
        client.plan(arrival, CallBefore(partial(deliver, dead)))
        try:
            forked(client)
        except VersionConflictException:
            assert document_is_live(store), "the dead one's had arrived first, and is whole"
        dead.deliver_late()
        assert whole(store)


def removed(io: TaskIO) -> None:
    task = album(io, NEW)
    task.auto_cleanup = True
    task.run()
