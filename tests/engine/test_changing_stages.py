"""Other stages than the stored ones are refused with what differs, or migrated where that was declared."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkmate import (
    BaseStage,
    BaseStageState,
    BindOutcome,
    CheckMate,
    CheckMateEngine,
    IncompatibleTaskException,
    StageChanges,
    StageStatus,
    Suspend,
    TaskEngineException,
    TaskIO,
    TaskStore,
    copy_tasks,
)
from checkmate_core.io.memory import MemoryTaskIO

from .changing import GROWN, OLD_CODE, RENAMED, Release, check_end, prepare
from .pipelines import MANIFEST, TASK, Logged, Step, document, engine_for, raw, raw_without_locks, steps


class Stride(Step):
    """What `Step` was renamed to."""


STEP = f"{Step.__module__}.Step"
STRIDE = f"{Stride.__module__}.Stride"


def with_stride(io: TaskIO, changes: StageChanges | None) -> CheckMateEngine[Step, Any]:
    return engine_for(io, [Stride(stage_name="a"), *steps("b", "c")], changes=changes)


CHANGES: dict[str, tuple[tuple[str, ...], str, str, StageChanges]] = {
    "renamed": (
        ("a", "B", "c"),
        "'b' is now 'B', it seems",
        "StageChanges(renamed={'b': 'B'})",
        StageChanges(renamed={"b": "B"}),
    ),
    "added": (("a", "b", "x", "c"), "'x' is new", "StageChanges(added={'x'})", StageChanges(added={"x"})),
    "removed": (
        ("a", "b"),
        "'c' is not there any more",
        "StageChanges(removed={'c'})",
        StageChanges(removed={"c"}),
    ),
    "reordered": (
        ("a", "c", "b"),
        "the order is now 'a', 'c', 'b'",
        "StageChanges(reordered=True)",
        StageChanges(reordered=True),
    ),
}
kinds = pytest.mark.parametrize("kind", list(CHANGES))


@kinds
@pytest.mark.parametrize("complete", [0, 1])
def test_each_kind_of_change_is_refused_with_what_differs_and_how_to_declare_it(
    io: TaskIO, kind: str, complete: int
) -> None:
    names, difference, declaration, _ = CHANGES[kind]
    prepare(io, complete)
    before = raw(io)
    engine = Release(names).engine(io)
    with pytest.raises(IncompatibleTaskException) as caught:
        engine.bind()
    for text in (TASK, difference, declaration, "Nothing was changed"):
        assert text in str(caught.value)
    preview = engine.preview()
    assert (preview.outcome, preview.refusal) == (BindOutcome.REFUSED, str(caught.value))
    assert raw(io) == before


@kinds
@pytest.mark.parametrize("complete", [0, 1])
def test_each_kind_of_change_that_was_declared_is_made(io: TaskIO, kind: str, complete: int) -> None:
    names, _, _, changes = CHANGES[kind]
    release = Release(names, changes)
    prepare(io, complete)
    before = raw(io)
    preview = release.engine(io).preview()
    assert preview.outcome is BindOutcome.MIGRATED
    assert preview.changes
    assert raw(io) == before, "a dry run writes nothing"
    log = Logged()
    release.run(io, log)
    assert log.names == list(names)[complete:], "what was complete is not executed again"
    check_end(io, release)
    assert release.engine(io).preview().outcome is BindOutcome.FITS
    with pytest.raises(IncompatibleTaskException):
        OLD_CODE.run(io)
    new = Release(names, changes)
    with new.engine(io, task_id="new") as engine:
        engine.execute()
        assert engine.status is StageStatus.COMPLETE, "the same code runs new tasks"


@pytest.mark.parametrize("then", ["enqueued", "failed", "interrupted"])
def test_the_class_of_a_stage_can_change_wherever_the_task_stands(io: TaskIO, then: str) -> None:
    prepare(io, 0, then)
    with pytest.raises(IncompatibleTaskException, match=r"class of 'a' was .*Step and is .*Stride") as caught:
        with_stride(io, None).bind()
    assert f"StageChanges(classes={{'a': '{STEP}'}})" in str(caught.value)
    changes = StageChanges(classes={"a": STEP})
    with with_stride(io, changes) as engine:
        engine.execute(strict_recovery=True)
    assert document(io, MANIFEST)["stage_template_classes"] == [STRIDE, STEP, STEP]
    assert with_stride(io, changes).preview().outcome is BindOutcome.FITS
    task = CheckMate[Step, int].load(io, TASK)
    assert task.run() == 3


@pytest.mark.parametrize("then", ["failed", "interrupted"])
@pytest.mark.parametrize(
    ("release", "reason"),
    [
        (Release(("a", "c"), StageChanges(removed={"b"})), "'b' is .* cannot be removed"),
        (Release(("a", "x", "b", "c"), StageChanges(added={"x"})), "before stage 'b'"),
        (Release(("a", "c", "b"), StageChanges(reordered=True)), "before stage 'b'"),
        (Release(("b", "a", "c"), StageChanges(reordered=True)), "before stage 'a'"),
        (Release(("b", "c"), StageChanges(removed={"a"})), "'a' is COMPLETE and cannot be removed"),
    ],
    ids=["removed", "prepended", "overtaken", "swapped", "complete removed"],
)
def test_what_has_begun_stays_in_its_place_with_the_advice_to_fork(
    io: TaskIO, release: Release, reason: str, then: str
) -> None:
    prepare(io, 1, then)
    before = raw_without_locks(io)
    with pytest.raises(IncompatibleTaskException, match=reason) as caught:
        release.engine(io).bind()
    assert "checkmate fork URL task-1 --from 'a'" in str(caught.value) or "'a'" in reason
    assert raw_without_locks(io) == before
    assert release.engine(io).preview().refusal == str(caught.value)


def test_a_stage_that_is_suspended_is_renamed_with_what_it_waits_for(io: TaskIO) -> None:
    def wait(stage: Step, _: object) -> None:
        if stage.state.source is None:
            raise Suspend(event="paper", field="source")

    with engine_for(io, steps(action=wait)) as engine:
        engine.execute()
    with RENAMED.engine(io) as renamed:
        assert renamed.status is StageStatus.SUSPENDED
    TaskStore(io).signal(TASK, "paper", "news")
    with engine_for(io, steps("A", "B", "C", action=wait), changes=RENAMED.changes) as renamed:
        renamed.execute()
        assert renamed.status is StageStatus.COMPLETE
        assert renamed.stages[0].state.source == "news"
        assert renamed.stages[0].obj_name.endswith("000-a.json"), "a begun stage keeps its object"
        assert renamed.stages[1].obj_name.endswith("001-B.json")
    assert renamed.dump_stages("persistence").count("COMPLETE") >= 3, "without being bound, too"


@pytest.mark.parametrize("how", ["canceled", "complete", "rolled back", "rolling back"])
def test_a_task_that_is_over_or_goes_back_stays_as_it_is(memory: TaskIO, how: str) -> None:
    def fail(stage: Step, _: object) -> None:
        if how == "rolling back":
            raise ValueError("no")

    if how == "complete":
        OLD_CODE.run(memory)
    else:
        prepare(memory, 1, "failed" if "rol" in how else "enqueued")
        stages = steps()
        stages[0].undo = fail
        engine = engine_for(memory, stages)
        if how == "canceled":
            engine.cancel()
        elif how == "rolled back":
            engine.rollback()
        else:
            with pytest.raises(TaskEngineException):
                engine.rollback()
    before = raw_without_locks(memory)
    with pytest.raises(IncompatibleTaskException, match="Nothing was changed"):
        RENAMED.engine(memory).bind()
    assert RENAMED.engine(memory).preview().outcome is BindOutcome.REFUSED
    assert raw_without_locks(memory) == before


@pytest.mark.parametrize(
    ("names", "changes", "fault"),
    [
        (("a", "b"), StageChanges(added={"z"}), "no such stage"),
        (("a", "b"), StageChanges(renamed={"x": "z"}), "no such stage"),
        (("a", "b"), StageChanges(classes={"z": "m.C"}), "no such stage"),
        (("a", "b"), StageChanges(removed={"a"}), "has such a stage"),
        (("a", "b"), StageChanges(renamed={"a": "b"}), "has such a stage"),
        (("a", "b"), StageChanges(added="a"), "give a set"),
        (("a", "b"), StageChanges(renamed={"x": "a"}, added={"a"}), "two things"),
    ],
)
def test_a_declaration_that_cannot_be_of_these_stages_is_refused_at_once(
    memory: TaskIO, names: tuple[str, ...], changes: StageChanges, fault: str
) -> None:
    with pytest.raises(TaskEngineException, match=fault):
        engine_for(memory, steps(*names), changes=changes)


def test_a_declaration_that_says_less_or_something_else_than_the_difference_is_refused(
    memory: TaskIO,
) -> None:
    prepare(memory, 0)
    for release, fault in (
        (Release(("a", "B", "c", "d"), StageChanges(renamed={"b": "B"})), "'d' is new"),
        (Release(("a", "c"), StageChanges(renamed={"b": "c"})), "the task has both"),
    ):
        before = raw_without_locks(memory)
        with pytest.raises(IncompatibleTaskException, match=fault):
            release.engine(memory).bind()
        assert raw_without_locks(memory) == before


NAMES = "abcdefg"
plans = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True)


@settings(max_examples=60, deadline=None)
@given(old=plans, new=plans, done=st.integers(0, 4), data=st.data())
def test_of_any_two_lists_of_stages_what_has_begun_decides(
    old: list[str], new: list[str], done: int, data: st.DataObject
) -> None:
    io, log = MemoryTaskIO(), Logged()
    done = min(done, len(old) - 1)
    has_begun = data.draw(st.booleans())

    def stop(stage: Step, _: object) -> None:
        if stage.stage_name == old[done]:
            raise ValueError("no")

    with engine_for(io, steps(*old, action=stop)) as engine:
        if done or has_begun:
            with pytest.raises(TaskEngineException):
                engine.execute()
            has_begun = True
    begun = done + has_begun
    kept = [name for name in old if name in new]
    changes = StageChanges(
        added=set(new) - set(old),
        removed=set(old) - set(new),
        reordered=kept != [name for name in new if name in old],
    )
    before = raw_without_locks(io)
    fits = engine_for(io, steps(*new, action=log), changes=changes)
    outcome = fits.preview().outcome
    if new[:begun] != old[:begun]:
        assert outcome is BindOutcome.REFUSED
        with pytest.raises(IncompatibleTaskException):
            fits.bind()
        assert raw_without_locks(io) == before
        return
    assert outcome is (BindOutcome.FITS if old == new else BindOutcome.MIGRATED)
    with fits:
        fits.execute()
        assert fits.status is StageStatus.COMPLETE
    assert log.names == new[done:]
    view = TaskStore(io).get(TASK)
    assert [stage.name for stage in view.stages] == new
    assert view.status is StageStatus.COMPLETE
    back = engine_for(io, steps(*old))
    assert (back.preview().outcome is BindOutcome.FITS) == (old == new)


def test_a_migrated_task_is_listed_loaded_dumped_copied_canceled_and_removed_like_any_other(
    io: TaskIO, memory: TaskIO
) -> None:
    prepare(io, 1, "failed")
    with GROWN.engine(io):
        pass
    store = TaskStore(io)
    assert [stage.name for stage in store.get(TASK).stages] == list(GROWN.names)
    assert [str(stage.status) for stage in store.get(TASK).stages] == [
        "COMPLETE",
        "ERROR",
        "CREATED",
        "CREATED",
    ]
    assert "## 2. B: ERROR" in store.render(TASK)
    other = MemoryTaskIO("memory://copied")
    assert copy_tasks(io, other).is_complete
    for each in (io, other):
        assert CheckMate[Step, int].load(each, TASK).run() == 4
        check_end(each, GROWN)
    engine = GROWN.engine(io)
    engine.bind()
    engine.unbind(clean=True)
    assert {name for name in raw(io) if not name.startswith("_locks/")} == {MANIFEST}
    prepare(memory, 1, "enqueued")
    with GROWN.engine(memory) as grown:
        grown.cancel()
    assert TaskStore(memory).get(TASK).status is StageStatus.CANCELED
    assert TaskStore(memory).get(TASK).ended is not None


def test_a_stage_goes_and_comes_back_over_what_its_migration_left(memory: TaskIO) -> None:
    """The object that fenced the old worker is in the place of a stage of the list again."""
    prepare(memory, 1)
    shrunk = Release(("a", "z"), StageChanges(removed={"b", "c"}, added={"z"}))
    with shrunk.engine(memory):
        pass
    assert document(memory, f"{TASK}/stages/001-b.json")["status"] == "CREATED"
    again = Release(("a", "b", "z"), StageChanges(added={"b"}))
    log = Logged()
    again.run(memory, log)
    assert log.names == ["b", "z"]
    check_end(memory, again)


class Plain(BaseStageState):
    text: str | None = None


class PlainStage(BaseStage[Plain]):
    state: Plain = Plain()
    speed: int = 1

    def execute_stage(self, previous_state_copy: Plain) -> None:
        self.state.text = f"{previous_state_copy.text} {self.stage_name}"


def test_inputs_stay_the_tasks_and_other_fields_come_from_the_process(memory: TaskIO) -> None:
    first = [PlainStage(stage_name="a", state=Plain(text="in")), PlainStage(stage_name="b")]
    with CheckMateEngine[PlainStage, Any](memory, TASK, first):
        pass
    second = [PlainStage(stage_name="A", state=Plain(text="other"), speed=2), PlainStage(stage_name="b")]
    changes = StageChanges(renamed={"a": "A"})
    with CheckMateEngine[PlainStage, Any](memory, TASK, second, changes=changes) as engine:
        engine.execute()
        assert engine.stages[1].state.text == "in A b"
    stored = document(memory, MANIFEST)["stage_templates"]
    assert [(each["stage_name"], each["speed"]) for each in stored] == [("A", 2), ("b", 1)]
