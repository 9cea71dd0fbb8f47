"""Faults in what is stored and what is answered."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from checkmate_core.errors import PersistenceDataNotFoundException
from checkmate_core.types import ANY, Expect, RemoveExpect, StoredObject, Version

from .sound import SoundIO, World, caught_by

_NOW = datetime.now(UTC)


@caught_by("read")
class ReadFromACache(SoundIO):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cache: dict[str, StoredObject] = {}

    def read(self, obj_name: str) -> StoredObject:
        if obj_name not in self.cache:
            self.cache[obj_name] = super().read(obj_name)
        return self.cache[obj_name]

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        self.cache.pop(obj_name, None)
        return super().write(obj_name, data, expect=expect)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self.cache.pop(obj_name, None)
        super().remove(obj_name, expect=expect)


@caught_by("read")
class ExistsFromACache(SoundIO):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.known: dict[str, bool] = {}

    def exists(self, obj_name: str) -> bool:
        return self.known.setdefault(obj_name, super().exists(obj_name))

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        self.known.pop(obj_name, None)
        return super().write(obj_name, data, expect=expect)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self.known.pop(obj_name, None)
        super().remove(obj_name, expect=expect)


@caught_by("read")
class ReadCutsLargeBodies(SoundIO):
    def read(self, obj_name: str) -> StoredObject:
        stored = super().read(obj_name)
        return StoredObject(stored.data[: 5 * 1024 * 1024], stored.version, stored.age)


@caught_by("read")
class AgeNeverGrows(SoundIO):
    def read(self, obj_name: str) -> StoredObject:
        stored = super().read(obj_name)
        return StoredObject(stored.data, stored.version, 0.0)


@caught_by("read")
class ReadManyForgetsBeyondAHundred(SoundIO):
    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        return super().read_many(obj_names[:100])


@caught_by("read")
class ReadManyFailsOnWhatIsMissing(SoundIO):
    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        return {name: self.read(name) for name in obj_names}


@caught_by("write")
class WriteAnswersTheVersionBefore(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        before = self.inner.objects.get(obj_name)
        version = super().write(obj_name, data, expect=expect)
        if before is None:
            return version
        other = World().store
        return other.write("before", before[0])


@caught_by("write")
class ReadAnswersTheVersionOfOtherBytes(SoundIO):
    def read(self, obj_name: str) -> StoredObject:
        stored = super().read(obj_name)
        return StoredObject(stored.data, World().store.write("other", stored.data + b"!"), stored.age)


@caught_by("write")
class WriteInTextMode(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return super().write(obj_name, data.replace(b"\r\n", b"\n"), expect=expect)


@caught_by("write")
class WriteLeavesATemporaryObject(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        self.inner.objects.setdefault("leftover.tmp", (data, _NOW))
        return super().write(obj_name, data, expect=expect)


@caught_by("write")
class RemoveTakesWhatIsBelow(SoundIO):
    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        super().remove(obj_name, expect=expect)
        for name in [name for name in self.inner.objects if name.startswith(f"{obj_name}/")]:
            self.inner.objects.pop(name, None)


@caught_by("write")
class RemoveOfWhatIsMissingFails(SoundIO):
    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        if expect is ANY:
            self.read(obj_name)
        super().remove(obj_name, expect=expect)


@caught_by("errors")
class AnExceptionOfTheSdkEscapes(SoundIO):
    def read(self, obj_name: str) -> StoredObject:
        try:
            return super().read(obj_name)
        except PersistenceDataNotFoundException as exc:
            raise FileNotFoundError(str(exc)) from exc

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        return self.inner.read_many(obj_names)


@caught_by("errors")
class TheMessageDoesNotNameTheObject(SoundIO):
    def read(self, obj_name: str) -> StoredObject:
        try:
            return super().read(obj_name)
        except PersistenceDataNotFoundException:
            raise PersistenceDataNotFoundException("not found") from None


@caught_by("errors")
class TheBaseUrlCarriesASecret(SoundIO):
    @property
    def base_url(self) -> str:
        return f"{self.inner.base_url}/hunter2"

    def build_url(self, obj_name: str) -> str:
        return f"{self.base_url}/{self.inner.build_url(obj_name).rpartition('://planted/')[2]}"


@caught_by("errors")
class TheScopeOfAProbeCarriesASecret(SoundIO):
    SCOPE = "http://planted/hunter2 planted"


@caught_by("errors")
class TheScopeOfAProbeIsAnotherForEveryClient(SoundIO):
    @property
    def probe_scope(self) -> str | None:
        return f"http://planted {id(self)}"


@caught_by("processes")
class DeadAfterAFork(SoundIO):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.pid = os.getpid()

    def read(self, obj_name: str) -> StoredObject:
        if os.getpid() != self.pid:
            raise RuntimeError("this client's threads did not survive the fork")
        return super().read(obj_name)
