"""The reference backend: `memory://NAME`, shared by everything in this process."""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.names import check_object_name, check_prefix
from checkmate_core.types import (
    ABSENT,
    ANY,
    Capability,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)

# One lock for all stores, so that a fork can replace it: held by another thread, it would stay locked.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))


class MemoryTaskIO:
    """Objects in a dict. It lives as long as the process; a forked child has a copy of its own.

    Attributes:
        objects: Bodies and modification times by name.
    """

    url_options: ClassVar[frozenset[str]] = frozenset()
    capabilities = frozenset(Capability)
    probe_scope: str | None = None

    def __init__(self, base_url: str = "memory://") -> None:
        self.base_url = base_url if base_url.endswith("://") else base_url.rstrip("/")
        self.objects: dict[str, tuple[bytes, datetime]] = {}

    @classmethod
    def from_base_url(cls, base_url: str, **storage_options: Any) -> "MemoryTaskIO":
        """Open ``memory://NAME``; the registry's cache makes equal URLs one store."""
        if storage_options:
            raise UnsupportedBackendException(
                f"memory:// takes no options, but got {', '.join(sorted(storage_options))}"
            )
        return cls(base_url)

    def build_url(self, obj_name: str) -> str:
        return f"{self.base_url.removesuffix('/')}/{check_object_name(obj_name)}"

    def exists(self, obj_name: str) -> bool:
        return check_object_name(obj_name) in self.objects

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        with _lock:
            found = [item for item in self.objects.items() if item[0].startswith(prefix)]
        for name, (data, modified) in found:
            yield ObjectInfo(name, _version(data), len(data), modified)

    def read(self, obj_name: str) -> StoredObject:
        check_object_name(obj_name)
        with _lock:
            stored = self.objects.get(obj_name)
        if stored is None:
            raise PersistenceDataNotFoundException(f"there is no object {self.build_url(obj_name)}")
        data, modified = stored
        age = max(0.0, (datetime.now(UTC) - modified).total_seconds())
        return StoredObject(data, _version(data), age)

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        found = {}
        for name in obj_names:
            with suppress(PersistenceDataNotFoundException):
                found[name] = self.read(name)
        return found

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        check_object_name(obj_name)
        with _lock:
            self._check(obj_name, expect)
            self.objects[obj_name] = (bytes(data), datetime.now(UTC))
        return _version(data)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        check_object_name(obj_name)
        with _lock:
            self._check(obj_name, expect)
            self.objects.pop(obj_name, None)

    def _check(self, obj_name: str, expect: Expect) -> None:
        if expect is ANY:
            return
        stored = self.objects.get(obj_name)
        current = ABSENT if stored is None else _version(stored[0])
        if current != expect:
            raise VersionConflictException(
                f"{self.build_url(obj_name)} has another version than expected "
                f"(expected {expect}, found {current})"
            )


def _version(data: bytes) -> Version:
    return Version(hashlib.sha256(data).hexdigest())
