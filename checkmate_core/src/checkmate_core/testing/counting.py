"""A TaskIO that counts requests, to hold code to a budget of them."""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from checkmate_core.io.protocol import TaskIO
from checkmate_core.types import (
    ANY,
    Capability,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)

PAGE = 1000

# One lock for all instances, so that a fork can replace it: held by another thread, it would stay locked.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """How many requests of each kind were made.

    Attributes:
        reads: One per ``read`` and one per name of ``read_many``.
        writes: Conditional or not, applied or refused.
        removes: Likewise.
        lists: One per page of 1000 names, at least one per listing.
        exists: One per ``exists``.
    """

    reads: int = 0
    writes: int = 0
    removes: int = 0
    lists: int = 0
    exists: int = 0

    @property
    def total(self) -> int:
        """All requests."""
        return self.reads + self.writes + self.removes + self.lists + self.exists

    def __sub__(self, earlier: "RequestCounts") -> "RequestCounts":
        """The requests made since ``earlier``."""
        return RequestCounts(
            self.reads - earlier.reads,
            self.writes - earlier.writes,
            self.removes - earlier.removes,
            self.lists - earlier.lists,
            self.exists - earlier.exists,
        )


class CountingTaskIO:
    """Passes every request on to another TaskIO and counts it.

    Args:
        io: The store that does the work.
    """

    def __init__(self, io: TaskIO) -> None:
        self._io = io
        self._counts = RequestCounts()

    @property
    def counts(self) -> RequestCounts:
        """The requests so far. Subtract two of them to measure what happened in between."""
        return self._counts

    @property
    def base_url(self) -> str:
        return self._io.base_url

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._io.capabilities

    @property
    def probe_scope(self) -> str | None:
        return self._io.probe_scope

    def build_url(self, obj_name: str) -> str:
        return self._io.build_url(obj_name)

    def exists(self, obj_name: str) -> bool:
        self._add(exists=1)
        return self._io.exists(obj_name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._add(lists=1)
        return self._count_pages(self._io.list(prefix))

    def read(self, obj_name: str) -> StoredObject:
        self._add(reads=1)
        return self._io.read(obj_name)

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        self._add(reads=len(obj_names))
        return self._io.read_many(obj_names)

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        self._add(writes=1)
        return self._io.write(obj_name, data, expect=expect)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self._add(removes=1)
        self._io.remove(obj_name, expect=expect)

    def _count_pages(self, entries: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        for number, info in enumerate(entries):
            if number and number % PAGE == 0:
                self._add(lists=1)
            yield info

    def _add(self, **kinds: int) -> None:
        with _lock:
            counted = {kind: getattr(self._counts, kind) + more for kind, more in kinds.items()}
            self._counts = replace(self._counts, **counted)
