"""Faults that only somebody else's request at the wrong moment brings to light."""

import threading

from checkmate_core.errors import PersistenceDataNotFoundException, VersionConflictException
from checkmate_core.types import ABSENT, ANY, Expect, RemoveExpect, StoredObject, Version

from .sound import SoundIO, World, caught_by

LARGE = 64 * 1024


@caught_by("concurrency")
class CreateChecksThenActs(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        if expect is not ABSENT:
            return super().write(obj_name, data, expect=expect)
        if self.exists(obj_name):
            raise VersionConflictException(f"{self.build_url(obj_name)} exists")
        self.world.await_change(0.01)
        return super().write(obj_name, data)


@caught_by("concurrency")
class SwapChecksThenActs(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        if not isinstance(expect, str):
            return super().write(obj_name, data, expect=expect)
        _check(self, obj_name, expect)
        self.world.await_change(0.01)
        return super().write(obj_name, data)


@caught_by("concurrency")
class RemoveChecksThenActs(SoundIO):
    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        if isinstance(expect, str):
            _check(self, obj_name, expect)
            self.world.await_change(0.01)
        super().remove(obj_name)


@caught_by("concurrency")
class ALockInTheClientStandsInForTheStore(SoundIO):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.lock = threading.Lock()

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        if expect is not ABSENT:
            return super().write(obj_name, data, expect=expect)
        with self.lock:
            if self.exists(obj_name):
                raise VersionConflictException(f"{self.build_url(obj_name)} exists")
            self.world.await_change(0.01)
            return super().write(obj_name, data)


@caught_by("concurrency")
class WritesArriveInHalves(SoundIO):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.reads = 0

    def read(self, obj_name: str) -> StoredObject:
        try:
            return super().read(obj_name)
        finally:
            self.world.changes += 1

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        if expect is ANY and len(data) > LARGE:
            super().write(obj_name, data[: len(data) // 2])
            self.world.await_change()
        return super().write(obj_name, data, expect=expect)


@caught_by("concurrency")
class ReadsBodyAndVersionInTwoRequests(SoundIO):
    def read(self, obj_name: str) -> StoredObject:
        stored = super().read(obj_name)
        if len(stored.data) > LARGE:
            self.world.await_change()
            stored = StoredObject(stored.data, super().read(obj_name).version, stored.age)
        return stored


@caught_by("concurrency")
class VersionOfAWriteIsAskedForAfterwards(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        super().write(obj_name, data, expect=expect)
        self.world.await_change(0.002)
        return self.read(obj_name).version


@caught_by("concurrency")
class FailsUnderManyThreads(SoundIO):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        # So small that the crowd meets it on the slowest machine too.
        self.busy = threading.Semaphore(4)

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        if not self.busy.acquire(blocking=False):
            raise PoolTimeout("the connection pool is full")
        try:
            self.world.await_change(0.002)
            return super().write(obj_name, data, expect=expect)
        finally:
            self.busy.release()


class PoolTimeout(Exception):
    pass


def _check(io: SoundIO, obj_name: str, expect: str) -> None:
    try:
        found = io.inner.read(obj_name).version
    except PersistenceDataNotFoundException as exc:
        raise VersionConflictException(f"{io.build_url(obj_name)} is gone") from exc
    if found != expect:
        raise VersionConflictException(f"{io.build_url(obj_name)} has moved on")
