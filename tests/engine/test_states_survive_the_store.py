"""Whatever a state holds comes back equal from the store, or is refused with nothing written."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMate,
    CheckMateEngine,
    InvalidStateException,
    StageFailedException,
    TaskIO,
)
from checkmate_core.io.memory import MemoryTaskIO
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, SecretStr

from .pipelines import TASK, raw, stage_documents


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: float = 0.0
    y: float = 0.0


class Part(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64")
    weight: float = 0.0
    blob: bytes = b""
    parts: list["Part"] = Field(default_factory=list)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    when: datetime | None = None
    both: tuple[int, str] | None = None


class Everything(BaseStageState):
    text: str = ""
    number: int = 0
    real: float = 0.0
    maybe: float | None = None
    flag: bool = False
    blob: bytes = b""
    either: int | str | None = None
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    word: Literal["x", "y"] = "x"
    when: datetime | None = None
    day: date | None = None
    clock: time | None = None
    span: timedelta | None = None
    amount: Decimal = Decimal(0)
    ident: UUID | None = None
    path: PurePosixPath | None = None
    names: set[str] = Field(default_factory=set)
    frozen: frozenset[int] = frozenset()
    pair: tuple[int, str] = (0, "")
    many: tuple[float, ...] = ()
    by_number: dict[int, str] = Field(default_factory=dict)
    by_day: dict[date, float] = Field(default_factory=dict)
    point: Point = Field(default_factory=Point)
    part: Part = Field(default_factory=Part)
    parts: dict[str, Part] = Field(default_factory=dict)
    strict: Strict | None = None


class Fill(BaseStage[Everything]):
    state: Everything = Field(default_factory=Everything)
    values: dict[str, Any] = Field(default_factory=dict, exclude=True)

    def execute_stage(self, previous_state_copy: Everything) -> None:
        for name, value in self.values.items():
            setattr(self.state, name, value)


TEXT = st.text(max_size=20)
REAL = st.floats(allow_nan=False)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=3))])
WHEN = st.one_of(st.datetimes(), st.datetimes(timezones=ZONES))
LEAF = st.builds(Part, weight=REAL, blob=st.binary(max_size=8))
PART = st.recursive(LEAF, lambda inner: st.builds(Part, weight=REAL, parts=st.lists(inner, max_size=2)), max_leaves=4)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "number": st.integers(),
    "real": REAL,
    "maybe": st.none() | REAL,
    "flag": st.booleans(),
    "blob": st.binary(max_size=20),
    "either": st.none() | st.integers() | TEXT,
    "colour": st.sampled_from(Colour),
    "level": st.sampled_from(Level),
    "word": st.sampled_from(["x", "y"]),
    "when": st.none() | WHEN,
    "day": st.dates(),
    "clock": st.times(),
    "span": st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
    "amount": st.decimals(allow_nan=False, allow_infinity=False),
    "ident": st.uuids(),
    "path": st.sampled_from([PurePosixPath("a/b"), PurePosixPath("/"), PurePosixPath("ü")]),
    "names": st.sets(TEXT, max_size=5),
    "frozen": st.frozensets(st.integers(), max_size=5),
    "pair": st.tuples(st.integers(), TEXT),
    "many": st.lists(REAL, max_size=4).map(tuple),
    "by_number": st.dictionaries(st.integers(), TEXT, max_size=3),
    "by_day": st.dictionaries(st.dates(), REAL, max_size=3),
    "point": st.builds(Point, x=REAL, y=REAL),
    "part": PART,
    "parts": st.dictionaries(TEXT, PART, max_size=2),
    "strict": st.builds(Strict, when=WHEN, both=st.tuples(st.integers(), TEXT)),
}
SOME_VALUES = st.fixed_dictionaries({}, optional=VALUES)


def told(state: Everything) -> dict[str, Any]:
    return {name: getattr(state, name) for name in VALUES}


@settings(max_examples=150, deadline=None)
@given(SOME_VALUES)
def test_every_state_comes_back_equal(values: dict[str, Any]) -> None:
    io = MemoryTaskIO()
    with CheckMateEngine(io, TASK, [Fill(stage_name="a", values=values)]) as first:
        first.execute()
        written = told(first.stages[0].state)
        assert first.check_sync()
    with CheckMateEngine(io, TASK, [Fill(stage_name="a")]) as second:
        read = told(second.stages[0].state)
        assert second.check_sync()
    for name, value in written.items():
        assert read[name] == value, name
        assert type(read[name]) is type(value) or name == "path", name


@settings(max_examples=100, deadline=None)
@given(SOME_VALUES)
def test_every_input_comes_back_equal_to_whoever_loads_the_task(values: dict[str, Any]) -> None:
    io = MemoryTaskIO()
    with CheckMate(io, TASK, [Fill(stage_name="a", state=Everything(**values))]) as cm:
        pass
    loaded = CheckMate[Fill, Any].load(io, TASK)
    assert told(loaded.stages[0].state) == told(cm.stages[0].state)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -0.0, 5e-324, 1.7976931348623157e308])
def test_the_odd_floats_come_back_wherever_they_stand(memory: TaskIO, value: float) -> None:
    values = {"real": value, "maybe": value, "many": (value,), "point": Point(value), "part": Part(weight=value)}
    with CheckMateEngine(memory, TASK, [Fill(stage_name="a", values=values)]) as first:
        first.execute()
        assert first.check_sync()
    with CheckMateEngine(memory, TASK, [Fill(stage_name="a")]) as second:
        state = second.stages[0].state
        found = [state.real, state.maybe, state.many[0], state.point.x, state.part.weight]
    for each in found:
        assert each is not None
        assert repr(each) == repr(value)
    for document in stage_documents(memory):
        assert document["state"]["real"] != "null"


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
    with CheckMateEngine(memory, TASK, [Hold(stage_name="a", values=values)]) as first:
        try:
            first.execute()
        except StageFailedException as exc:
            assert isinstance(exc.__cause__, InvalidStateException)
            assert next(iter(values)) in str(exc) or "invalid utf-8" in str(exc)
            return
    with CheckMateEngine(memory, TASK, [Hold(stage_name="a")]) as second:
        for name, value in values.items():
            assert getattr(second.stages[0].state, name) == value


def test_a_type_with_its_own_serializer_is_stored_by_it(memory: TaskIO) -> None:
    with CheckMateEngine(memory, TASK, [Hold(stage_name="a", values={"point": 1 + 2j})]) as first:
        first.execute()
    assert stage_documents(memory)[0]["state"]["point"] == [1.0, 2.0]
    with CheckMateEngine(memory, TASK, [Hold(stage_name="a")]) as second:
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
def test_what_a_stage_leaves_and_json_cannot_hold_is_refused_and_the_task_can_be_mended(io: TaskIO, kind: str) -> None:
    with CheckMateEngine(io, TASK, [Put(stage_name="a", make=IMPOSSIBLE[kind])]) as engine:
        with pytest.raises(StageFailedException) as caught:
            engine.execute()
        assert isinstance(caught.value.__cause__, InvalidStateException)
        assert "stage 'a'" in str(caught.value)
        assert TASK in str(caught.value)
        assert engine.check_sync()
        assert engine.stages[0].state.number == 0
    assert [document["status"] for document in stage_documents(io)] == ["ERROR"]
    with CheckMateEngine(io, TASK, [Put(stage_name="a", make=lambda: {"number": 3})]) as mended:
        mended.execute()
        assert mended.stages[0].state.number == 3


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_a_template_that_json_cannot_hold_is_refused_before_anything_is_written(memory: TaskIO, kind: str) -> None:
    state = Loose()
    for name, value in IMPOSSIBLE[kind]().items():
        setattr(state, name, value)
    if kind == "a lock":
        state.anything = {"deep": [object()]}  # a template is copied, and a lock cannot be
    with pytest.raises(InvalidStateException, match=rf"stage 'a' of task {TASK}"):
        CheckMateEngine(memory, TASK, [Put(stage_name="a", state=state)]).bind()
    assert raw(memory) == {}


class Configured(Put):
    connection: Any = None


def test_a_field_of_a_stage_that_json_cannot_hold_is_refused_with_the_fix(memory: TaskIO) -> None:
    with pytest.raises(InvalidStateException, match=r"Field\(exclude=True\)"):
        CheckMateEngine(memory, TASK, [Configured(stage_name="a", connection=object())]).bind()
    assert raw(memory) == {}


def test_equal_sets_are_in_sync_whatever_order_they_were_filled_in(memory: TaskIO) -> None:
    names = {str(number) for number in range(200)}
    for number in range(0, 200, 3):
        names.discard(str(number))
    names |= {str(number) for number in range(199, 0, -7)}
    with CheckMateEngine(memory, TASK, [Fill(stage_name="a", values={"names": names})]) as engine:
        engine.execute()
        assert engine.check_sync()


def test_a_large_state_comes_back_equal(io: TaskIO) -> None:
    values = {"text": "ä" * 1_000_000, "by_number": {n: str(n) for n in range(20_000)}}
    with CheckMateEngine(io, TASK, [Fill(stage_name="a", values=values)]) as engine:
        engine.execute()
        assert engine.check_sync()
