"""What does not fit is refused with the tree's error, and nothing is written, lost or left locked."""

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from checkmate import (
    BaseStage,
    BaseStageState,
    BindException,
    CheckMate,
    CheckMateEngine,
    IncompatibleTaskException,
    TaskEngineException,
    TaskIO,
    TaskStore,
    UnsupportedBackendException,
    open_task_io,
)
from checkmate_core.io import registry
from checkmate_core.io.memory import MemoryTaskIO

from .pipelines import (
    LOCK,
    MANIFEST,
    TASK,
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
from .refusals import FIRST, refused, store_task


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
    with pytest.raises(IncompatibleTaskException, match=r"count.*Nothing was changed") as caught:
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
    engine = CheckMateEngine[NeedsPath, Any](
        memory, TASK, [NeedsPath(stage_name="a", state=Required(path="x", size=1))]
    )
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
    for word in (
        io.build_url(LOCK),
        socket.gethostname(),
        f"pid {os.getpid()}",
        "bind_lock_timeout",
        "checkmate unlock",
    ):
        assert word in str(caught.value)


def test_force_create_refuses_a_task_that_exists_and_leaves_it_alone(io: TaskIO) -> None:
    store_task(io)
    before = raw(io)
    refused(
        io,
        engine_for(io, force_create=True),
        TaskEngineException,
        TASK,
        "force_create",
        "Nothing was changed",
    )
    assert raw(io) == before


def test_force_create_takes_an_id_that_was_cleaned(io: TaskIO) -> None:
    with engine_for(io, force_create=True) as engine:
        engine.unbind(clean=True)
        engine.bind()
        engine.execute()


@pytest.mark.parametrize(
    ("scheme", "fix"),
    [
        ("gs", r"pip install 'checkmate\[gcs\]'"),
        ("az", r"pip install 'checkmate\[azure\]'"),
        ("s4", "file, memory"),
    ],
)
def test_an_unknown_scheme_names_the_fix(scheme: str, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if only what every installation has were installed.
    installed = {name: point for name, point in registry._scan().items() if name in ("file", "memory", "*")}
    monkeypatch.setattr(registry, "_scan", lambda: installed)
    registry._backend.cache_clear()
    makers: tuple[Callable[[], object], ...] = (
        lambda: CheckMateEngine(f"{scheme}://bucket/x", TASK, steps()),
        lambda: CheckMate.load(f"{scheme}://bucket/x", TASK),
        lambda: TaskStore(f"{scheme}://bucket/x"),
        lambda: open_task_io(f"{scheme}://bucket/x"),
    )
    for make in makers:
        with pytest.raises(UnsupportedBackendException, match=f"no backend for {scheme}://: .*{fix}"):
            make()
    registry._backend.cache_clear()


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
