"""What a backend hands to the conformance suite."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from checkmate_core.io.protocol import TaskIO
from checkmate_core.types import Capability


class RawStore(Protocol):
    """A way to the objects below the base URL that goes around the TaskIO entirely.

    The suite checks every write by a raw read and prepares every read by a raw write, so that a
    broken read cannot vouch for a broken write. It is called from many threads.
    """

    def get(self, name: str) -> bytes | None:
        """The body of the object, or None if there is none."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write the object, whatever was there."""
        ...

    def delete(self, name: str) -> None:
        """Remove the object if it is there."""
        ...

    def names(self) -> set[str]:
        """The names of all objects below the base URL, without a backend's own lock files."""
        ...

    def beside(self, suffix: str) -> "RawStore":
        """The raw store whose base URL is this one with ``suffix`` appended: a neighbour."""
        ...


@dataclass(frozen=True, slots=True)
class RaceEvidence:
    """What it means when no race of this store is ever lost.

    Attributes:
        proves_the_store: False if something other than the store decides the races: an emulator
            whose check-then-act is made one step by a lock of the test proves the client only.
        reason: Why, in a few words.
    """

    proves_the_store: bool
    reason: str

    def __str__(self) -> str:
        proven = "the store" if self.proves_the_store else "the client, not the store"
        return f"races prove {proven}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Subject:
    """One empty store under test, and what its author declares of it.

    Attributes:
        io: The backend under test, on a base URL that nobody else uses.
        raw: The way around it.
        capabilities: What the backend is expected to declare. A case that needs a capability which
            is not in here tests instead that the backend refuses.
        reopen: Makes a second, independent client of the same base URL.
        races: What the races prove. It is reported with the results.
        secrets: Texts that must appear in no URL, message or ``repr``.
        clock_tick: Resolution of the store's clock in seconds; S3 and HTTP dates have 1.0.
        chains_causes: Whether errors come from an SDK or the system, and so have a ``__cause__``.
        shared_by_processes: Whether another process sees the same objects; False for memory.
        stored_size: For a layer that stores bodies in another form (compressed, say), so that the
            sizes of a listing are not theirs: how many bytes the store below has of an object.
    """

    io: TaskIO
    raw: RawStore
    capabilities: frozenset[Capability]
    reopen: Callable[[], TaskIO]
    races: RaceEvidence
    secrets: tuple[str, ...] = ()
    clock_tick: float = 1.0
    chains_causes: bool = True
    shared_by_processes: bool = True
    stored_size: Callable[[str], int] | None = None

    def listed_size(self, name: str, body: bytes) -> int:
        """The size that a listing gives of an object with this body."""
        return self.stored_size(name) if self.stored_size else len(body)
