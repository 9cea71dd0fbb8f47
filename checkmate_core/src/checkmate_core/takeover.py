"""When somebody else's lock may be taken: what a waiter has to have seen."""

from dataclasses import dataclass

from checkmate_core.clock import Clock
from checkmate_core.errors import PersistenceDataNotFoundException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.lock_record import LockRecord
from checkmate_core.types import Version


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lock object as one read found it.

    Attributes:
        version: Its version.
        record: What it said.
        age: Seconds since it was written, by the store's clock; None where the store does not tell.
        asked: When the read was sent, by the reader's clock.
        answered: When its answer was there, by the reader's clock.
    """

    version: Version
    record: LockRecord
    age: float | None
    asked: float
    answered: float


def sight_lock(task_io: TaskIO, obj_name: str, clock: Clock) -> Sighting | None:
    """Read a lock object; None if there is none.

    Raises:
        CorruptObjectException: The object cannot be read as a lock.
    """
    asked = clock.monotonic()
    try:
        stored = task_io.read(obj_name)
    except PersistenceDataNotFoundException:
        return None
    record = LockRecord.decode(stored.data, task_io.build_url(obj_name))
    return Sighting(stored.version, record, stored.age, asked, clock.monotonic())


class LockWatch:
    """Judges what is seen of a lock, and remembers since when it has not changed.

    No clock is compared with another one: the age of a lock is measured by the store alone, its
    silence by the waiter alone (the way of Kubernetes' leader election). Both only decide when the
    lock is tried; who gets it is decided by a swap, and who may write by the epoch.
    """

    def __init__(self) -> None:
        self._unchanged: tuple[Version, float] | None = None

    def reason_to_take(self, seen: Sighting) -> str | None:
        """Why the lock may be taken, in words; None if it may not."""
        record = seen.record
        if record.owner is None:
            return "it was released"
        if record.holder.is_dead_here():
            return "its holder is dead"
        if self._unchanged is None or self._unchanged[0] != seen.version:
            self._unchanged = (seen.version, seen.answered)
        if record.lease_s is None:
            return None
        silent = max(seen.asked - self._unchanged[1], seen.age or 0.0)
        return f"its lease of {record.lease_s:g} s ran out" if silent > record.lease_s else None
