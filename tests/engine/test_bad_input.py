"""What does not fit is refused with the tree's error, and nothing is written, lost or left locked."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from checkmate import (
    BaseStage,
    BaseStageState,
    BindException,
    CheckMate,
    CheckMateEngine,
    CorruptObjectException,
    IncompatibleTaskException,
    InvalidTransitionException,
    TaskEngineException,
    TaskIO,
    TaskStore,
    UnsupportedBackendException,
    open_task_io,
)
from checkmate_core.io.memory import MemoryTaskIO

from .pipelines import (
    LOCK,
    MANIFEST,
    TASK,
    Engine,
    Logged,
    Step,
    document,
    edit,
    engine_for,
    is_locked,
    raw,
    raw_without_locks,
    steps,
)

FIRST = f"{TASK}/stages/000-a.json"
DAMAGES = {
    "empty": b"",
    "cut": b'{"format": 1, "written_by": "0.9',
    "no JSON": b"hello",
    "no UTF-8": b"\xff\xfe\x00",
    "a list": b"[1, 2]",
    "a number": b"5",
    "null": b"null",
    "no fields": b'{"format": 1}',
    "no format": b"{}",
    "very deep": b"[" * 100_000,
    "another kind": b'{"format": 1, "write_id": "x", "written_by": "0.9.0", "status": "NOT A STATUS"}',
}


def store_task(io: TaskIO) -> None:
    """A task whose first stage is done and whose second failed."""

    def fail_in_b(stage: Step, _: object) -> None:
        if stage.stage_name == "b":
            raise ValueError("no")

    with pytest.raises(TaskEngineException), engine_for(io, steps(action=fail_in_b)) as engine:
        engine.execute()


def refused(io: TaskIO, engine: Engine, error: type[Exception], *words: str) -> Exception:
    """Binding and executing is refused with ``error``; the store and the lock are as before."""
    before, locked = raw_without_locks(io), is_locked_or_damaged(io)
    with pytest.raises(error) as caught, engine:
        engine.execute(strict_recovery=True)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value), f"{word!r} is missing in: {caught.value}"
    assert raw_without_locks(io) == before
    assert is_locked_or_damaged(io) == locked
    assert not engine.is_bound
    return caught.value


def is_locked_or_damaged(io: TaskIO) -> object:
    try:
        return is_locked(io)
    except Exception:
        return io.read(LOCK).data


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [MANIFEST, FIRST, LOCK])
def test_a_damaged_object_is_refused_by_name(io: TaskIO, name: str, damage: str) -> None:
    store_task(io)
    io.write(name, DAMAGES[damage])
    refused(io, engine_for(io), CorruptObjectException, io.build_url(name), "Nothing was changed")
    assert io.read(name).data == DAMAGES[damage]


@pytest.mark.parametrize("damage", ["empty", "cut", "no fields"])
def test_a_damaged_lock_is_never_guessed_free(io: TaskIO, damage: str) -> None:
    io.write(LOCK, DAMAGES[damage])
    for engine in (engine_for(io), engine_for(io, force_create=True)):
        with pytest.raises(CorruptObjectException, match=LOCK):
            engine.bind()
    assert raw(io) == {LOCK: DAMAGES[damage]}


def test_a_damaged_lock_is_mended_by_a_forced_unlock(io: TaskIO) -> None:
    store_task(io)
    io.write(LOCK, b"{")
    assert TaskStore(io).unlock(TASK) is None
    with engine_for(io) as engine:
        engine.execute()


@pytest.mark.parametrize("name", [MANIFEST, FIRST, LOCK])
@pytest.mark.parametrize("number", [2, 0, "1", None])
def test_an_unknown_format_is_refused_with_the_version_that_wrote_it(io: TaskIO, name: str, number: object) -> None:
    store_task(io)
    edit(io, name, format=number, written_by="7.8.9")
    refused(io, engine_for(io), IncompatibleTaskException, io.build_url(name), "7.8.9")
    with pytest.raises(IncompatibleTaskException, match=r"7\.8\.9"):
        TaskStore(io).get(TASK)


@pytest.mark.parametrize(
    "names",
    [("a", "b"), ("a", "b", "c", "d"), ("a", "B", "c"), ("a", "c", "b"), ("x", "a", "b", "c")],
    ids=["removed", "added", "renamed", "reordered", "prepended"],
)
def test_another_list_of_stages_is_refused(io: TaskIO, names: tuple[str, ...]) -> None:
    store_task(io)
    before = raw(io)
    refused(io, engine_for(io, steps(*names)), IncompatibleTaskException, TASK, '"b (', "Nothing was changed")
    assert raw(io) == before


class OtherStep(Step):
    """Another class, though it does the same."""


def test_another_class_of_a_stage_is_refused(io: TaskIO) -> None:
    store_task(io)
    before = raw(io)
    stages: list[Step] = [*steps("a", "b"), OtherStep(stage_name="c")]
    refused(io, engine_for(io, stages), IncompatibleTaskException, TASK, "OtherStep", "Nothing was changed")
    assert raw(io) == before


class Count(BaseStageState):
    count: int = 0


class Counting(BaseStage[Count]):
    state: Count = Count()

    def execute_stage(self, previous_state_copy: Count) -> None:
        self.state.count = 7


@pytest.fixture
def counted(io: TaskIO) -> TaskIO:
    CheckMate[Counting, Any](io, TASK, [Counting(stage_name="a")]).run()
    return io


@pytest.mark.parametrize("value", ["many", [1], None, 1.5])
@pytest.mark.parametrize("name", [MANIFEST, FIRST])
def test_a_stored_value_of_another_type_is_refused(counted: TaskIO, name: str, value: object) -> None:
    stored = document(counted, name)
    target = stored["stage_templates"][0] if name == MANIFEST else stored
    target["state"]["count"] = value
    edit(counted, name, **stored)
    before = raw_without_locks(counted)
    with pytest.raises(IncompatibleTaskException, match="count.*Nothing was changed") as caught:
        CheckMateEngine(counted, TASK, [Counting(stage_name="a")]).bind()
    assert counted.build_url(name) in str(caught.value)
    assert raw_without_locks(counted) == before
    assert not is_locked(counted)


def test_a_stored_field_that_the_class_lacks_is_refused(counted: TaskIO) -> None:
    stored = document(counted, FIRST)
    edit(counted, FIRST, state={**stored["state"], "gone": 1})
    with pytest.raises(IncompatibleTaskException, match="gone"):
        CheckMateEngine(counted, TASK, [Counting(stage_name="a")]).bind()
    assert not is_locked(counted)


class Required(BaseStageState):
    path: str
    size: int


class NeedsPath(BaseStage[Required]):
    def execute_stage(self, previous_state_copy: Required) -> None: ...


def test_a_state_class_without_defaults_is_refused_before_a_request(memory: TaskIO) -> None:
    engine = CheckMateEngine(memory, TASK, [NeedsPath(stage_name="a", state=Required(path="x", size=1))])
    with pytest.raises(IncompatibleTaskException, match="path, size"):
        engine.bind()
    assert raw(memory) == {}


def test_several_state_classes_are_refused_before_a_request(memory: TaskIO) -> None:
    stages: list[BaseStage[Any]] = [Step(stage_name="a"), Counting(stage_name="b")]
    with pytest.raises(IncompatibleTaskException, match="Notes and, in stage 'b', Count"):
        CheckMateEngine(memory, TASK, stages).bind()
    assert raw(memory) == {}


def test_a_locked_task_names_its_holder_and_the_fix(io: TaskIO) -> None:
    with engine_for(io) as holder:
        before = raw(io)
        other = engine_for(io)
        with pytest.raises(BindException) as caught:
            other.bind()
        assert raw(io) == before
        assert not other.is_bound
        holder.execute()
    for word in (io.build_url(LOCK), socket.gethostname(), f"pid {os.getpid()}", "bind_lock_timeout", "checkmate unlock"):
        assert word in str(caught.value)


def test_force_create_refuses_a_task_that_exists_and_leaves_it_alone(io: TaskIO) -> None:
    store_task(io)
    before = raw(io)
    refused(io, engine_for(io, force_create=True), TaskEngineException, TASK, "force_create", "Nothing was changed")
    assert raw(io) == before


def test_force_create_takes_an_id_that_was_cleaned(io: TaskIO) -> None:
    with engine_for(io, force_create=True) as engine:
        engine.unbind(clean=True)
        engine.bind()
        engine.execute()


@pytest.mark.parametrize("scheme", ["gs", "az", "s4"])
def test_an_unknown_scheme_names_the_fix(scheme: str) -> None:
    fix = {"gs": r"pip install 'checkmate\[gcs\]'", "az": r"pip install 'checkmate\[azure\]'"}.get(scheme, "file, memory")
    for make in (
        lambda: CheckMateEngine(f"{scheme}://bucket/x", TASK, steps()),
        lambda: CheckMate.load(f"{scheme}://bucket/x", TASK),
        lambda: TaskStore(f"{scheme}://bucket/x"),
        lambda: open_task_io(f"{scheme}://bucket/x"),
    ):
        with pytest.raises(UnsupportedBackendException, match=f"no backend for {scheme}://: .*{fix}"):
            make()


@pytest.mark.parametrize("damage", ["cut", "null", "very deep"])
def test_one_damaged_manifest_does_not_hide_the_other_tasks(io: TaskIO, damage: str) -> None:
    for task_id in ("good-1", TASK, "good-2"):
        with engine_for(io, task_id=task_id):
            pass
    io.write(MANIFEST, DAMAGES[damage])
    listed = {view.task_id: view for view in TaskStore(io).list()}
    assert set(listed) == {"good-1", TASK, "good-2"}
    assert MANIFEST in str(listed[TASK].fault)
    assert listed["good-1"].fault is None


@pytest.mark.parametrize(
    "change",
    [
        {"stage_template_classes": []},
        {"stage_templates": []},
        {"stage_templates": [{}, {}, {}]},
        {"retry_policy": {}},
        {"retry_policy": {"initial": "soon"}},
        {"max_attempts": 0},
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_itself_raises_within_the_tree(memory: TaskIO, change: dict[str, Any]) -> None:
    store_task(memory)
    edit(memory, MANIFEST, **change)
    before = raw(memory)
    actions: list[Callable[[], object]] = [
        lambda: CheckMate.load(memory, TASK),
        lambda: TaskStore(memory).get(TASK),
        lambda: TaskStore(memory).list(),
        lambda: TaskStore(memory).render(TASK),
    ]
    for action in actions:
        with suppress(TaskEngineException):
            action()
    assert raw(memory) == before


@pytest.mark.parametrize(
    ("first", "second"), [("RUNNING", "COMPLETE"), ("ERROR", "RUNNING"), ("CANCELED", "COMPLETE"), ("RETRY", "ERROR")]
)
def test_impossible_neighbours_are_refused_and_the_lock_is_given_back(io: TaskIO, first: str, second: str) -> None:
    with engine_for(io) as engine:
        engine.execute()
    edit(io, FIRST, status=first)
    edit(io, f"{TASK}/stages/001-b.json", status=second)
    refused(io, engine_for(io), InvalidTransitionException, TASK, first, second)
    cm = CheckMate[Step, Any](io, TASK, steps())
    before = raw_without_locks(io)
    with pytest.raises(InvalidTransitionException):
        cm.run()
    assert not cm.is_bound
    assert not is_locked(io)
    assert raw_without_locks(io) == before


def test_a_template_that_was_used_before_is_refused_or_begun_afresh(memory: TaskIO, log: Logged) -> None:
    with engine_for(memory, task_id="first") as engine:
        engine.execute()
        used = [stage.model_copy(deep=True) for stage in engine.stages]
    engine = engine_for(memory, used)
    try:
        engine.bind()
    except TaskEngineException:
        assert TaskStore(memory).list()[0].task_id == "first"
        assert not memory.exists(MANIFEST), "nothing written"
    else:
        engine.execute()
        assert [stage.attempts for stage in engine.stages] == [1, 1, 1]
        engine.unbind()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"stage_templates": None}, "at least one stage"),
        ({"stage_templates": []}, "at least one stage"),
        ({"max_attempts": 0}, "at least 1"),
        ({"max_attempts": 2}, "RetryPolicy.NONE"),
        ({"task_id": "../x"}, "task id"),
    ],
    ids=str,
)
def test_bad_arguments_of_the_engine_are_refused_at_once(arguments: dict[str, Any], words: str) -> None:
    for class_ in (CheckMateEngine, CheckMate):
        with pytest.raises(TaskEngineException, match=words):
            class_(MemoryTaskIO(), **{"stage_templates": steps(), **arguments})


def test_stage_names_that_repeat_are_refused_before_a_request(memory: TaskIO) -> None:
    with pytest.raises(TaskEngineException, match="'b', 'x' twice"):
        engine_for(memory, steps("x", "b", "a", "b", "x")).bind()
    assert raw(memory) == {}


def test_an_unbound_engine_says_what_to_do(memory: TaskIO) -> None:
    engine = engine_for(memory)
    for action in (engine.execute, engine.unbind, engine.check_sync):
        with pytest.raises(TaskEngineException, match=r"not bound.*bind\(\)"):
            action()
    assert raw(memory) == {}
