"""Faults in names."""

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import unquote

from checkmate_core.errors import PersistenceDataNotFoundException, TaskIOException
from checkmate_core.types import ANY, Expect, ObjectInfo, RemoveExpect, StoredObject, Version

from .sound import SoundIO, World, caught_by


@caught_by("names")
class WritesUnderAnyName(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        try:
            return super().write(obj_name, data, expect=expect)
        except TaskIOException:
            if "/.." not in f"/{obj_name}":
                raise
            self.inner.objects[obj_name] = (data, datetime.now(UTC))
            return World().store.write("name", data)


@caught_by("names")
class ChecksNamesAfterTheWrite(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        if expect is ANY:
            self.inner.objects[obj_name] = (data, datetime.now(UTC))
        return super().write(obj_name, data, expect=expect)


@caught_by("names")
class AsksTheStoreForUnsafeNames(SoundIO):
    def read(self, obj_name: str) -> StoredObject:
        if obj_name not in self.inner.objects:
            raise PersistenceDataNotFoundException(f"no object {self.base_url}/{obj_name}")
        return super().read(obj_name)


@caught_by("names")
class SaysThatUnsafeNamesDoNotExist(SoundIO):
    def exists(self, obj_name: str) -> bool:
        return obj_name in self.inner.objects


class _Renaming(SoundIO):
    def rename(self, obj_name: str) -> str:
        raise NotImplementedError

    def exists(self, obj_name: str) -> bool:
        return super().exists(self.rename(obj_name))

    def read(self, obj_name: str) -> StoredObject:
        return super().read(self.rename(obj_name))

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return super().write(self.rename(obj_name), data, expect=expect)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        super().remove(self.rename(obj_name), expect=expect)


@caught_by("names")
class TakesEscapesForCharacters(_Renaming):
    def rename(self, obj_name: str) -> str:
        return unquote(obj_name) if obj_name == "x%2Fy" else obj_name


@caught_by("names")
class TakesPlusForASpace(_Renaming):
    def rename(self, obj_name: str) -> str:
        return obj_name.replace("+", " ")


@caught_by("names")
class FoldsCase(_Renaming):
    def rename(self, obj_name: str) -> str:
        return obj_name.replace("CASE", "case")


@caught_by("names")
class HidesLockAndDotFiles(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in super().list(prefix) if not info.name.endswith((".lock", "/.hidden")))
