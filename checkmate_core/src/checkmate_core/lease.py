"""One acquisition of a lock, from the swap that took it to the one that gives it back.

A lease is the promise to be heard of in time: whoever is silent for longer may be replaced. The
holder counts from the moment at which it sent its last good renewal, and stops a margin early, so
that it knows of its end before anybody else acts on it. That is for liveness and good manners
alone: what keeps a holder harmless that does not notice is the fence (see `TaskJournal`).
"""

import logging
import math
import random
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from checkmate_core.clock import Clock
from checkmate_core.errors import (
    LockLostException,
    TaskEngineException,
    TaskIOException,
    VersionConflictException,
)
from checkmate_core.io.cas import CasWriter
from checkmate_core.io.protocol import TaskIO
from checkmate_core.lock_record import LockRecord, read_lock_version, released, renewed
from checkmate_core.types import Capability, Version

DEFAULT_LEASE: Final = 60.0
"""Seconds."""

MARGIN: Final = 0.1
"""Part of a lease by which its holder gives up earlier than others may take over."""

_log = logging.getLogger(__name__)


class HeldLock:
    """A lock that was acquired, and that renews itself in the background until it is released or lost.

    Lost is final: a lease that ran out is never taken for a held one again, even if nobody took it.
    Thread-safe. Renewal ends with the process, at interpreter exit, in a forked child, and when the
    last reference to this is gone.

    Attributes:
        record: The lock as it was last known to be stored.
    """

    def __init__(
        self,
        task_io: TaskIO,
        obj_name: str,
        record: LockRecord,
        version: Version,
        *,
        sent: float,
        clock: Clock,
        after_renewal: Callable[[], None],
    ) -> None:
        """Begin to renew.

        Args:
            task_io: The store.
            obj_name: The lock object.
            record: What was written at the acquisition.
            version: Its version.
            sent: When that write was sent, by ``clock``.
            clock: Where time comes from.
            after_renewal: Called after each renewal.
        """
        self.record = record
        self._task_io = task_io
        self._obj_name = obj_name
        self._url = task_io.build_url(obj_name)
        self._clock = clock
        self._after_renewal = after_renewal
        self._writer = CasWriter(task_io, clock)
        self._lease = record.lease_s
        # No mutex guards these: each is set whole, a loss is never unset, and whoever is misled about
        # the version meets a conflict and reads it. So nothing has to be repaired in a forked child.
        self._version = version
        self._sent = sent
        self._lost: str | None = None
        self._is_replaced = False
        self._is_released = False
        self._end_renewal: Callable[[], None] = lambda: None
        if self._lease is not None:
            # Weak, so that the renewal of a lock that its owner forgot ends with it.
            tick = weakref.WeakMethod(self._tick)

            def renew() -> float | None:
                method = tick()
                return method() if method else None

            self._end_renewal = clock.repeat(renew, self._pause(3), f"checkmate renews {obj_name}")

    @property
    def lost(self) -> str | None:
        """Why the lock is not held any more, in words; None while it is."""
        if self._lost is None and self._lease is not None and not self._is_released:
            silent = self._clock.monotonic() - self._sent
            if silent > self._lease * (1 - MARGIN):
                self._lost = (
                    f"it was last renewed {silent:.1f} s ago and its lease is {self._lease:g} s (this process was "
                    "paused, or the store could not be reached)"
                )
        return self._lost

    def check(self) -> None:
        """Raise if the lock is lost.

        Raises:
            LockLostException: It is.
        """
        lost = self.lost
        if lost:
            raise LockLostException(
                f"the lock {self._url} is lost: {lost}. This worker writes nothing more; stop it, or bind the "
                "task again"
            )

    def release(self, *, finished: bool) -> None:
        """Give the lock back; once.

        Args:
            finished: Remove the object where the store can do so conditionally.

        Raises:
            StorageUnavailableException: The store did not answer for good; the lock may still be
                held. Not raised where it is lost: then others need not wait for its release.
        """
        lost = self.lost
        self._end_renewal()
        self._is_released = True
        if self._is_replaced:
            return
        try:
            self._give_back_whatever_version(finished=finished)
        except TaskIOException as exc:
            # It would hide why the lock is lost: most often, that the store cannot be reached.
            if not lost:
                raise
            _log.warning("could not release %s, which is lost anyway: %s", self._url, exc)

    def _give_back_whatever_version(self, *, finished: bool) -> None:
        version = self._version
        while not self._give_back(version, finished=finished):
            # Nobody else writes under our identity: what stands there is a renewal that was under
            # way, or had been given up and arrived after all, and there are only so many of them.
            found = read_lock_version(self._task_io, self._obj_name)
            if found is None or found[1].owner != self.record.owner:
                if found or not finished:
                    _log.warning("%s is not ours any more; there was nothing left to release", self._url)
                return
            version = found[0]

    def _give_back(self, version: Version, *, finished: bool) -> bool:
        if finished and Capability.REMOVE_IF in self._task_io.capabilities:
            return self._writer.remove(self._obj_name, version)
        record = released(self.record, finished=finished)
        try:
            self._writer.write(self._obj_name, record.encode(), record.write_id, expect=version)
        except VersionConflictException:
            return False
        return True

    def _tick(self) -> float | None:
        try:
            pause = self._renew()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the lease decides how long to try
            if not self._is_released:
                _log.warning("could not renew %s, trying again: %s", self._url, exc)
            return self._pause(12)
        if pause is not None:
            try:
                self._after_renewal()
            except Exception as exc:  # noqa: BLE001 - it is tried again at the next renewal
                _log.warning("could not look for what others want of %s: %s", self._url, exc)
        return pause

    def _renew(self) -> float | None:
        sent = self._clock.monotonic()
        if self._is_released or self.lost:
            return None
        record = renewed(self.record, datetime.fromtimestamp(self._clock.now(), UTC))
        try:
            version = self._writer.write(
                self._obj_name, record.encode(), record.write_id, expect=self._version
            )
        except VersionConflictException:
            # An earlier renewal, given up without an answer, may have arrived. When it was sent is not
            # known any more, so it does not prolong the lease: the next one does.
            found = read_lock_version(self._task_io, self._obj_name)
            if found is None or found[1].owner != record.owner:
                self._lose_to(found[1] if found else None)
                return None
            self._version = found[0]
            return self._pause(12)
        self.record, self._version, self._sent = record, version, sent
        return self._pause(3)

    def _lose_to(self, found: LockRecord | None) -> None:
        if self._is_released:
            return
        self._is_replaced = True
        if found is None:
            self._lost = "its object was removed"
        elif found.owner is None:
            self._lost = "somebody else released it"
        else:
            self._lost = f"{found.describe_holder()} has it now"
        _log.warning("lost %s: %s", self._url, self._lost)

    def _pause(self, part: int) -> float:
        """Seconds: so small a part of the lease, less some jitter, so that many do not renew in step."""
        assert self._lease is not None  # noqa: S101 - nothing is renewed without one
        return self._lease / part * random.uniform(0.8, 1.0)  # noqa: S311 - keeps no secret


def check_lease(lease: float | None) -> None:
    """Refuse what is no lease.

    Raises:
        TaskEngineException: It is neither None nor a number of seconds above 0.
    """
    if lease is None:
        return
    if isinstance(lease, bool) or not isinstance(lease, int | float) or not 0 < lease < math.inf:
        raise TaskEngineException(
            f"lease is {lease!r}; it must be a number of seconds above 0, or None for a lock that is held until "
            "it is released"
        )
