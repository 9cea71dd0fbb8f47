"""SQLite's errors in CheckMate's tree, with what to do next."""

import sqlite3
from typing import Final

from checkmate_core import CorruptObjectException, StorageUnavailableException, TaskIOException

_HINTS: Final = {
    sqlite3.SQLITE_BUSY: "another process has been writing for longer than the timeout: find out which, then try again",
    sqlite3.SQLITE_CANTOPEN: "make its folder, and give this user the right to write there",
    sqlite3.SQLITE_FULL: "free some space on its disk",
    sqlite3.SQLITE_IOERR: "check the disk",
    sqlite3.SQLITE_PERM: "give this user the right to read and write the file",
    sqlite3.SQLITE_READONLY: "give this user the right to write the file and its folder",
    sqlite3.SQLITE_TOOBIG: "SQLite holds no object of that size: keep it elsewhere, and its path in the state",
}


def failure(what: str, url: str, path: str, exc: sqlite3.Error) -> TaskIOException:
    """What to raise, chained, for ``exc``.

    Args:
        what: The verb of the message: ``read``, ``write``, …
        url: URL of the object or of the store.
        path: The file.
        exc: SQLite's error.
    """
    # The low byte is the kind; the rest tells variants apart. ProgrammingError and its like have none.
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    said = f"cannot {what} {url}: {exc} ({getattr(exc, 'sqlite_errorname', type(exc).__name__)})"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return CorruptObjectException(
            f"{said}; {path} is no SQLite database, or a damaged one. Nothing was changed. Restore it from a "
            "backup, or give the path of another file"
        )
    return StorageUnavailableException(f"{said}; {_HINTS.get(code, 'check the file')} ({path})")
