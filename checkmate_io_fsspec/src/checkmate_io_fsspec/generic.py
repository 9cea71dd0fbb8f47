"""Any other fsspec URL: `sftp://`, `hdfs://`, `smb://`, `http(s)://`, archives, chains."""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
)
from checkmate_core.io.names import check_prefix
from checkmate_core.io.url import parse_store_url
from checkmate_core.types import ANY, Capability, Expect, ObjectInfo, RemoveExpect, StoredObject, Version
from checkmate_io_fsspec._connections import MOST, Connections
from checkmate_io_fsspec._filesystems import Write
from checkmate_io_fsspec._objects import (
    in_folder,
    in_words,
    is_answer,
    is_missing,
    kind,
    listing,
    modified,
    place_in_transaction,
)
from checkmate_io_fsspec._opening import Place
from checkmate_io_fsspec._private import PRIVATE_FOLDER, check_name, is_addressable

T = TypeVar("T")


class FsspecTaskIO:
    """Objects on any fsspec filesystem, without conditional writes.

    No fsspec filesystem offers an exclusive create of whole objects and a compare-and-swap, so a lock
    is refused here; with ``no_lock=True`` tasks are created, executed and resumed. A version is the
    SHA-256 of the content. Nothing is answered from a cache. Filesystems are connected at the first
    request, at most four for each store, and anew in a forked child.

    Attributes:
        base_url: The URL that objects live under.
    """

    url_options: ClassVar[frozenset[str] | None] = None
    capabilities: frozenset[Capability] = frozenset()
    probe_scope: str | None = None

    def __init__(self, location: str, **options: Any) -> None:
        self._place = Place(location, options)
        self.base_url = location.rstrip("/")
        self._connections = Connections(self._place.connect, self._place.disconnect)

    @classmethod
    def from_base_url(cls, base_url: str, **storage_options: Any) -> "FsspecTaskIO":
        """Open any URL that fsspec knows. Makes no request.

        Args:
            base_url: ``scheme://host/folder``, or a chain such as ``zip://folder::sftp://host/x.zip``.
            **storage_options: The filesystem's own. Those of the other links of a chain stand under
                their schemes.

        Raises:
            UnsupportedBackendException: fsspec does not know the scheme, needs a package for it, or no
                store can be there.
        """
        url = parse_store_url(base_url)
        return cls(url.location, **url.options, **storage_options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_connections"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connections = Connections(self._place.connect, self._place.disconnect)

    @property
    def no_locks_because(self) -> str:
        """Why `capabilities` lacks what a lock is made of."""
        if self._place.traits.write is Write.REFUSED:
            return f"{self._place.scheme}:// is read-only here ({self._place.traits.reason})"
        return f"fsspec has no exclusive create and no compare-and-swap for {self._place.scheme}://"

    def build_url(self, obj_name: str) -> str:
        return f"{self.base_url}/{self._place.traits.escape(check_name(obj_name))}"

    def exists(self, obj_name: str) -> bool:
        path = self._path(obj_name)

        def look(filesystem: Any) -> bool:
            if not self._place.traits.tells_folders:
                with suppress(FileNotFoundError):
                    filesystem.cat_file(path)
                    return True
                return False
            return kind(filesystem, path) not in (None, "directory")

        return self._run("look for", self.build_url(obj_name), look)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        folder, _, stem = prefix.rpartition("/")
        return self._walk(f"{folder}/" if folder else "", stem)

    def read(self, obj_name: str) -> StoredObject:
        path = self._path(obj_name)
        url = self.build_url(obj_name)

        def load(filesystem: Any) -> bytes:
            try:
                data: bytes = filesystem.cat_file(path)
            except OSError as exc:
                # Servers have as many words for "this is a folder" as for "there is nothing".
                if is_missing(exc) or (
                    self._place.traits.tells_folders and kind(filesystem, path) in (None, "directory")
                ):
                    raise PersistenceDataNotFoundException(f"there is no object {url}") from exc
                raise
            return data

        data = self._run("read", url, load)
        return StoredObject(data, _digest(data), None)

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        names = [check_name(name) for name in dict.fromkeys(obj_names)]

        def read(name: str) -> StoredObject | None:
            with suppress(PersistenceDataNotFoundException):
                return self.read(name)
            return None

        if len(names) < 2:
            found = [read(name) for name in names]
        else:
            with ThreadPoolExecutor(min(MOST, len(names))) as readers:
                found = list(readers.map(read, names))
        return {name: stored for name, stored in zip(names, found, strict=True) if stored is not None}

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        path = self._path(obj_name)
        url = self.build_url(obj_name)
        self._check_may_change("write", url, expect)
        body = bytes(data)
        self._run("write", url, lambda filesystem: self._put(filesystem, path, body))
        return _digest(body)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        path = self._path(obj_name)
        url = self.build_url(obj_name)
        self._check_may_change("remove", url, expect)

        def discard(filesystem: Any) -> None:
            if kind(filesystem, path) in (None, "directory"):
                return
            try:
                filesystem.rm_file(path)
            except OSError as exc:
                if not is_missing(exc) and kind(filesystem, path) is not None:
                    raise

        self._run("remove", url, discard)

    def _path(self, obj_name: str) -> str:
        return self._below(self._place.traits.escape(check_name(obj_name)))

    def _below(self, path: str) -> str:
        return f"{self._place.root}/{path}" if self._place.root else path

    def _check_may_change(self, what: str, url: str, expect: Expect) -> None:
        if self._place.traits.write is Write.REFUSED:
            raise UnsupportedBackendException(
                f"cannot {what} {url}: {self._place.scheme}:// is read-only here ({self._place.traits.reason}). Look at its "
                "tasks with TaskStore or `checkmate ls`; execute them in another store"
            )
        if expect is not ANY:
            raise UnsupportedBackendException(
                f"cannot {what} {url} on a condition: {self.no_locks_because}. Nothing was sent"
            )

    def _put(self, filesystem: Any, path: str, body: bytes) -> None:
        write = self._place.traits.write
        if write is Write.IN_PLACE:
            in_folder(filesystem, path, lambda: filesystem.pipe_file(path, body))
        elif write is Write.COMMITTED:
            in_folder(filesystem, path, lambda: place_in_transaction(filesystem, path, body))
        else:
            temp = self._below(f"{PRIVATE_FOLDER}/{secrets.token_hex(16)}")
            in_folder(filesystem, temp, lambda: filesystem.pipe_file(temp, body))
            try:
                in_folder(filesystem, path, lambda: filesystem.mv(temp, path))
            except BaseException:
                with suppress(Exception):
                    filesystem.rm_file(temp)
                raise

    def _walk(self, folder: str, stem: str) -> Iterator[ObjectInfo]:
        path = self._below(self._place.traits.escape(folder)).removesuffix("/")
        entries = self._run(
            "list",
            f"{self.base_url}/{folder}".removesuffix("/"),
            lambda filesystem: self._entries(filesystem, path),
        )
        for name, entry in entries.items():
            obj_name = folder + name
            if not name.startswith(stem) or not is_addressable(obj_name):
                continue
            if entry["type"] == "directory":
                yield from self._walk(f"{obj_name}/", "")
            else:
                yield ObjectInfo(obj_name, None, entry["size"] or 0, modified(entry))

    def _entries(self, filesystem: Any, path: str) -> dict[str, dict[str, Any]]:
        """What stands in a folder, by name; nothing where there is no such folder."""
        start = f"{path}/".lstrip("/") if path else ""
        entries = {}
        for entry in listing(filesystem, path, tells_folders=self._place.traits.tells_folders):
            name = entry["name"].lstrip("/").removesuffix("/")
            # Asked for a file, some list the file; a web page links to other pages, too.
            if name.startswith(start) and "/" not in name[len(start) :]:
                entries[self._place.traits.unescape(name[len(start) :])] = entry
        return entries

    def _run(self, what: str, url: str, call: Callable[[Any], T]) -> T:
        """Call with a filesystem; no exception but the core's leaves it.

        Where an old connection turns out to be dead, it is done once more on a new one: every write
        and remove here is unconditional, so that doing it twice is as good as once.
        """
        is_fresh = True
        for is_last in (False, True):
            try:
                with self._connections.borrow(is_answer) as lent:
                    is_fresh = lent.is_fresh
                    return call(lent.filesystem)
            except TaskIOException:
                raise
            except Exception as exc:
                if is_fresh or is_last or is_answer(exc):
                    raise self._failure(exc, what, url) from exc
        raise AssertionError("unreachable")

    def _failure(self, exc: Exception, what: str, url: str) -> TaskIOException:
        if is_missing(exc) and what == "read":
            return PersistenceDataNotFoundException(f"there is no object {url}")
        if isinstance(exc, NotImplementedError):
            return UnsupportedBackendException(
                f"cannot {what} {url}: fsspec's {self._place.scheme} filesystem does not do that. Use another store"
            )
        if isinstance(exc, PermissionError):
            return StorageUnavailableException(
                f"cannot {what} {url}: the server refuses it ({in_words(exc)}). Give the account that is used there "
                f"the right to {what} it, and to list, enter and write its folders; or use another base URL"
            )
        return StorageUnavailableException(
            f"cannot {what} {url}: {in_words(exc)}. Check the address, the credentials, the network and the server."
        )


def _digest(data: bytes) -> Version:
    return Version(hashlib.sha256(data).hexdigest())
