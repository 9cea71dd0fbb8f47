"""Values that cross the border between the engine and a store."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final, Literal, NewType, TypeAlias

Version = NewType("Version", str)
"""Opaque name of one content of one object: an ETag, a generation, a digest."""


class Precondition(Enum):
    """What a write or a remove may expect besides one exact version."""

    ANY = auto()
    ABSENT = auto()


ANY: Final = Precondition.ANY
"""No expectation: last writer wins."""

ABSENT: Final = Precondition.ABSENT
"""The object must not exist yet."""

Expect: TypeAlias = Version | Precondition
RemoveExpect: TypeAlias = Version | Literal[Precondition.ANY]


class Capability(Enum):
    """What a store can do atomically. Declared by a backend, never detected by the engine."""

    CREATE = auto()
    """``write(expect=ABSENT)``: of many contenders exactly one wins."""
    SWAP = auto()
    """``write(expect=version)``: applied only over that very version."""
    REMOVE_IF = auto()
    """``remove(expect=version)``: removes only that very version."""
    STORE_CLOCK = auto()
    """``StoredObject.age`` is measured by the store's own clock."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One entry of a listing.

    Attributes:
        name: Object name below the base URL.
        version: Version, or None where a listing does not carry it.
        size: Bytes.
        modified: Last modification by the store's clock, timezone-aware.
    """

    name: str
    version: Version | None
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as read in one request.

    Attributes:
        data: The whole body.
        version: The version of exactly this body.
        age: Seconds since the last write by the store's own clock, never negative; None without STORE_CLOCK.
    """

    data: bytes
    version: Version
    age: float | None
