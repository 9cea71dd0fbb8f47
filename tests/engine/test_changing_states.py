"""States that an earlier version of their class stored are read through `migrate`, or refused with what to do."""

import json
from typing import Any, ClassVar

import pytest
from pydantic import Field

from checkmate import (
    BaseStage,
    BaseStageState,
    BindOutcome,
    CheckMate,
    CheckMateEngine,
    IncompatibleTaskException,
    StageStatus,
    TaskEngineException,
    TaskIO,
)

from .pipelines import MANIFEST, TASK, document, edit, raw, raw_without_locks, stage_documents

NAMES = ("a", "b", "c")


class One(BaseStageState):
    sum: int = 0
    path: str | None = None


class Two(BaseStageState):
    """``sum`` is a list of ``sums`` now."""

    schema_version: ClassVar[int] = 2
    sums: list[int] = Field(default_factory=list)
    path: str | None = None

    @classmethod
    def migrate(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        if from_version == 1:
            total = data.pop("sum")
            # What was never set must not look set: it would not take the previous stage's value.
            data["sums"] = [total] if total else []
        return data


class Three(BaseStageState):
    """And ``path`` is ``place``."""

    schema_version: ClassVar[int] = 3
    sums: list[int] = Field(default_factory=list)
    place: str | None = None

    @classmethod
    def migrate(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        data = Two.migrate(data, from_version)
        data["place"] = data.pop("path")
        return data


class Undeclared(BaseStageState):
    sums: list[int] = Field(default_factory=list)
    path: str | None = None


class Retyped(BaseStageState):
    sum: list[int] = Field(default_factory=list)
    path: str | None = None


def work(stage: BaseStage[Any], previous: Any) -> None:
    if isinstance(stage.state, One):
        stage.state.sum = previous.sum + 1
    else:
        stage.state.sums = [*previous.sums, len(previous.sums)]


class Stage(BaseStage[Any]):
    state: Any = None
    fails: bool = Field(default=False, exclude=True)

    def execute_stage(self, previous_state_copy: Any) -> None:
        work(self, previous_state_copy)
        if self.fails:
            raise ValueError("no")


def engine_of(io: TaskIO, state_class: type[BaseStageState], fails: str = "") -> CheckMateEngine[Stage, Any]:
    stages = [Stage(stage_name=name, state=state_class(), fails=name == fails) for name in NAMES]
    return CheckMateEngine[Stage, Any](io, TASK, stages)


@pytest.fixture
def stored(io: TaskIO) -> TaskIO:
    """One stage is complete, one failed, one was never begun; all by the first version."""
    with pytest.raises(TaskEngineException), engine_of(io, One, "b") as engine:
        engine.execute()
    return io


def versions(io: TaskIO) -> list[int]:
    return [stage["schema_version"] for stage in stage_documents(io)]


def test_every_state_is_stored_with_the_version_of_its_class(stored: TaskIO) -> None:
    assert versions(stored) == [1, 1]
    assert document(stored, MANIFEST)["schema_versions"] == [1, 1, 1]


@pytest.mark.parametrize("state_class", [Two, Three])
def test_an_earlier_version_is_migrated_and_written_with_the_next_change_of_the_stage(
    stored: TaskIO, state_class: type[BaseStageState]
) -> None:
    version = state_class.schema_version
    before = raw_without_locks(stored)
    engine = engine_of(stored, state_class)
    preview = engine.preview()
    assert preview.outcome is BindOutcome.MIGRATED
    assert preview.changes[0] == f"the state of 'a' is read by migrate() from schema_version 1 to {version}"
    with engine:
        assert [stage.state.sums for stage in engine.stages] == [[1], [1], []]
        assert raw_without_locks(stored) == before, "nothing is written at bind for it"
        engine.execute()
        assert engine.stages[2].state.sums == [1, 1, 2]
        assert engine.check_sync()
    assert versions(stored) == [1, version, version]
    assert stage_documents(stored)[0]["state"] == {"result": None, "sum": 1, "path": None}, "it keeps its own"
    with engine_of(stored, state_class) as again:
        assert again.status is StageStatus.COMPLETE
        assert again.stages[0].state.sums == [1]
        assert again.check_sync()


def test_code_of_before_is_refused_and_told_which_version_is_needed(stored: TaskIO) -> None:
    with engine_of(stored, Two) as engine:
        engine.execute()
    before = raw(stored)
    engine = engine_of(stored, One)
    with pytest.raises(IncompatibleTaskException) as caught:
        engine.bind()
    for text in (
        "schema_version 2",
        "One is of 1",
        "schema_version 2 or above",
        "001-b.json",
        "Nothing was changed",
    ):
        assert text in str(caught.value)
    assert engine.preview().refusal == str(caught.value)
    assert {**raw(stored), "_locks/task-1.lock": b""} == {**before, "_locks/task-1.lock": b""}


@pytest.mark.parametrize(("state_class", "fault"), [(Undeclared, "sum: "), (Retyped, "sum: ")])
def test_a_change_without_a_new_version_is_refused_with_what_to_write(
    stored: TaskIO, state_class: type[BaseStageState], fault: str
) -> None:
    before = raw_without_locks(stored)
    with pytest.raises(IncompatibleTaskException) as caught:
        engine_of(stored, state_class).bind()
    advice = f"raise {state_class.__name__}.schema_version and write migrate()"
    for text in (fault, advice, stored.build_url(MANIFEST)):
        assert text in str(caught.value)
    assert raw_without_locks(stored) == before


class Silent(Two):
    @classmethod
    def migrate(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        return super(Two, cls).migrate(data, from_version)


class Broken(Two):
    @classmethod
    def migrate(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        return {**data, "sums": data["no such"]}


class Lazy(Two):
    @classmethod
    def migrate(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        return data


class Mistyped(Two):
    @classmethod
    def migrate(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        return list(data)  # type: ignore[return-value]


class Unstorable(Two):
    @classmethod
    def migrate(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        data.pop("sum")
        return {**data, "path": {1, 2}}


@pytest.mark.parametrize(
    ("state_class", "fault"),
    [
        (Silent, "Silent has no migrate() that reads version 1"),
        (Broken, "KeyError: 'no such'. Nothing was changed. Mend migrate()"),
        (Lazy, "mend Lazy.migrate(), which read version 1 for 2"),
        (Mistyped, "Mistyped.migrate() returned list"),
        (Unstorable, "returned no JSON"),
    ],
)
def test_a_migrate_that_fails_is_wrapped_and_changes_nothing(
    stored: TaskIO, state_class: type[Two], fault: str
) -> None:
    before = raw_without_locks(stored)
    with pytest.raises(IncompatibleTaskException) as caught:
        engine_of(stored, state_class).bind()
    assert fault in str(caught.value)
    assert "task-1" in str(caught.value)
    assert raw_without_locks(stored) == before


def test_objects_without_a_version_are_of_the_first(stored: TaskIO) -> None:
    """As those that were written before there were versions."""
    for name in (MANIFEST, f"{TASK}/stages/000-a.json"):
        old = document(stored, name)
        old.pop("schema_version", None)
        old.pop("schema_versions", None)
        old.pop("migrating", None)
        old.pop("stage_objects", None)
        stored.write(name, json.dumps(old).encode())
    with engine_of(stored, Two) as engine:
        assert engine.stages[0].state.sums == [1]


@pytest.mark.parametrize("version", [0, -1, "2"])
def test_a_version_that_is_none_is_refused_before_a_request(memory: TaskIO, version: object) -> None:
    class Odd(One):
        schema_version: ClassVar[int] = version  # type: ignore[assignment]

    with pytest.raises(IncompatibleTaskException, match="whole number"):
        engine_of(memory, Odd).bind()
    assert raw(memory) == {}


class Typed(BaseStage[Two]):
    state: Two = Field(default_factory=Two)

    def execute_stage(self, previous_state_copy: Two) -> None:
        work(self, previous_state_copy)


def test_a_loaded_task_has_its_inputs_migrated(memory: TaskIO) -> None:
    with CheckMate[Typed, Any](memory, TASK, [Typed(stage_name="a", state=Two(sums=[7]))]):
        pass
    template = document(memory, MANIFEST)["stage_templates"][0]
    template["state"] = {"result": None, "sum": 7, "path": None}
    edit(memory, MANIFEST, stage_templates=[template], schema_versions=[1])
    task = CheckMate[Typed, Any].load(memory, TASK)
    task.run()
    assert task.state.model_dump()["sums"] == [7, 1]
