"""What JSON cannot hold, or would give back as something else, is refused and can be mended."""

import math
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, PlainSerializer, PlainValidator, SecretStr

from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMateEngine,
    InvalidStateException,
    StageFailedException,
    TaskIO,
)

from .pipelines import TASK, raw, stage_documents


class Plain(BaseModel):
    """A nested model that does not say how JSON should hold what it cannot."""

    weight: float = 0.0
    blob: bytes = b""


class Holder(BaseStageState):
    plain: Plain = Field(default_factory=Plain)
    secret: SecretStr = SecretStr("")
    point: Annotated[
        complex | None,
        PlainValidator(lambda value: complex(*value) if isinstance(value, list) else value),
        PlainSerializer(lambda value: value and [value.real, value.imag]),
    ] = None


class Hold(BaseStage[Holder]):
    state: Holder = Field(default_factory=Holder)
    values: dict[str, Any] = Field(default_factory=dict, exclude=True)

    def execute_stage(self, previous_state_copy: Holder) -> None:
        for name, value in self.values.items():
            setattr(self.state, name, value)


@pytest.mark.parametrize(
    "values",
    [
        {"plain": Plain(weight=math.inf)},
        {"plain": Plain(blob=b"\x80")},
        {"plain": Plain(blob=b"aGk=")},
        {"secret": SecretStr("hunter2")},
    ],
    ids=str,
)
def test_what_would_come_back_as_something_else_comes_back_equal_or_is_refused(
    memory: TaskIO, values: dict[str, Any]
) -> None:
    with CheckMateEngine[Hold, Any](memory, TASK, [Hold(stage_name="a", values=values)]) as first:
        refused = None
        try:
            first.execute()
        except StageFailedException as exc:
            refused = exc
    if refused:
        assert isinstance(refused.__cause__, InvalidStateException)
        assert next(iter(values)) in str(refused) or "invalid utf-8" in str(refused)
        return
    with CheckMateEngine[Hold, Any](memory, TASK, [Hold(stage_name="a")]) as second:
        for name, value in values.items():
            assert getattr(second.stages[0].state, name) == value


def test_a_type_with_its_own_serializer_is_stored_by_it(memory: TaskIO) -> None:
    with CheckMateEngine[Hold, Any](memory, TASK, [Hold(stage_name="a", values={"point": 1 + 2j})]) as first:
        first.execute()
    assert stage_documents(memory)[0]["state"]["point"] == [1.0, 2.0]
    with CheckMateEngine[Hold, Any](memory, TASK, [Hold(stage_name="a")]) as second:
        assert second.stages[0].state.point == 1 + 2j


class Circular(BaseModel):
    inner: "Circular | None" = None


def circle() -> Circular:
    found = Circular()
    found.inner = found
    return found


class Base(BaseModel):
    x: int = 0


class Wider(Base):
    y: float = 0.0


class Loose(BaseStageState):
    anything: Any = None
    number: int = 0
    text: str = ""
    base: Base | None = None


class Put(BaseStage[Loose]):
    state: Loose = Field(default_factory=Loose)
    make: Callable[[], dict[str, Any]] = Field(default=dict, exclude=True)

    def execute_stage(self, previous_state_copy: Loose) -> None:
        for name, value in self.make().items():
            setattr(self.state, name, value)


IMPOSSIBLE: dict[str, Callable[[], dict[str, Any]]] = {
    "an object": lambda: {"anything": object()},
    "a function": lambda: {"anything": print},
    "a result that is an object": lambda: {"result": object()},
    "half a surrogate pair": lambda: {"text": "\ud800"},
    "half a surrogate pair in a result": lambda: {"result": ["\udcff"]},
    "a circle": lambda: {"anything": circle()},
    "a lock": lambda: {"anything": {"deep": [__import__("threading").Lock()]}},
    "a wrong type": lambda: {"number": "many"},
    "None where there is none": lambda: {"text": None},
    "a subclass that its field cannot give back": lambda: {"base": Wider(x=1, y=2.5)},
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_what_a_stage_leaves_and_json_cannot_hold_is_refused_and_the_task_can_be_mended(
    io: TaskIO, kind: str
) -> None:
    with CheckMateEngine[Put, Any](io, TASK, [Put(stage_name="a", make=IMPOSSIBLE[kind])]) as engine:
        with pytest.raises(StageFailedException) as caught:
            engine.execute()
        assert isinstance(caught.value.__cause__, InvalidStateException)
        assert "stage 'a'" in str(caught.value)
        assert TASK in str(caught.value)
        assert engine.check_sync()
        assert engine.stages[0].state.number == 0
    assert [document["status"] for document in stage_documents(io)] == ["ERROR"]
    with CheckMateEngine[Put, Any](io, TASK, [Put(stage_name="a", make=lambda: {"number": 3})]) as mended:
        mended.execute()
        assert mended.stages[0].state.number == 3


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_a_template_that_json_cannot_hold_is_refused_before_anything_is_written(
    memory: TaskIO, kind: str
) -> None:
    state = Loose()
    for name, value in IMPOSSIBLE[kind]().items():
        setattr(state, name, value)
    if kind == "a lock":
        state.anything = {"deep": [object()]}  # a template is copied, and a lock cannot be
    with pytest.raises(InvalidStateException, match=rf"stage 'a' of task {TASK}"):
        CheckMateEngine[Put, Any](memory, TASK, [Put(stage_name="a", state=state)]).bind()
    assert raw(memory) == {}


class Configured(Put):
    connection: Any = None


def test_a_field_of_a_stage_that_json_cannot_hold_is_refused_with_the_fix(memory: TaskIO) -> None:
    with pytest.raises(InvalidStateException, match=r"Field\(exclude=True\)"):
        CheckMateEngine[Configured, Any](
            memory, TASK, [Configured(stage_name="a", connection=object())]
        ).bind()
    assert raw(memory) == {}
