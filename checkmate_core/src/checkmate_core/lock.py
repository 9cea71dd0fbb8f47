"""BindLock: who may work on a task, as one object in the store.

The object is created if absent, and every later change of it is a swap on the version that was
read, so of many contenders one wins. It carries an epoch that grows with every owner, the fencing
token. Nothing here deletes the object unconditionally, and no clock decides who is right.
"""

import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from uuid import uuid4

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.wait import wait_random, wait_random_exponential

from checkmate_core.clock import SYSTEM_CLOCK, Clock
from checkmate_core.errors import (
    BindException,
    CorruptObjectException,
    PersistenceDataNotFoundException,
    SealedObjectException,
    TaskEngineException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.cas import CasWriter
from checkmate_core.io.protocol import TaskIO
from checkmate_core.lease import DEFAULT_LEASE, HeldLock, check_lease
from checkmate_core.lock_record import LockRecord, read_lock_version, released
from checkmate_core.probe import require_honest_conditions
from checkmate_core.process import ProcessIdentity
from checkmate_core.takeover import LockWatch, Sighting, sight_lock
from checkmate_core.types import ABSENT, Capability, Expect, Version

_log = logging.getLogger(__name__)


class BindLock:
    """A lock made of conditional writes to one object.

    Held until it is released, force-unlocked or lost. Its holder renews it in the background, three
    times a lease; one that is silent for longer than its lease may be replaced. One that is proven
    dead on this very host (same boot, same pid namespace, pid gone or reused) is replaced at once,
    so that a killed process can simply be started again. Thread-safe. In a forked child it is not
    held.

    Attributes:
        task_io: The storage interface for locking operations.
        obj_name: The object name used as the lock file identifier.
        acquire_timeout: Maximum time to wait for the lock, in seconds; None tries once.
        lease: Seconds that a holder may be silent; None is for ever.
        owner: Identity of this acquisition while the lock is held, else None.
        epoch: Fencing token of this acquisition; 0 before the first.
    """

    def __init__(
        self,
        task_io: TaskIO,
        obj_name: str,
        acquire_timeout: float | None = None,
        *,
        lease: float | None = DEFAULT_LEASE,
        min_epoch: int = 1,
        clock: Clock = SYSTEM_CLOCK,
        after_renewal: Callable[[], None] = lambda: None,
    ) -> None:
        """Initializes a lock file handler. Makes no request.

        Args:
            task_io: The storage interface to use.
            obj_name: The object name used as the lock file identifier.
            acquire_timeout: The maximum time (in seconds) to wait for the lock. If None, attempts
                to acquire the lock immediately.
            lease: How many seconds a holder of this lock may be silent before others may take it
                over. It is renewed at a third of that. None: it is held until it is released or
                force-unlocked, however dead its holder is on another host.
            min_epoch: The epoch is at least this: one more than any that was seen elsewhere.
            clock: Where waiting and renewing take their time from.
            after_renewal: Called in the background after each renewal; what it raises is logged.

        Raises:
            TaskEngineException: The lease is not a number above 0.
            UnsupportedBackendException: The store cannot create and swap atomically.
        """
        check_lease(lease)
        if not {Capability.CREATE, Capability.SWAP} <= task_io.capabilities:
            reason = getattr(task_io, "no_locks_because", "it cannot create and swap objects atomically")
            raise UnsupportedBackendException(
                f"{task_io.base_url} cannot hold a lock: {reason}. Use another store, or no_lock=True if surely "
                "nobody else works on the task"
            )
        self.task_io = task_io
        self.obj_name = obj_name
        self.acquire_timeout = acquire_timeout
        self.lease = lease
        self.owner: str | None = None
        self.epoch = 0
        self._url = task_io.build_url(obj_name)
        self._min_epoch = min_epoch
        self._clock = clock
        self._writer = CasWriter(task_io, clock)
        self._after_renewal = after_renewal
        self._replaced_holder = False
        self._is_locked = False
        self._thread_lock = threading.Lock()
        self._pid = os.getpid()
        self._held: HeldLock | None = None
        self._seen: Sighting | None = None
        self._watch = LockWatch()

    def __enter__(self) -> "BindLock":
        """Acquires the lock for use within a `with` statement.

        Raises:
            TaskEngineException: If the lock file cannot be acquired within the timeout.
        """
        self.acquire()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Releases the lock upon exiting a `with` statement."""
        self.release()

    def observe(self) -> None:
        """Read the lock object, so that an acquire that follows starts from what was seen.

        It saves a create that would fail where the object is known to be there.

        Raises:
            CorruptObjectException: The object cannot be read as a lock.
        """
        self._seen = sight_lock(self.task_io, self.obj_name, self._clock)

    @property
    def is_lost(self) -> bool:
        """Whether it was acquired and is not held any more though nobody released it here. Final."""
        return self._held is not None and self._held.lost is not None

    @property
    def replaced_holder(self) -> bool:
        """Whether the last acquisition took the lock from an owner that had not given it back."""
        return self._replaced_holder

    def check_held(self) -> None:
        """Raise if the lock is lost.

        Raises:
            LockLostException: Its lease ran out, or somebody else has it.
        """
        if self._held is not None:
            self._held.check()

    def acquire(self, *, ended_by: int | None = None) -> None:
        """Attempts to acquire the lock by writing to the specified task I/O object.

        Waits up to the specified timeout if the lock is already in use. This method is thread-safe.

        Args:
            ended_by: Epoch of the owner that finished what the lock guards. A lock of that owner, or of
                an earlier one, is taken whoever holds it; a later one may guard the next life.

        Raises:
            BindException: If the lock cannot be acquired within the timeout; the message names the
                holder.
            CorruptObjectException: The lock object cannot be read; never guessed to be free.
            StorageUnavailableException: The store did not answer for good.
            UnsupportedBackendException: The store ignores the conditions that a lock is made of.
        """
        require_honest_conditions(self.task_io)
        deadline = self._clock.monotonic() + (self.acquire_timeout or 0.0)
        Retrying(
            retry=retry_if_exception_type(BindException),
            stop=lambda _: self._clock.monotonic() >= deadline,
            # Jitter: waiters that poll in step would collide for ever.
            wait=_until(
                deadline, self._clock, wait_random(0.05, 0.1) + wait_random_exponential(0.1, max=0.9)
            ),
            sleep=self._clock.sleep,
            reraise=True,
        )(self._acquire_once, ended_by)

    def release(self, *, finished: bool = False) -> None:
        """Give the lock back, by a swap that keeps the epoch. Does nothing if it is not held.

        Args:
            finished: The task is finished: the object is removed where the store can do so
                conditionally, else the released lock stays and says so.

        Raises:
            StorageUnavailableException: The store did not answer for good; the lock may still be
                held.
        """
        with self._thread_lock:
            held, self._held = self._held, None
            self._is_locked, self.owner = False, None
            if held is not None and os.getpid() == self._pid:
                held.release(finished=finished)

    def force_unlock(self) -> LockRecord | None:
        """Release whatever lock stands there, by an operator's say-so.

        Whoever held it is fenced by the epoch of the next owner. A lock object that cannot be read
        is replaced by a released one.

        Returns:
            The lock that was released, if it had an owner and could be read.

        Raises:
            VersionConflictException: The lock changed meanwhile: look again.
            SealedObjectException: It is sealed with another key than those given; nothing was changed.
        """
        try:
            stored = self.task_io.read(self.obj_name)
        except PersistenceDataNotFoundException:
            return None
        try:
            record = LockRecord.decode(stored.data, self._url)
        except SealedObjectException:
            raise
        except CorruptObjectException:
            _log.warning("%s could not be read; it is replaced", self._url)
            self._swap(released(self._new_record(epoch=0)), stored.version)
            return None
        if record.owner is None:
            return None
        self._swap(released(record), stored.version)
        return record

    def _acquire_once(self, ended_by: int | None) -> None:
        # Not held while waiting: the thread that has the lock must be able to release it.
        with self._thread_lock:
            if self._is_locked and os.getpid() == self._pid:
                raise BindException(f"{self._url} is already held by this object; release it first")
            is_fresh = False
            while True:
                seen = self._seen
                is_left = seen is not None and ended_by is not None and seen.record.epoch <= ended_by
                reason = seen and ("its task is finished" if is_left else self._watch.reason_to_take(seen))
                if seen is None or reason:
                    try:
                        self._take(seen)
                    except VersionConflictException:
                        _log.debug("%s changed meanwhile; looking again", self._url)
                    else:
                        if seen and seen.record.owner:
                            _log.warning(
                                "took over %s from %s: %s", self._url, seen.record.describe_holder(), reason
                            )
                        return
                elif is_fresh:
                    raise BindException(_describe_wait(self._url, seen.record))
                self.observe()
                is_fresh = True

    def _take(self, seen: Sighting | None) -> None:
        expect: Expect = seen.version if seen else ABSENT
        record = self._new_record(
            epoch=max(self._min_epoch, seen.record.epoch + 1 if seen else 1),
            in_flight=seen is not None and seen.record.in_flight,
        )
        sent = self._clock.monotonic()
        try:
            version = self._swap(record, expect)
        except VersionConflictException:
            raise
        except BaseException:
            self._abandon(record, expect)
            raise
        self._held = HeldLock(
            self.task_io,
            self.obj_name,
            record,
            version,
            sent=sent,
            clock=self._clock,
            after_renewal=self._after_renewal,
        )
        self._replaced_holder = seen is not None and seen.record.owner is not None
        self._seen = None
        self.owner, self.epoch = record.owner, record.epoch
        self._is_locked, self._pid = True, os.getpid()

    def _abandon(self, record: LockRecord, expect: Expect) -> None:
        """Fill the slot with a released lock, so that nothing of a given-up acquire comes alive late."""
        try:
            try:
                self._swap(released(record), expect)
            except VersionConflictException:
                found = read_lock_version(self.task_io, self.obj_name)
                if found and found[1].write_id == record.write_id:
                    self._swap(released(record), found[0])
        except (TaskEngineException, OSError) as exc:
            _log.warning(
                "could not make sure that %s stays free: %s. If it turns out to be held by this process, "
                "release it with `checkmate unlock`",
                self._url,
                exc,
            )

    def _swap(self, record: LockRecord, expect: Expect) -> Version:
        return self._writer.write(self.obj_name, record.encode(), record.write_id, expect=expect)

    def _new_record(self, epoch: int, *, in_flight: bool = False) -> LockRecord:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return LockRecord(
            owner=uuid4().hex,
            epoch=epoch,
            lease_s=self.lease,
            in_flight=in_flight,
            **ProcessIdentity.current().model_dump(),
            acquired_at=now,
            renewed_at=now,
        )


def _describe_wait(url: str, record: LockRecord) -> str:
    fix = (
        "if that process is surely gone, release it with `checkmate unlock`"
        if record.lease_s is None
        else f"if that process is gone, the lock is free once it has been silent for {record.lease_s:g} s, or at once "
        "by `checkmate unlock`"
    )
    return f"{url} is held by {record.describe_holder()}. Wait for it (bind_lock_timeout=…); {fix}"


def _until(
    deadline: float, clock: Clock, wait: Callable[[RetryCallState], float]
) -> Callable[[RetryCallState], float]:
    """Wait as ``wait`` says, but not past the deadline."""
    return lambda state: max(0.0, min(wait(state), deadline - clock.monotonic()))
