"""What backends on fsspec's async filesystems share: the client's life, URLs, concurrency, errors."""

import asyncio
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

from fsspec.asyn import reset_lock

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
)
from checkmate_core.io.names import check_object_name, check_prefix
from checkmate_core.io.url import parse_store_url
from checkmate_core.types import (
    ANY,
    Capability,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)
from checkmate_io_fsspec._event_loop import run_in

T = TypeVar("T")
Call = Callable[..., Coroutine[Any, Any, T]]

_instances: "weakref.WeakSet[RemoteTaskIO]" = weakref.WeakSet()
# Clients that a forked child inherited. Their sockets and event loop are the parent's, so that they
# can neither be used nor closed here, and collecting them would try to.
_inherited: list[object] = []


def _forget_inherited_clients() -> None:
    # Older fsspec has no such hook of its own, and the child would wait for the parent's loop; the newer
    # one's leaves out the lock, which another thread may have held.
    reset_lock()
    for instance in list(_instances):
        instance._forget_inherited_client()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited_clients)


class RemoteTaskIO(ABC):
    """Base of backends that reach their store through an fsspec async filesystem.

    A subclass makes the filesystem and implements one coroutine per operation, each of one request.
    They run in fsspec's own event loop thread, so that callers may be in any thread, or in one with
    a running event loop.

    Attributes:
        base_url: The URL that objects live under, without query and trailing slash.
        bucket: The bucket or container.
        prefix: What is put before object names to make keys: empty, or with a slash at its end.
    """

    scheme: ClassVar[str]
    url_options: ClassVar[frozenset[str]]
    known_options: ClassVar[frozenset[str]]
    """All options, those of the URL included."""
    capabilities: frozenset[Capability] = frozenset(Capability)
    read_concurrency: ClassVar[int] = 32
    """How many requests `read_many` has under way."""

    def __init__(self, bucket: str, path: str = "", **options: Any) -> None:
        self.bucket = bucket
        self.prefix = f"{path}/" if path else ""
        self.base_url = f"{self.scheme}://{bucket}/{path}".rstrip("/")
        self._options = options
        self._start()

    @classmethod
    def from_base_url(cls, base_url: str, **storage_options: Any) -> Self:
        """Open ``scheme://bucket/path`` without making a request.

        Raises:
            UnsupportedBackendException: The URL names no bucket or no usable path, or an option is
                unknown or of the wrong kind.
        """
        url = parse_store_url(base_url)
        options = {**url.options, **storage_options}
        unknown = (url.options.keys() - cls.url_options) | (options.keys() - cls.known_options)
        if unknown:
            raise UnsupportedBackendException(
                f"{url.location} does not take the option {min(unknown)!r} "
                f"(in the URL: {', '.join(sorted(cls.url_options))}; "
                f"as keywords also: {', '.join(sorted(cls.known_options - cls.url_options))})"
            )
        bucket, _, path = url.location.removeprefix(f"{cls.scheme}://").partition("/")
        path = path.removesuffix("/")
        try:
            cls._check_location(bucket)
            if path:
                check_object_name(path)
        except TaskIOException as exc:
            raise UnsupportedBackendException(
                f"{url.location} is no place to store in ({exc}): write {cls.scheme}://BUCKET/PATH"
            ) from exc
        return cls(bucket, path, **options)

    @classmethod
    def _check_location(cls, bucket: str) -> None:
        """Refuse a bucket name that no bucket can have."""
        if not bucket:
            raise UnsupportedBackendException("it names no bucket")

    @abstractmethod
    def _make_filesystem(self) -> Any:
        """A new, connected fsspec filesystem. May be slow; is called once per process."""

    @abstractmethod
    async def _foreign_endpoint(self, filesystem: Any) -> str | None:
        """Where requests go to; None where that is the provider's own service. Makes no request."""

    @abstractmethod
    async def _exists(self, filesystem: Any, key: str) -> bool: ...

    @abstractmethod
    async def _read(self, filesystem: Any, key: str) -> StoredObject: ...

    @abstractmethod
    async def _write(self, filesystem: Any, key: str, data: bytes, expect: Expect) -> Version: ...

    @abstractmethod
    async def _remove(self, filesystem: Any, key: str, expect: RemoveExpect) -> None: ...

    @abstractmethod
    async def _list_page(
        self, filesystem: Any, prefix: str, token: str | None
    ) -> tuple[list[ObjectInfo], str | None]:
        """One page of at most 1000 entries, with keys for names, and the token of the next page."""

    def _failure(self, exc: Exception, what: str, url: str, expect: Expect) -> TaskIOException:
        """The error of the core that ``exc`` means; subclasses read their service's answers first."""
        detail = type(exc).__name__
        if isinstance(exc, asyncio.TimeoutError | TimeoutError):
            detail = "no answer in time"
        return StorageUnavailableException(
            f"cannot {what} {url}: {detail}. Check the network, the endpoint and the service's status."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    @property
    def probe_scope(self) -> str | None:
        endpoint = self._guard("open", self.base_url, ANY, self._foreign_endpoint)
        if endpoint is None:
            return None
        parts = urlsplit(endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path} {self.bucket}"

    def build_url(self, obj_name: str) -> str:
        return f"{self.base_url}/{check_object_name(obj_name)}"

    def exists(self, obj_name: str) -> bool:
        return self._run("look for", obj_name, ANY, self._exists, self._key(obj_name))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        return self._pages(self.prefix + prefix)

    def read(self, obj_name: str) -> StoredObject:
        return self._run("read", obj_name, ANY, self._read, self._key(obj_name))

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        keys = {name: self._key(name) for name in obj_names}
        return self._guard("read", self.base_url, ANY, self._read_all, keys) if keys else {}

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return self._run("write", obj_name, expect, self._write, self._key(obj_name), bytes(data), expect)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self._run("remove", obj_name, expect, self._remove, self._key(obj_name), expect)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_filesystem", "_connecting")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def _start(self) -> None:
        self._filesystem: Any = None
        self._connecting = threading.Lock()
        _instances.add(self)

    def _forget_inherited_client(self) -> None:
        if self._filesystem is not None:
            _inherited.append(self._filesystem)
        self._filesystem = None
        self._connecting = threading.Lock()

    def _key(self, obj_name: str) -> str:
        return self.prefix + check_object_name(obj_name)

    def _connected(self) -> Any:
        filesystem = self._filesystem
        if filesystem is None:
            with self._connecting:
                if self._filesystem is None:
                    self._filesystem = self._make_filesystem()
                filesystem = self._filesystem
        return filesystem

    def _run(self, what: str, obj_name: str, expect: Expect, call: Call[T], *args: Any) -> T:
        return self._guard(what, f"{self.base_url}/{obj_name}", expect, call, *args)

    def _guard(self, what: str, url: str, expect: Expect, call: Call[T], *args: Any) -> T:
        """Run a coroutine in fsspec's loop; no exception but the core's leaves it."""
        try:
            filesystem = self._connected()
            result = run_in(filesystem.loop, call, filesystem, *args)
        except TaskIOException:
            raise
        except Exception as exc:
            raise self._failure(exc, what, url, expect) from exc
        return result

    async def _read_all(self, filesystem: Any, keys: dict[str, str]) -> dict[str, StoredObject]:
        gate = asyncio.Semaphore(self.read_concurrency)

        async def read(name: str) -> tuple[str, StoredObject | None]:
            async with gate:
                try:
                    return name, await self._read(filesystem, keys[name])
                except PersistenceDataNotFoundException:
                    return name, None
                except TaskIOException:
                    raise
                except Exception as exc:
                    failure = self._failure(exc, "read", f"{self.base_url}/{name}", ANY)
                    if isinstance(failure, PersistenceDataNotFoundException):
                        return name, None
                    raise failure from exc

        # Each task ends before the call does: with gather alone, a failure leaves the others running.
        tasks = [asyncio.ensure_future(read(name)) for name in keys]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return {name: stored for name, stored in found if stored is not None}

    def _pages(self, prefix: str) -> Iterator[ObjectInfo]:
        token: str | None = None
        while True:
            page, token = self._guard("list", self.base_url, ANY, self._list_page, prefix, token)
            for info in page:
                name = info.name.removeprefix(self.prefix)
                if _is_addressable(name):
                    yield ObjectInfo(name, info.version, info.size, info.modified)
            if token is None:
                return


def _is_addressable(name: str) -> bool:
    # Consoles and other tools leave keys such as "folder/", which are no objects of ours.
    try:
        check_object_name(name)
    except TaskIOException:
        return False
    return True
