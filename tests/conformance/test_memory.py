import pytest

from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import RaceEvidence, Subject, TaskIOConformance
from checkmate_core.types import Capability

from .raw_stores import MemoryRaw

RACES = RaceEvidence(True, "one process is all there is, and a lock of it decides")


def memory_subject(url: str = "memory://conformance") -> Subject:
    store = MemoryTaskIO(url)

    def reopen() -> MemoryTaskIO:
        second = MemoryTaskIO(url)
        second.objects = store.objects
        return second

    return Subject(
        io=store,
        raw=MemoryRaw(store),
        capabilities=frozenset(Capability),
        reopen=reopen,
        races=RACES,
        clock_tick=0.001,
        chains_causes=False,
        shared_by_processes=False,
    )


class TestMemoryTaskIO(TaskIOConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        return memory_subject()
