"""TaskIO: the only thing the engine knows of storage."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from checkmate_core.types import (
    ANY,
    Capability,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)


@runtime_checkable
class TaskIO(Protocol):
    """A flat store of named byte strings below one base URL, with conditional writes.

    Synchronous, and safe to call from many threads and after a fork. Every name passes
    `check_object_name` before a request is made. ``read``, ``write``, ``remove`` and ``exists``
    cost one request each; retries of failed requests are the SDK's or the caller's business.

    No exception of an SDK escapes: a failed precondition is `VersionConflictException`, a missing
    object `PersistenceDataNotFoundException`, anything else of the store another
    `TaskIOException`, always with the cause chained and never with a credential in the message.
    """

    @property
    def base_url(self) -> str:
        """The URL that objects live under, without query, credentials or trailing slash."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this store does atomically.

        A store that lacks CREATE or SWAP can hold no lock. Where it can say why, in words that end a
        sentence, it has them in an attribute ``no_locks_because``, and whoever asks for a lock reads them.
        One that lacks REMOVE_IF alone holds locks as well. Where it can be opened without it, an attribute
        ``without_remove_if`` says how, for whoever finds that the condition of a removal is ignored.
        """
        ...

    @property
    def probe_scope(self) -> str | None:
        """What a probe of this store's conditional writes speaks for: endpoint and bucket.

        None where the store is known to honour them (memory, local files, a provider's own
        endpoint), so that no probe is made. Safe to print: no credentials. Makes no request.

        Raises:
            StorageUnavailableException: The client cannot be made, for example without credentials.
        """
        ...

    def build_url(self, obj_name: str) -> str:
        """The URL of one object, without query and credentials."""
        ...

    def exists(self, obj_name: str) -> bool:
        """Whether the object exists now. Never answered from a cache."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose name starts with ``prefix``, each once, in no promised order.

        The prefix is plain text and need not end at a slash. A request is made per 1000 names.
        """
        ...

    def read(self, obj_name: str) -> StoredObject:
        """The whole object with the version of exactly these bytes.

        Raises:
            PersistenceDataNotFoundException: There is no such object.
        """
        ...

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        """Several objects, read concurrently; missing ones are left out."""
        ...

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        """Write the whole object if ``expect`` holds, and return its new version.

        The version comes from the write's own answer, so it is never another writer's. Readers see
        the old bytes or the new ones, nothing between. Acknowledged means durable.

        Args:
            obj_name: Name below the base URL.
            data: The whole body.
            expect: ``ANY``, ``ABSENT``, or the exact version that is to be replaced.

        Raises:
            VersionConflictException: The expectation does not hold; nothing was written by this
                request (though an earlier, unanswered one of the same writer may have been).
            StorageUnavailableException: It is not known whether the write was applied.
        """
        ...

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        """Remove the object if ``expect`` holds.

        With ``ANY`` a missing object is no error; with a version it is a failed precondition.

        Raises:
            VersionConflictException: The object is gone or has another version.
        """
        ...
