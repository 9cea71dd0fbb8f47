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
        lease = f", last heard of at {self.renewed_at:%H:%M:%S}" if self.lease_s is not None else ""
        return f"{self.host} pid {self.pid} since {self.acquired_at:%Y-%m-%d %H:%M:%S}{lease} UTC"


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


def released(record: LockRecord, *, finished: bool = False) -> LockRecord:
    """The same lock without an owner, keeping its epoch."""
    return _rewritten(record, owner=None, finished=finished or record.finished)


def renewed(record: LockRecord, now: datetime) -> LockRecord:
    """The same lock, heard of just now."""
    return _rewritten(record, renewed_at=now)


def _rewritten(record: LockRecord, **changes: object) -> LockRecord:
    # Another write, so another nonce, and by this version.
    fields = record.model_dump(exclude={"write_id", "written_by", "format"})
    return LockRecord.model_validate({**fields, **changes})
