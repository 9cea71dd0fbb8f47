"""The layer that seals, over memory and local files: the kit sees bodies, the store sees none of them."""

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.sealed_body import ENCRYPTED, MAGIC
from checkmate_core.testing import RawStore, Subject, TaskIOConformance
from checkmate_core.types import Capability
from checkmate_io_fsspec.local import LocalTaskIO
from checkmate_io_sealed._envelope import Envelope
from checkmate_io_sealed._keys import KeyRing
from checkmate_io_sealed.sealed import SealedTaskIO

from . import test_file, test_memory
from .raw_stores import FileRaw

KEY = bytes(range(32))


class SealedRaw:
    """Another store's raw side, of which only sealed bodies are let through."""

    def __init__(self, below: RawStore) -> None:
        self.below = below
        self._envelope = Envelope(KeyRing(KEY), compress=True, allow_plain=False)

    def get(self, name: str) -> bytes | None:
        stored = self.below.get(name)
        if stored is None:
            return None
        assert stored.startswith(MAGIC), f"{name} is not sealed"
        assert stored[5] & ENCRYPTED, f"{name} is not encrypted"
        body = self._envelope.open(name, stored, name)
        # A shorter one may be found by chance.
        assert len(body) < 8 or body not in stored
        return body

    def put(self, name: str, data: bytes) -> None:
        self.below.put(name, self._envelope.seal(name, data))

    def delete(self, name: str) -> None:
        self.below.delete(name)

    def names(self) -> set[str]:
        return self.below.names()

    def beside(self, suffix: str) -> "SealedRaw":
        return SealedRaw(self.below.beside(suffix))

    def size(self, name: str) -> int:
        stored = self.below.get(name)
        assert stored is not None
        return len(stored)


def sealed(io: TaskIO) -> TaskIO:
    return SealedTaskIO(io, compress="zstd", key=KEY)


def sealed_subject(below: Subject) -> Subject:
    raw = SealedRaw(below.raw)
    return replace(
        below,
        io=sealed(below.io),
        raw=raw,
        reopen=lambda: sealed(below.reopen()),
        secrets=(*below.secrets, KEY.decode("latin-1"), repr(KEY), KEY.hex()),
        stored_size=raw.size,
    )


class TestSealedMemory(TaskIOConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        return sealed_subject(test_memory.memory_subject())


class TestSealedFiles(TaskIOConformance):
    @pytest.fixture
    def subject(self, checkmate_file_url: str) -> Subject:
        return sealed_subject(
            Subject(
                io=LocalTaskIO.from_base_url(checkmate_file_url),
                raw=FileRaw(Path(urlsplit(checkmate_file_url).path)),
                capabilities=frozenset(Capability),
                reopen=lambda: LocalTaskIO.from_base_url(checkmate_file_url),
                races=test_file.RACES,
                clock_tick=0.02,
                chains_causes=False,
            )
        )


def test_a_store_that_can_hold_no_lock_says_why_through_the_layer() -> None:
    class Lame(MemoryTaskIO):
        capabilities = frozenset()
        no_locks_because = "it is lame"
        without_remove_if = "ask nicely"

    lame = SealedTaskIO(Lame(), compress="zstd")
    assert (lame.capabilities, lame.no_locks_because) == (frozenset(), "it is lame")
    assert lame.without_remove_if == "ask nicely"
