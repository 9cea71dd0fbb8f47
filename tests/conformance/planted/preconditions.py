"""Faults in preconditions and capabilities."""

from checkmate_core.errors import (
    StorageUnavailableException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.types import ABSENT, ANY, Capability, Expect, RemoveExpect, Version

from .sound import SoundIO, caught_by


@caught_by("conditional")
class CreateOverwrites(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return super().write(obj_name, data, expect=ANY if expect is ABSENT else expect)


@caught_by("conditional")
class SwapIgnoresTheVersion(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return super().write(obj_name, data, expect=expect if expect is ABSENT else ANY)


@caught_by("conditional")
class SwapCreatesWhatIsMissing(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return super().write(obj_name, data, expect=expect if self.exists(obj_name) else ANY)


@caught_by("conditional")
class RefusedSwapIsAppliedAllTheSame(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        try:
            return super().write(obj_name, data, expect=expect)
        except VersionConflictException:
            super().write(obj_name, data)
            raise


@caught_by("conditional")
class RemoveIgnoresTheVersion(SoundIO):
    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        super().remove(obj_name)


@caught_by("conditional")
class RemoveByVersionOfWhatIsMissingPasses(SoundIO):
    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        super().remove(obj_name, expect=expect if self.exists(obj_name) else ANY)


@caught_by("conditional")
class ConflictIsReportedAsUnavailable(SoundIO):
    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        try:
            return super().write(obj_name, data, expect=expect)
        except VersionConflictException as exc:
            raise StorageUnavailableException(str(exc)) from exc


@caught_by("conditional")
class CapabilityDeclaredButNotThere(SoundIO):
    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        if expect is not ANY:
            raise UnsupportedBackendException("this store removes unconditionally only")
        super().remove(obj_name)


@caught_by("conditional")
class MoreDeclaredThanItsAuthorExpects(SoundIO):
    EXPECTED = frozenset(Capability) - {Capability.REMOVE_IF}


@caught_by("conditional")
class UndeclaredSwapIsDoneUnconditionally(SoundIO):
    CAPABILITIES = frozenset(Capability) - {Capability.SWAP}

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return super().write(obj_name, data, expect=expect if expect is ABSENT else ANY)


@caught_by("conditional")
class UndeclaredCreateIsDoneUnconditionally(SoundIO):
    CAPABILITIES = frozenset(Capability) - {Capability.CREATE}

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return super().write(obj_name, data, expect=ANY if expect is ABSENT else expect)
