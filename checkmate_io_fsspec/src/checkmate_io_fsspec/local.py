"""`file://`: objects as files below one folder."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from checkmate_core.clock import SYSTEM_CLOCK
from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.names import check_prefix
from checkmate_core.types import (
    ABSENT,
    ANY,
    Capability,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)
from checkmate_io_fsspec._durable import DirectorySync, discard, remove_empty, sweep, write_temp
from checkmate_io_fsspec._location import base_path, folder_of
from checkmate_io_fsspec._locks import LockFiles
from checkmate_io_fsspec._mounts import find_mount
from checkmate_io_fsspec._network import Footing, footing_on
from checkmate_io_fsspec._options import positive, yes_or_no
from checkmate_io_fsspec._oserrors import unavailable
from checkmate_io_fsspec._private import PRIVATE_FOLDER, check_name, is_addressable
from checkmate_io_fsspec._reading import is_object, load

# A remove elsewhere may take an empty folder away between making it and using it. Each such loss
# needs another remove in that folder, so a bound this high is only met by a broken file system.
_PLACE_ATTEMPTS = 100
# A file server frees the locks of a host that is silent for its lease, ten seconds at the least. Who has held
# one for half of that was stopped, and may hold it no more.
_LONGEST_HOLD = 5.0


class LocalTaskIO:
    """Objects as files below one folder, safe between threads, processes and forks.

    A write goes to a temporary file, which is synced, and then takes its place by a link or a
    rename under one of a fixed set of lock files. It is acknowledged when the directory is synced
    too. A version is the SHA-256 of the content. Opening makes nothing on the disk.

    On a network file system `capabilities` are what is known of it (`docs/stores.md`, "Network file
    systems"); no object has an age there, for its time is that of another clock.

    Attributes:
        base_url: ``file://`` URL of the folder.
        lock_timeout: Seconds to wait for the holder of a lock file (storage option of this name).
        single_host: Whether somebody vouches that only this host uses the base (storage option of this
            name), so that this host's locks will do on any file system.
    """

    url_options: ClassVar[frozenset[str]] = frozenset({"single_host"})
    probe_scope: str | None = None
    lock_timeout: float = 30.0

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        lock_timeout: float | None = None,
        single_host: bool | str = False,
    ) -> None:
        if lock_timeout is not None:
            self.lock_timeout = positive("lock_timeout", lock_timeout)
        self.single_host = yes_or_no("single_host", single_host)
        self._base = base_path(os.fspath(folder))
        self.base_url = Path(self._base).as_uri()
        private = f"{self._base.rstrip('/')}/{PRIVATE_FOLDER}"
        self._temp_folder = f"{private}/tmp"  # noqa: S108 - below the user's own folder
        self._locks = LockFiles(f"{private}/locks")
        self._directories = DirectorySync(self._base)
        self._swept = False

    @classmethod
    def from_base_url(cls, base_url: str, **storage_options: Any) -> "LocalTaskIO":
        """Open a plain path or a ``file:///absolute/path`` URL. Makes nothing on the disk.

        Raises:
            UnsupportedBackendException: The URL names another host, is relative or empty, or an
                option is unknown.
        """
        unknown = storage_options.keys() - {"lock_timeout", "single_host"}
        if unknown:
            raise UnsupportedBackendException(
                f"local files do not take the option {min(unknown)!r} (they take: lock_timeout, single_host)"
            )
        try:
            return cls(folder_of(base_url), **storage_options)
        except (RuntimeError, ValueError) as exc:
            raise UnsupportedBackendException(f"{base_url!r} is no folder to store in: {exc}") from exc

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All of them on a disk of this host; on a network file system those that are known to hold."""
        return self._footing.capabilities

    @property
    def no_locks_because(self) -> str | None:
        """Why `capabilities` lacks what a lock is made of; None where it has it."""
        return self._footing.no_locks_because

    def build_url(self, obj_name: str) -> str:
        return f"{self.base_url.removesuffix('/')}/{quote(check_name(obj_name))}"

    def exists(self, obj_name: str) -> bool:
        path = self._path(obj_name)
        try:
            return is_object(path)
        except OSError as exc:
            raise unavailable("look for", self.build_url(obj_name), exc) from exc

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        folder, _, stem = prefix.rpartition("/")
        return self._walk(f"{folder}/" if folder else "", stem)

    def read(self, obj_name: str) -> StoredObject:
        path = self._path(obj_name)
        try:
            found = load(path)
        except OSError as exc:
            raise unavailable("read", self.build_url(obj_name), exc) from exc
        if found is None:
            raise PersistenceDataNotFoundException(f"there is no object {self.build_url(obj_name)}")
        data, modified = found
        age = max(0.0, time.time() - modified) if self._footing.is_local else None
        return StoredObject(data, _digest(data), age)

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        # A local read takes some 10 us, and handing it to a pool takes longer.
        found = {}
        for name in obj_names:
            with suppress(PersistenceDataNotFoundException):
                found[name] = self.read(name)
        return found

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        path = self._path(obj_name)
        self._check_can("write", obj_name, expect)
        try:
            # Most lost races end here, before anything is written, and without making the base.
            if isinstance(expect, str) and not is_object(path):
                raise self._conflict(obj_name, expect, None)
            if expect is ABSENT and is_object(path):
                raise self._conflict(obj_name, expect, "an object")
            self._write(path, obj_name, data, expect)
        except OSError as exc:
            raise unavailable("write", self.build_url(obj_name), exc) from exc
        return _digest(data)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        path = self._path(obj_name)
        self._check_can("remove", obj_name, expect)
        try:
            if not is_object(path):
                if expect is not ANY:
                    raise self._conflict(obj_name, expect, None)
                return
            with self._lock(obj_name):
                since = SYSTEM_CLOCK.monotonic()
                self._compare(path, obj_name, expect)
                self._check_still_held(since, obj_name)
                with suppress(FileNotFoundError):
                    os.unlink(path)
            # An object store has no empty folders; a write that needs one of them makes it again.
            self._directories.sync(remove_empty(os.path.dirname(path), self._base))
        except OSError as exc:
            raise unavailable("remove", self.build_url(obj_name), exc) from exc

    @cached_property
    def _footing(self) -> Footing:
        return footing_on(find_mount(self._base), single_host=self.single_host)

    def _check_can(self, what: str, obj_name: str, expect: Expect) -> None:
        if expect is not ANY and self.no_locks_because:
            raise UnsupportedBackendException(
                f"cannot {what} {self.build_url(obj_name)} on a condition: {self.no_locks_because}. Nothing was changed"
            )

    def _check_still_held(self, since: float, obj_name: str) -> None:
        held = SYSTEM_CLOCK.monotonic() - since
        if held > _LONGEST_HOLD and not self._footing.is_local:
            raise StorageUnavailableException(
                f"cannot change {self.build_url(obj_name)}: this host or its file server stood still for {held:.0f} s "
                "under a lock that the server may have given to another host by now. Nothing was changed; try again"
            )

    def _path(self, obj_name: str) -> str:
        return os.path.join(self._base, check_name(obj_name))

    def _lock(self, obj_name: str) -> AbstractContextManager[None]:
        return self._locks.hold(obj_name, self.build_url(obj_name), self.lock_timeout)

    def _write(self, path: str, obj_name: str, data: bytes, expect: Expect) -> None:
        folder = os.path.dirname(path)
        if not self._swept:
            self._swept = True
            sweep(self._temp_folder)
        temp = self._write_temp(data)
        made = False
        try:
            for attempt in range(_PLACE_ATTEMPTS):
                try:
                    if not os.path.isdir(folder):
                        made = True
                        self._directories.make(folder)
                    self._place(temp, path, obj_name, expect)
                    break
                except (FileNotFoundError, FileExistsError):
                    # Gone before its use, or there for makedirs and gone when it looked what it is.
                    if attempt == _PLACE_ATTEMPTS - 1 or not os.path.exists(temp):
                        raise
        finally:
            discard(temp)
        self._directories.sync(folder, made=made)

    def _write_temp(self, data: bytes) -> str:
        try:
            return write_temp(self._temp_folder, data)
        except FileNotFoundError:
            self._directories.make(self._temp_folder)
            return write_temp(self._temp_folder, data)

    def _place(self, temp: str, path: str, obj_name: str, expect: Expect) -> None:
        with self._lock(obj_name):
            since = SYSTEM_CLOCK.monotonic()
            if expect is ABSENT:
                self._create(temp, path, obj_name)
                return
            self._compare(path, obj_name, expect)
            self._check_still_held(since, obj_name)
            os.replace(temp, path)

    def _create(self, temp: str, path: str, obj_name: str) -> None:
        try:
            os.link(temp, path)
        except FileExistsError:
            # A file server whose answer was lost is asked again, and finds the link that it has made.
            with suppress(FileNotFoundError):
                if os.path.samefile(temp, path):
                    return
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
            raise self._conflict(obj_name, ABSENT, "an object") from None
        except OSError as exc:
            # No hard links here (exFAT, some network mounts). The lock is held, so looking and then
            # renaming is as exclusive.
            if exc.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            if os.path.lexists(path):
                raise self._conflict(obj_name, ABSENT, "an object") from None
            os.replace(temp, path)

    def _compare(self, path: str, obj_name: str, expect: Expect) -> None:
        if expect is ANY:
            return
        found = load(path)
        current = None if found is None else _digest(found[0])
        if current != expect:
            raise self._conflict(obj_name, expect, current)

    def _conflict(self, obj_name: str, expect: Expect, found: str | None) -> VersionConflictException:
        wanted = "no object" if expect is ABSENT else expect
        return VersionConflictException(
            f"{self.build_url(obj_name)} has another version than expected "
            f"(expected {wanted}, found {found or 'no object'})"
        )

    def _walk(self, folder: str, stem: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(os.path.join(self._base, folder)) as scan:
                # By name: a file that is replaced during the scan may come up twice.
                entries = {entry.name: entry for entry in scan if entry.name.startswith(stem)}
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as exc:
            raise unavailable("list", f"{self.base_url}/{quote(folder)}", exc) from exc
        for name, entry in entries.items():
            obj_name = folder + name
            if not is_addressable(obj_name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(f"{obj_name}/", "")
                continue
            with suppress(FileNotFoundError):
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield ObjectInfo(obj_name, None, status.st_size, modified)


def _digest(data: bytes) -> Version:
    return Version(hashlib.sha256(data).hexdigest())
