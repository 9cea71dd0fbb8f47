"""Each operation of a backend is one request, whatever its outcome: counted at the server."""

import copy
from collections.abc import Callable
from contextlib import suppress

import pytest

from checkmate_core import PersistenceDataNotFoundException, TaskIO, VersionConflictException
from checkmate_core.types import ABSENT, ANY, Version

from .meters import HttpMeter

# An ETag or a generation.
OTHER = Version("1234567890123456")

OPERATIONS: dict[str, Callable[[TaskIO], object]] = {
    "GET an object": lambda io: io.read("there"),
    "GET a missing object": lambda io: io.read("missing"),
    "GET to see that an object exists": lambda io: io.exists("there"),
    "GET to see that an object is missing": lambda io: io.exists("missing"),
    "PUT unconditionally": lambda io: io.write("new", b"1", expect=ANY),
    "PUT where nothing is": lambda io: io.write("new", b"1", expect=ABSENT),
    "PUT where something is": lambda io: io.write("there", b"1", expect=ABSENT),
    "PUT over another version": lambda io: io.write("there", b"1", expect=OTHER),
    "PUT over a missing object": lambda io: io.write("missing", b"1", expect=OTHER),
    "DELETE": lambda io: io.remove("there"),
    "DELETE another version": lambda io: io.remove("there", expect=OTHER),
    "DELETE a missing object": lambda io: io.remove("missing"),
    "LIST": lambda io: list(io.list()),
    "LIST nothing": lambda io: list(io.list("missing/")),
}


KINDS = {"GET": "reads", "PUT": "writes", "DELETE": "removes", "LIST": "lists"}


@pytest.fixture
def meter(http_meter: HttpMeter) -> HttpMeter:
    http_meter.io.write("there", b"there")
    return http_meter


@pytest.mark.parametrize("what", OPERATIONS)
def test_an_operation_is_one_request(meter: HttpMeter, what: str) -> None:
    before = len(meter.requests)
    with suppress(PersistenceDataNotFoundException, VersionConflictException):
        OPERATIONS[what](meter.io)
    made = meter.requests[before:]
    assert [request.kind for request in made] == [KINDS[what.partition(" ")[0]]]


def test_a_swap_and_its_removal_are_one_request_each(meter: HttpMeter) -> None:
    first = meter.io.write("object", b"1", expect=ABSENT)
    before = len(meter.requests)
    second = meter.io.write("object", b"2", expect=first)
    meter.io.remove("object", expect=second)
    assert [request.kind for request in meter.requests[before:]] == ["writes", "removes"]


def test_many_reads_are_one_request_each(meter: HttpMeter) -> None:
    for number in range(40):
        meter.io.write(f"n{number}", b"1")
    before = len(meter.requests)
    found = meter.io.read_many([*(f"n{number}" for number in range(40)), "missing"])
    assert len(found) == 40
    assert [request.kind for request in meter.requests[before:]] == ["reads"] * 41


def test_opening_a_store_is_no_request(meter: HttpMeter) -> None:
    before = len(meter.requests)
    other = copy.copy(meter.io)
    other.build_url("object")
    assert other.probe_scope
    assert meter.requests[before:] == []
    other.read("there")
    assert len(meter.requests[before:]) == 1
