"""Task ids and stage names: nothing that a user supplies leaves the base URL or meets another's object."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from checkmate import (
    STAGE_NAME_MAX_LENGTH,
    CheckMate,
    CheckMateEngine,
    TaskEngineException,
    TaskStore,
    open_task_io,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.io.names import check_object_name

from .pipelines import TASK, Step, engine_for, raw, steps

GOOD_ID = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
ANY_NAME = st.text(min_size=1, max_size=STAGE_NAME_MAX_LENGTH)


@settings(max_examples=100, deadline=None)
@given(GOOD_ID)
@example("a" * 128)
@example("a..")
@example("task.json")
@example("0.lock")
def test_every_good_task_id_names_a_task(task_id: str) -> None:
    io = MemoryTaskIO()
    with engine_for(io, steps("a"), task_id=task_id) as engine:
        engine.execute()
        for name in raw(io):
            assert check_object_name(name).startswith((f"{task_id}/", "_locks/"))
    assert [view.task_id for view in TaskStore(io).list()] == [task_id]
    assert TaskStore(io).get(task_id).status == "COMPLETE"


@settings(max_examples=200, deadline=None)
@given(st.text())
@example("../x")
@example("a/b")
@example("a/../../x")
@example("/etc")
@example("a\n")
@example("a\x00")
@example("ä")
@example("١")
@example("_locks")
@example(".hidden")
@example("-x")
@example("")
@example("a b")
@example("a\\b")
@example("a" * 129)
@example("a%2fb")
def test_every_other_task_id_is_refused_everywhere(task_id: str) -> None:
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    if 1 <= len(task_id) <= 128 and task_id[0] in allowed and set(task_id) <= set(allowed + "._-"):
        return
    io = MemoryTaskIO()
    store = TaskStore(io)
    for use in (
        lambda: engine_for(io, task_id=task_id),
        lambda: CheckMate.load(io, task_id),
        lambda: store.get(task_id),
        lambda: store.dump(task_id),
        lambda: store.render(task_id),
        lambda: store.unlock(task_id),
    ):
        with pytest.raises(TaskEngineException, match="is refused: 1 to 128 letters"):
            use()
    assert raw(io) == {}


def test_without_a_task_id_every_engine_gets_its_own() -> None:
    ids = {CheckMateEngine(MemoryTaskIO(), stage_templates=steps()).task_id for _ in range(100)}
    assert len(ids) == 100
    for task_id in ids:
        engine_for(MemoryTaskIO(), task_id=task_id)


@settings(max_examples=300, deadline=None)
@given(st.lists(ANY_NAME, min_size=1, max_size=4, unique=True))
@example(["\U0001f600" * 150])
@example(["../../x", "..", ".", "/"])
@example(["a\n", "a", "a\x00", "a\\b"])
@example(["%41", "A", "a"])
@example(["a" * 150, "a" * 149 + "b"])
@example(["ü" * 150, "ü" * 149 + "u"])
def test_every_stage_name_comes_back_and_has_an_object_of_its_own(names: list[str]) -> None:
    io = MemoryTaskIO()
    with engine_for(io, steps(*names)) as engine:
        engine.execute()
        objects = [stage.obj_name for stage in engine.stages]
        assert all(stage.persistence_file_exists() for stage in engine.stages)
    assert len(set(objects)) == len(names)
    assert len({name.casefold() for name in objects}) == len(names), "files that differ in case alone"
    for name in objects:
        assert check_object_name(name).startswith(f"{TASK}/stages/")
        assert name.count("/") == 2
        assert name.isascii()
        assert max(len(part.encode()) for part in name.split("/")) <= 255
    assert [stage.name for stage in TaskStore(io).get(TASK).stages] == names
    with engine_for(io, steps(*names)) as again:
        assert [stage.attempts for stage in again.stages] == [1] * len(names)


@pytest.mark.parametrize(
    "name", ["../../../outside", "a/b", "\U0001f600" * 150, "con", "a\x00b", "..", "a" * 150]
)
def test_odd_stage_names_stay_in_the_folder_of_the_store(tmp_path: Path, name: str) -> None:
    base = tmp_path / "store"
    io = open_task_io(base.as_uri())
    with engine_for(io, steps(name)) as engine:
        engine.execute()
    with engine_for(io, steps(name)) as again:
        assert again.status == "COMPLETE"
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([f"{'x' * 190}{n}"[-150:] for n in range(10)] + ["a", "A", "b"]),
        min_size=2,
        max_size=5,
    )
)
def test_names_that_repeat_are_refused(names: list[str]) -> None:
    engine = engine_for(MemoryTaskIO(), steps(*names))
    if len(set(names)) == len(names):
        engine.bind()
        return
    with pytest.raises(TaskEngineException, match="unique"):
        engine.bind()


@pytest.mark.parametrize("name", ["", "a" * 151])
def test_a_name_of_another_length_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Step(stage_name=name)


def test_a_name_that_is_no_valid_unicode_is_refused_within_the_tree() -> None:
    io = MemoryTaskIO()
    with pytest.raises((TaskEngineException, ValidationError)):
        engine_for(
            io, [Step.model_construct(**{**dict(Step(stage_name="x")), "stage_name": "\ud800"})]
        ).bind()
    assert raw(io) == {}


def test_a_thousand_stages_have_a_thousand_objects() -> None:
    io = MemoryTaskIO()
    engine = engine_for(io, steps(*(f"s{number}" for number in range(1001))))
    names = [stage.gen_obj_name(engine) for stage in engine.stages]
    assert len(set(names)) == 1001
    assert names[1000].endswith("/1000-s1000.json")
