"""Whatever a state holds comes back equal from the store, or is refused with nothing written."""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMate,
    CheckMateEngine,
    TaskIO,
)
from checkmate_core.io.memory import MemoryTaskIO

from .pipelines import TASK, stage_documents


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
PART = st.recursive(
    LEAF, lambda inner: st.builds(Part, weight=REAL, parts=st.lists(inner, max_size=2)), max_leaves=4
)
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
    with CheckMateEngine[Fill, Any](io, TASK, [Fill(stage_name="a", values=values)]) as first:
        first.execute()
        written = told(first.stages[0].state)
        assert first.check_sync()
    with CheckMateEngine[Fill, Any](io, TASK, [Fill(stage_name="a")]) as second:
        read = told(second.stages[0].state)
        assert second.check_sync()
    for name, value in written.items():
        assert read[name] == value, name
        assert type(read[name]) is type(value) or name == "path", name


@settings(max_examples=100, deadline=None)
@given(SOME_VALUES)
def test_every_input_comes_back_equal_to_whoever_loads_the_task(values: dict[str, Any]) -> None:
    io = MemoryTaskIO()
    with CheckMate[Fill, Any](io, TASK, [Fill(stage_name="a", state=Everything(**values))]) as cm:
        pass
    loaded = CheckMate[Fill, Any].load(io, TASK)
    assert told(loaded.stages[0].state) == told(cm.stages[0].state)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -0.0, 5e-324, 1.7976931348623157e308])
def test_the_odd_floats_come_back_wherever_they_stand(memory: TaskIO, value: float) -> None:
    values = {
        "real": value,
        "maybe": value,
        "many": (value,),
        "point": Point(value),
        "part": Part(weight=value),
    }
    with CheckMateEngine[Fill, Any](memory, TASK, [Fill(stage_name="a", values=values)]) as first:
        first.execute()
        assert first.check_sync()
    with CheckMateEngine[Fill, Any](memory, TASK, [Fill(stage_name="a")]) as second:
        state = second.stages[0].state
        found = [state.real, state.maybe, state.many[0], state.point.x, state.part.weight]
    for each in found:
        assert each is not None
        assert repr(each) == repr(value)
    for document in stage_documents(memory):
        assert document["state"]["real"] != "null"


def test_equal_sets_are_in_sync_whatever_order_they_were_filled_in(memory: TaskIO) -> None:
    names = {str(number) for number in range(200)}
    for number in range(0, 200, 3):
        names.discard(str(number))
    names |= {str(number) for number in range(199, 0, -7)}
    with CheckMateEngine[Fill, Any](memory, TASK, [Fill(stage_name="a", values={"names": names})]) as engine:
        engine.execute()
        assert engine.check_sync()


def test_a_large_state_comes_back_equal(io: TaskIO) -> None:
    values = {"text": "ä" * 1_000_000, "by_number": {n: str(n) for n in range(20_000)}}
    with CheckMateEngine[Fill, Any](io, TASK, [Fill(stage_name="a", values=values)]) as engine:
        engine.execute()
        assert engine.check_sync()
