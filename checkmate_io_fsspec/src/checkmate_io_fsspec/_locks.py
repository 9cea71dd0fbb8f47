"""Lock files: a fixed set per base, held for one compare-and-rename, freed by the kernel with their holder.

Advisory kernel locks are used directly. A lock library would cost more than the rest of a write
(measured: 50 ms to import and 120 us a lock, against 7 us here), and some releases of it unlock the
parent's lock from a forked child.
"""

import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

from checkmate_core.errors import StorageUnavailableException

LOCK_COUNT = 16
"""How many lock files a base has. All processes must agree on it, so it never changes."""

_FIRST_WAIT = 0.0002
_LONGEST_WAIT = 0.01

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


_open_fds: set[int] = set()


def _close_in_child() -> None:
    # A forked child shares the open file, and with it the lock: should the parent be killed while it
    # holds one, the child would go on holding it. Closing (never unlocking) leaves the parent's alone.
    for fd in _open_fds:
        with suppress(OSError):
            os.close(fd)
    _open_fds.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class LockFiles:
    """The lock files of one base.

    Every hold opens its file anew, so that threads exclude each other as processes do, nothing has
    to be repaired after a fork, and a base that was removed and made again is noticed.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, obj_name: str, url: str, timeout: float) -> Iterator[None]:
        """Hold the lock that is responsible for ``obj_name``.

        Args:
            obj_name: Name of the object that is to change.
            url: Its URL, for messages.
            timeout: Seconds to wait for another holder.

        Raises:
            StorageUnavailableException: Another process held the lock all the time.
        """
        fd = self._acquire(f"{self._folder}/{crc32(obj_name.encode()) % LOCK_COUNT:02d}.lock", url, timeout)
        try:
            yield
        finally:
            _release(fd)

    def _acquire(self, path: str, url: str, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while True:
            fd = self._open(path)
            try:
                if not _lock_before(deadline, fd):
                    raise _timed_out(path, fd, url, timeout)  # noqa: TRY301
                if os.fstat(fd).st_nlink:
                    return fd
            except BaseException:
                _close(fd)
                raise
            # The base was removed meanwhile, and others may lock a new file of this name.
            _close(fd)

    def _open(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            fd = os.open(path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(self._folder, exist_ok=True)
            fd = os.open(path, flags, 0o666)
        _open_fds.add(fd)
        return fd


def _lock_before(deadline: float, fd: int) -> bool:
    wait = _FIRST_WAIT
    while not _try_lock(fd):
        if time.monotonic() >= deadline:
            return False
        time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the waiters, keeps no secret
        wait = min(wait * 1.5, _LONGEST_WAIT)
    return True


def _release(fd: int) -> None:
    if fd in _open_fds:
        # Unlock before closing: a child that another thread is just forking still has the file open.
        try:
            _unlock(fd)
        finally:
            _close(fd)


def _close(fd: int) -> None:
    if fd in _open_fds:
        _open_fds.discard(fd)
        os.close(fd)


def _timed_out(path: str, fd: int, url: str, timeout: float) -> StorageUnavailableException:
    pid = _holder(fd)
    who = "another process" if pid is None else f"process {pid}{_about(pid)}"
    fix = "find and end the process that holds it" if pid is None else f"let it go on or end it (pid {pid})"
    return StorageUnavailableException(
        f"cannot change {url}: its lock file {path} has been held by {who} for {timeout:g} s. "
        f"A holder needs it for microseconds, so it is stopped or its disk hangs: {fix}, then try again."
    )


def _holder(fd: int) -> int | None:
    """Pid of the lock's holder as the Linux kernel tells it; None where it does not."""
    status = os.fstat(fd)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}" if hasattr(os, "major") else ""
    fallback = None
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # "1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF"; those who wait have "->" in second place.
        fields = line.split()
        if len(fields) < 6 or fields[1] not in ("FLOCK", "POSIX"):
            continue
        where, _, inode = fields[5].rpartition(":")
        if inode != str(status.st_ino) or not fields[4].isdigit() or fields[4] == "0":
            continue
        if where == device:
            return int(fields[4])
        # Some file systems (btrfs, overlays) give stat() another device number than the lock table.
        fallback = int(fields[4])
    return fallback


def _about(pid: int) -> str:
    if pid == os.getpid():
        return " (this very process)"
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return ""
    return f" ({name}, stopped)" if rest.split()[0] in ("T", "t") else f" ({name})"
