"""Compare-and-swap that survives a lost response.

A conditional write whose answer is lost and which is then sent again (by us, or by an SDK behind
our back) meets its own first copy and is told "conflict". So no conflict is believed before the
object was read back: its body holds the ``write_id`` of whoever wrote it. The failure and the cure
are told in icechunk's design document 017, "conditional put, lost response".
"""

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.stop import stop_after_attempt
from tenacity.wait import wait_random_exponential

from checkmate_core.clock import SYSTEM_CLOCK, Clock
from checkmate_core.errors import (
    CorruptObjectException,
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.types import ABSENT, Expect, RemoveExpect, StoredObject, Version

T = TypeVar("T")

_RESENDS = 4
_log = logging.getLogger(__name__)


class CasWriter:
    """Conditional writes and removes of one owner, each resolved to "applied" or "conflict".

    Sending the same bytes again under the same precondition is always safe: either the first copy
    was applied, and the second meets it and recognises it, or it was not.
    """

    def __init__(self, io: TaskIO, clock: Clock = SYSTEM_CLOCK) -> None:
        self._io = io
        self._retrying = Retrying(
            retry=retry_if_exception_type(StorageUnavailableException),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            stop=stop_after_attempt(_RESENDS),
            sleep=clock.sleep,
            before_sleep=_log_retry,
            reraise=True,
        )

    def write(self, obj_name: str, data: bytes, write_id: str, *, expect: Expect) -> Version:
        """Write ``data``, whose body holds ``write_id``, if ``expect`` holds.

        Raises:
            VersionConflictException: Another write stands there, somebody else's or an earlier one of
                this owner that had been given up. This one was not applied.
            CorruptObjectException: What stands there cannot be read, so whose it is cannot be told.
            StorageUnavailableException: The store did not answer for good; ours may have been
                applied, or may yet be.
        """
        return self._resolve(partial(self._write_once, obj_name, data, write_id, expect))

    def remove(self, obj_name: str, version: RemoveExpect) -> bool:
        """Remove the object if it still has ``version``; otherwise it is gone or another's, which will do.

        With ``ANY`` it is removed whatever it is.

        Returns:
            False where it was gone or another's already (or an unanswered request of ours had removed it).

        Raises:
            StorageUnavailableException: The store did not answer for good.
        """

        def once() -> bool:
            try:
                self._io.remove(obj_name, expect=version)
            except VersionConflictException:
                return False
            return True

        return self._resolve(once)

    def _resolve(self, once: Callable[[], T]) -> T:
        try:
            return once()
        except StorageUnavailableException as exc:
            # Sent again at once: most often a connection was merely dropped. And a request that is
            # answered, as nearly all are, pays nothing for the machinery of retries.
            _log.warning("storage request failed, sending it again: %s", exc)
        return self._retrying(once)

    def _write_once(self, obj_name: str, data: bytes, write_id: str, expect: Expect) -> Version:
        try:
            return self._io.write(obj_name, data, expect=expect)
        except VersionConflictException as conflict:
            try:
                found = self._io.read(obj_name)
            except PersistenceDataNotFoundException as exc:
                if expect is not ABSENT:
                    raise conflict from exc
                raise StorageUnavailableException(
                    f"{self._io.build_url(obj_name)} was refused as existing, then was not there; sending again"
                ) from conflict
            if self._write_id_of(found, obj_name) == write_id:
                return found.version
            raise

    def _write_id_of(self, found: StoredObject, obj_name: str) -> str:
        try:
            return str(json.loads(found.data)["write_id"])
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise CorruptObjectException(
                f"{self._io.build_url(obj_name)} cannot be read, so it cannot be told whose write stands "
                "there. Nothing was changed. Look at it, restore or remove it, then try again"
            ) from exc


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.warning("storage request failed again (resend %d): %s", state.attempt_number, error)
