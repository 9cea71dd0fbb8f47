"""Faults in listings."""

from collections.abc import Iterator
from itertools import islice

from checkmate_core.types import ObjectInfo

from .sound import SoundIO, World, caught_by

PAGE = 1000


@caught_by("listing")
class ForgetsASecondPage(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return islice(super().list(prefix), PAGE)


@caught_by("listing")
class ForgetsTheLastEntryOfAFullPage(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for number, info in enumerate(super().list(prefix), start=1):
            if number % PAGE:
                yield info


@caught_by("listing")
class RepeatsAnEntryBetweenPages(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for number, info in enumerate(super().list(prefix), start=1):
            yield info
            if number % PAGE == 0:
                yield info


@caught_by("listing")
class ListsByFolderNotByText(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = prefix and prefix.rstrip("/") + "/"
        return (info for info in super().list(prefix) if info.name.startswith(folder))


@caught_by("listing")
class ListsOneLevelOnly(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in super().list(prefix) if "/" not in info.name[len(prefix) :])


@caught_by("listing")
class TakesThePrefixForAPattern(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if "*" in prefix:
            return (info for info in super().list() if info.name.startswith(prefix.partition("*")[0]))
        return super().list(prefix)


@caught_by("listing")
class ListsFromACache(SoundIO):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cache: dict[str, list[ObjectInfo]] = {}

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return iter(self.cache.setdefault(prefix, [*super().list(prefix)]))


@caught_by("listing")
class ListsItsNeighbours(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from super().list(prefix)
        for neighbour in self.world.raw.neighbours.values():
            yield from neighbour.store.list(prefix)


@caught_by("listing")
class TimesWithoutAZone(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix):
            yield ObjectInfo(info.name, info.version, info.size, info.modified.replace(tzinfo=None))


@caught_by("listing")
class FailsWhenAnObjectGoesDuringTheListing(SoundIO):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = [*super().list(prefix)]
        self.world.await_change(0.02)
        for info in found:
            self.inner.read(info.name)
            yield info
