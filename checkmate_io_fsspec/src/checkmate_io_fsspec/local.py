"""`file://`: objects as files below one folder."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.names import check_object_name, check_prefix
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
from checkmate_io_fsspec._oserrors import unavailable

PRIVATE_FOLDER = ".checkmate"
"""Where a base keeps its lock and temporary files. No object name may hold such a segment."""

# A remove elsewhere may take an empty folder away between making it and using it. Each such loss
# needs another remove in that folder, so a bound this high is only met by a broken file system.
_PLACE_ATTEMPTS = 100


class LocalTaskIO:
    """Objects as files below one folder, safe between threads, processes and forks.

    A write goes to a temporary file, which is synced, and then takes its place by a link or a
    rename under one of a fixed set of lock files. It is acknowledged when the directory is synced
    too. A version is the SHA-256 of the content. Opening makes nothing on the disk.

    Attributes:
        base_url: ``file://`` URL of the folder.
        lock_timeout: Seconds to wait for the holder of a lock file (storage option of this name).
    """

    url_options: ClassVar[frozenset[str]] = frozenset()
    capabilities = frozenset(Capability)
    probe_scope: str | None = None
    lock_timeout: float = 30.0

    def __init__(self, folder: str | os.PathLike[str], *, lock_timeout: float | None = None) -> None:
        if lock_timeout is not None:
            self.lock_timeout = _positive(lock_timeout)
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
        unknown = storage_options.keys() - {"lock_timeout"}
        if unknown:
            raise UnsupportedBackendException(
                f"local files do not take the option {min(unknown)!r} (they take: lock_timeout)"
            )
        try:
            return cls(folder_of(base_url), **storage_options)
        except (RuntimeError, ValueError) as exc:
            raise UnsupportedBackendException(f"{base_url!r} is no folder to store in: {exc}") from exc

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def build_url(self, obj_name: str) -> str:
        return f"{self.base_url.removesuffix('/')}/{quote(_checked(obj_name))}"

    def exists(self, obj_name: str) -> bool:
        path = self._path(obj_name)
        try:
            return _is_object(path)
        except OSError as exc:
            raise unavailable("look for", self.build_url(obj_name), exc) from exc

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        folder, _, stem = prefix.rpartition("/")
        return self._walk(f"{folder}/" if folder else "", stem)

    def read(self, obj_name: str) -> StoredObject:
        path = self._path(obj_name)
        try:
            found = _load(path)
        except OSError as exc:
            raise unavailable("read", self.build_url(obj_name), exc) from exc
        if found is None:
            raise PersistenceDataNotFoundException(f"there is no object {self.build_url(obj_name)}")
        data, modified = found
        return StoredObject(data, _digest(data), max(0.0, time.time() - modified))

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        # A local read takes some 10 us, and handing it to a pool takes longer.
        found = {}
        for name in obj_names:
            with suppress(PersistenceDataNotFoundException):
                found[name] = self.read(name)
        return found

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        path = self._path(obj_name)
        try:
            # Most lost races end here, before anything is written, and without making the base.
            if isinstance(expect, str) and not _is_object(path):
                raise self._conflict(obj_name, expect, None)
            if expect is ABSENT and _is_object(path):
                raise self._conflict(obj_name, expect, "an object")
            self._write(path, obj_name, data, expect)
        except OSError as exc:
            raise unavailable("write", self.build_url(obj_name), exc) from exc
        return _digest(data)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        path = self._path(obj_name)
        try:
            if not _is_object(path):
                if expect is not ANY:
                    raise self._conflict(obj_name, expect, None)
                return
            with self._lock(obj_name):
                self._compare(path, obj_name, expect)
                with suppress(FileNotFoundError):
                    os.unlink(path)
            # An object store has no empty folders; a write that needs one of them makes it again.
            self._directories.sync(remove_empty(os.path.dirname(path), self._base))
        except OSError as exc:
            raise unavailable("remove", self.build_url(obj_name), exc) from exc

    def _path(self, obj_name: str) -> str:
        return os.path.join(self._base, _checked(obj_name))

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
            if expect is ABSENT:
                self._create(temp, path, obj_name)
            else:
                self._compare(path, obj_name, expect)
                os.replace(temp, path)

    def _create(self, temp: str, path: str, obj_name: str) -> None:
        try:
            os.link(temp, path)
        except FileExistsError:
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
        found = _load(path)
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
            if not _is_addressable(obj_name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(f"{obj_name}/", "")
                continue
            with suppress(FileNotFoundError):
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield ObjectInfo(obj_name, None, status.st_size, modified)


def _positive(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise UnsupportedBackendException(
            f"lock_timeout must be a number of seconds above 0, not {seconds!r}"
        )
    return float(seconds)


def _checked(obj_name: str) -> str:
    check_object_name(obj_name)
    # In any segment: a base may lie below another. In any case: not all file systems tell case apart.
    if PRIVATE_FOLDER in obj_name.casefold().split("/"):
        raise TaskIOException(
            f"object name {obj_name!r} is refused: {PRIVATE_FOLDER}/ is CheckMate's own folder"
        )
    return obj_name


def _is_addressable(obj_name: str) -> bool:
    try:
        _checked(obj_name)
    except TaskIOException:
        return False
    return True


def _is_object(path: str) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _load(path: str) -> tuple[bytes, float] | None:
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            return None
        chunks = [os.read(fd, status.st_size + 1)]
        while chunks[-1]:
            chunks.append(os.read(fd, 1 << 20))
    finally:
        os.close(fd)
    return b"".join(chunks), status.st_mtime


def _digest(data: bytes) -> Version:
    return Version(hashlib.sha256(data).hexdigest())
