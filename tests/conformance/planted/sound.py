"""The sound backend that every planted fault is a small change of."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from checkmate_core.errors import PersistenceDataNotFoundException
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import RaceEvidence, Subject
from checkmate_core.types import ANY, Capability, Expect, ObjectInfo, RemoveExpect, StoredObject, Version

from ..raw_stores import MemoryRaw

RACES = RaceEvidence(True, "a lock of this process decides")


class World:
    """One store, seen by all clients of one base URL."""

    def __init__(self) -> None:
        self.store = MemoryTaskIO("memory://planted")
        self.raw = MemoryRaw(self.store)
        self.changes = 0

    def await_change(self, patience: float = 0.1) -> None:
        """Give another thread the chance to change something; what happens without one is no fault."""
        before, deadline = self.changes, time.monotonic() + patience
        while self.changes == before and time.monotonic() < deadline:
            time.sleep(0.0005)


class SoundIO:
    CAPABILITIES = frozenset(Capability)
    # What the author of the subject expects, if that is something else.
    EXPECTED: frozenset[Capability] | None = None
    SCOPE: str | None = "http://planted planted"

    def __init__(self, world: World) -> None:
        self.world = world
        self.inner = world.store

    @property
    def base_url(self) -> str:
        return self.inner.base_url

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.CAPABILITIES

    @property
    def probe_scope(self) -> str | None:
        return self.SCOPE

    def build_url(self, obj_name: str) -> str:
        return self.inner.build_url(obj_name)

    def exists(self, obj_name: str) -> bool:
        return self.inner.exists(obj_name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list(prefix)

    def read(self, obj_name: str) -> StoredObject:
        return self.inner.read(obj_name)

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        found = {}
        for name in obj_names:
            with suppress(PersistenceDataNotFoundException):
                found[name] = self.read(name)
        return found

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        version = self.inner.write(obj_name, data, expect=expect)
        self.world.changes += 1
        return version

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self.inner.remove(obj_name, expect=expect)
        self.world.changes += 1


PLANTED: list[tuple[type[SoundIO], str]] = []
"""Each faulty backend with the group that has to find it."""


def caught_by(group: str) -> Callable[[type[SoundIO]], type[SoundIO]]:
    def plant(backend: type[SoundIO]) -> type[SoundIO]:
        PLANTED.append((backend, group))
        return backend

    return plant


def subject_of(backend: type[SoundIO]) -> Subject:
    world = World()
    return Subject(
        io=backend(world),
        raw=world.raw,
        capabilities=backend.CAPABILITIES if backend.EXPECTED is None else backend.EXPECTED,
        reopen=lambda: backend(world),
        races=RACES,
        secrets=("hunter2",),
        clock_tick=0.001,
        chains_causes=False,
        shared_by_processes=False,
    )
