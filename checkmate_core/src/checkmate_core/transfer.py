"""Single objects from one store to another: asked for persistently, and read back once written."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.stop import stop_after_attempt
from tenacity.wait import wait_random_exponential

from checkmate_core.errors import (
    CorruptObjectException,
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.types import ABSENT, ANY, Capability, Expect, ObjectInfo, StoredObject

T = TypeVar("T")

# What is held in memory at once, unless a single object is larger.
_BATCH_OBJECTS: Final = 64
_BATCH_BYTES: Final = 16 * 1024 * 1024
_ATTEMPTS: Final = 4

_log = logging.getLogger(__name__)


def persistently(request: Callable[[], T]) -> T:
    """Make a request, and make it again if the store could not be reached.

    Raises:
        TaskIOException: What the last attempt raised.
    """
    return Retrying(
        retry=retry_if_exception_type(StorageUnavailableException),
        wait=wait_random_exponential(multiplier=0.1, max=2.0),
        stop=stop_after_attempt(_ATTEMPTS),
        before_sleep=_log_retry,
        reraise=True,
    )(request)


def list_all(io: TaskIO, prefix: str) -> dict[str, ObjectInfo]:
    """Every object below a prefix, by its name."""
    return persistently(lambda: {info.name: info for info in io.list(prefix)})


def read_all(io: TaskIO, names: Iterable[str]) -> dict[str, StoredObject]:
    """Several objects at once; missing ones are left out."""
    return persistently(partial(io.read_many, sorted(names)))


def read_in_batches(io: TaskIO, infos: Mapping[str, ObjectInfo]) -> Iterator[dict[str, StoredObject]]:
    """Objects of any size, so many at once as fit the memory that is set aside for them."""
    batch: list[str] = []
    size = 0
    for name in sorted(infos):
        if batch and (len(batch) == _BATCH_OBJECTS or size + infos[name].size > _BATCH_BYTES):
            yield read_all(io, batch)
            batch, size = [], 0
        batch.append(name)
        size += infos[name].size
    if batch:
        yield read_all(io, batch)


def put_verified(io: TaskIO, obj_name: str, data: bytes, found: StoredObject | None) -> None:
    """Write an object over what was found there, read it back, and compare the digests.

    A conflict alone is not believed: a write whose answer was lost meets itself when it is sent
    again. What stands there decides.

    Args:
        io: The store.
        obj_name: The object.
        data: Its body.
        found: What stands there as far as is known; None for nothing.

    Raises:
        CorruptObjectException: The store does not give back what was written.
        VersionConflictException: Somebody else wrote there meanwhile; nothing was written.
        StorageUnavailableException: The store did not answer for good.
    """
    expect = _expectation(io, found)
    wanted = digest(data)

    def once() -> None:
        conflict: VersionConflictException | None = None
        try:
            io.write(obj_name, data, expect=expect)
        except VersionConflictException as exc:
            conflict = exc
        try:
            stored = digest(io.read(obj_name).data)
        except PersistenceDataNotFoundException as exc:
            raise (conflict or _corrupt(io, obj_name, "is not there")) from exc
        if stored != wanted:
            raise conflict or _corrupt(io, obj_name, f"has the SHA-256 {stored}, not {wanted},")

    persistently(once)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return sha256(data).hexdigest()


def _expectation(io: TaskIO, found: StoredObject | None) -> Expect:
    if found is None:
        return ABSENT if Capability.CREATE in io.capabilities else ANY
    return found.version if Capability.SWAP in io.capabilities else ANY


def _corrupt(io: TaskIO, obj_name: str, fault: str) -> CorruptObjectException:
    return CorruptObjectException(
        f"{io.build_url(obj_name)} {fault} after it was written: the store does not keep what it is given. "
        "Find out what changes objects on their way, remove it there, then copy again"
    )


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.warning("storage request failed, trying again: %s", error)
