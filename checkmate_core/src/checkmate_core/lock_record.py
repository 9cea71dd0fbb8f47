"""The lock object as it is stored."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from checkmate_core.errors import PersistenceDataNotFoundException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.process import ProcessIdentity
from checkmate_core.record import StoredDocument
from checkmate_core.types import Version


class LockRecord(StoredDocument):
    """The lock object.

    Attributes:
        owner: Identity of the acquisition that holds the lock; None once released.
        epoch: Fencing token of the latest owner; kept when released.
        lease_s: How long the owner may be silent, in seconds; None is for ever.
        in_flight: A stage's begin may have been stored without being synced.
        finished: The task is finished, and the lock stays only because the store cannot remove it.
        host: Where the holder runs; with the next four, its `ProcessIdentity`.
        boot_id: See there.
        pid_ns: See there.
        pid: See there.
        pid_started: See there.
        acquired_at: When, by the holder's clock; for people.
        renewed_at: When it last said that it lives; for people.
    """

    KIND: ClassVar[str] = "lock"

    owner: str | None
    epoch: int = Field(ge=0)
    lease_s: float | None = None
    in_flight: bool = False
    finished: bool = False
    host: str
    boot_id: str | None = None
    pid_ns: str | None = None
    pid: int
    pid_started: int | None = None
    acquired_at: datetime
    renewed_at: datetime

    @property
    def holder(self) -> ProcessIdentity:
        """The process that acquired the lock."""
        return ProcessIdentity.model_validate(self.model_dump(include=set(ProcessIdentity.model_fields)))

    def describe_holder(self) -> str:
        """Who holds the lock, for a message."""
        return f"{self.host} pid {self.pid} since {self.acquired_at:%Y-%m-%d %H:%M:%S} UTC"


def read_lock(task_io: TaskIO, obj_name: str) -> LockRecord | None:
    """The lock object as it is stored now; None if there is none.

    Raises:
        CorruptObjectException: The object cannot be read as a lock.
    """
    found = read_lock_version(task_io, obj_name)
    return found[1] if found else None


def read_lock_version(task_io: TaskIO, obj_name: str) -> tuple[Version, LockRecord] | None:
    """The lock object with its version; None if there is none.

    Raises:
        CorruptObjectException: The object cannot be read as a lock.
    """
    try:
        stored = task_io.read(obj_name)
    except PersistenceDataNotFoundException:
        return None
    return stored.version, LockRecord.decode(stored.data, task_io.build_url(obj_name))


def is_free(record: LockRecord) -> bool:
    """Whether a lock may be taken: released, or its holder is proven dead on this host."""
    return record.owner is None or record.holder.is_dead_here()


def released(record: LockRecord, *, finished: bool = False) -> LockRecord:
    """The same lock without an owner, keeping its epoch."""
    fields = record.model_dump(exclude={"write_id", "written_by", "format"})
    return LockRecord(**{**fields, "owner": None, "finished": finished or record.finished})
