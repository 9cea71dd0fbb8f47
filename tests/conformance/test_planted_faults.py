"""The kit finds what it is there to find, and finds nothing where nothing is wrong."""

import pytest

from checkmate_core.errors import UnsupportedBackendException
from checkmate_core.testing import (
    CountingTaskIO,
    FaultyTaskIO,
    Subject,
    TaskIOConformance,
    run_conformance,
)
from checkmate_core.testing.conformance import GROUPS, cases
from checkmate_core.types import ABSENT, ANY, Capability, Expect, RemoveExpect, StoredObject, Version

from .planted import PLANTED, SoundIO, World, subject_of
from .test_memory import memory_subject


@pytest.mark.parametrize(
    ("backend", "group"), PLANTED, ids=[f"{backend.__name__}-{group}" for backend, group in PLANTED]
)
def test_a_planted_fault_is_caught_by_its_group(backend: type[SoundIO], group: str) -> None:
    failed = run_conformance(lambda: subject_of(backend))

    assert group in {each.group for each in failed}, [str(each) for each in failed]
    for each in failed:
        assert str(each).startswith(f"{each.group}: {each.case}: ")


def test_nothing_is_found_in_a_sound_backend() -> None:
    assert [str(each) for each in run_conformance(lambda: subject_of(SoundIO))] == []


@pytest.mark.parametrize("lacking", Capability)
def test_nothing_is_found_in_a_sound_backend_that_lacks_a_capability(lacking: Capability) -> None:
    class Lacking(SoundIO):
        CAPABILITIES = frozenset(Capability) - {lacking}

        def read(self, obj_name: str) -> StoredObject:
            stored = super().read(obj_name)
            age = None if lacking is Capability.STORE_CLOCK else stored.age
            return StoredObject(stored.data, stored.version, age)

        def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
            needed = Capability.CREATE if expect is ABSENT else Capability.SWAP
            if expect is not ANY and needed is lacking:
                raise UnsupportedBackendException(f"this store has no {lacking.name}")
            return super().write(obj_name, data, expect=expect)

        def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
            if expect is not ANY and lacking is Capability.REMOVE_IF:
                raise UnsupportedBackendException(f"this store has no {lacking.name}")
            super().remove(obj_name, expect=expect)

    assert [str(each) for each in run_conformance(lambda: subject_of(Lacking))] == []


@pytest.mark.parametrize("wrapper", [FaultyTaskIO, CountingTaskIO])
def test_a_wrapper_without_faults_is_as_sound_as_what_it_wraps(
    wrapper: type[FaultyTaskIO] | type[CountingTaskIO],
) -> None:
    def wrapped() -> Subject:
        plain = memory_subject()
        return Subject(
            io=wrapper(plain.io),
            raw=plain.raw,
            capabilities=plain.capabilities,
            reopen=lambda: wrapper(plain.reopen()),
            races=plain.races,
            clock_tick=plain.clock_tick,
            chains_causes=plain.chains_causes,
            shared_by_processes=plain.shared_by_processes,
        )

    assert [str(each) for each in run_conformance(wrapped)] == []


def test_the_groups_are_all_of_the_suite() -> None:
    inherited = {name for name in dir(TaskIOConformance) if name.startswith("test_")}
    grouped = [case for group in GROUPS for case in cases(group)]

    assert sorted(grouped) == sorted(inherited)
    assert {group for _, group in PLANTED} == set(GROUPS)


def test_a_sound_subject_is_a_world_of_its_own() -> None:
    first, second = subject_of(SoundIO), subject_of(SoundIO)
    first.io.write("object", b"body")

    assert second.raw.names() == set()
    assert World().raw.names() == set()
