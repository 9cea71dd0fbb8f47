"""What makes a local write survive a power cut: whole temporary files, and synced directories."""

import errno
import os
import secrets
import sys
import time
from contextlib import suppress

_DAY = 86_400.0
# File systems that cannot sync a directory say so in one of these ways.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS}

if sys.platform == "darwin":
    import fcntl

    def sync(fd: int) -> None:
        """Bring an open file to the disk; on macOS fsync stops at the disk's volatile cache."""
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(fd)
else:

    def sync(fd: int) -> None:
        """Bring an open file to the disk."""
        os.fsync(fd)


def write_temp(folder: str, data: bytes) -> str:
    """Write and sync a new file of a random name in ``folder``; nothing is left of it on failure.

    Returns:
        Its path. The mode is what the umask leaves of 0666, as for any file that the user makes.
    """
    path = f"{folder}/{secrets.token_hex(16)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags, 0o666)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            sync(fd)
        finally:
            os.close(fd)
    except BaseException:
        discard(path)
        raise
    return path


def discard(path: str) -> None:
    """Remove a temporary file; one that cannot be removed is left to `sweep`."""
    with suppress(OSError):
        os.unlink(path)


def sweep(folder: str) -> None:
    """Remove the temporary files of processes that died long ago. Never fails."""
    oldest = time.time() - _DAY
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.path)


class DirectorySync:
    """Brings directory entries to the disk, up to the base and whatever was made above it."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._top = os.path.dirname(base)
        self._anchored: set[tuple[int, int]] = set()

    def make(self, folder: str) -> None:
        """Make ``folder`` and its parents where they are missing."""
        if not os.path.isdir(self._base):
            top = self._base
            while not os.path.lexists(top):
                top = os.path.dirname(top)
            self._top = min(self._top, top, key=len)
        # A new directory may have the inode of one that was anchored and then removed.
        self._anchored.clear()
        os.makedirs(folder, exist_ok=True)

    def sync(self, folder: str, *, made: bool = False) -> None:
        """Sync ``folder``; where it may be new to the disk, also the directories above it.

        New is what this write made, and what this process meets for the first time: another process
        may have made it and not yet synced it. Directories are told apart by inode, since they can
        be removed and made again.
        """
        if sys.platform == "win32":
            return
        identity = self._sync_one(folder)
        if identity is None or (identity in self._anchored and not made):
            return
        while folder != self._top:
            folder = os.path.dirname(folder)
            self._sync_one(folder)
        self._anchored.add(identity)

    def _sync_one(self, folder: str) -> tuple[int, int] | None:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            # Removed since, which somebody does only after removing what was written into it.
            return None
        except PermissionError:
            if len(folder) < len(self._base):
                return None  # an unreadable directory above the base is not ours to sync
            raise
        try:
            sync(fd)
        except OSError as exc:
            if exc.errno not in _CANNOT_SYNC:
                raise
        finally:
            status = os.fstat(fd)
            os.close(fd)
        return status.st_dev, status.st_ino


def remove_empty(folder: str, base: str) -> str:
    """Remove ``folder`` and its parents below ``base`` as far as they are empty.

    Returns:
        The directory where that ended: its entries have changed.
    """
    while folder != base:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:
            break
        folder = os.path.dirname(folder)
    return folder
