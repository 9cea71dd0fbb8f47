"""One SQLite connection a process, shared by its threads and closed before a fork."""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from checkmate_core import UnsupportedBackendException

# AUTOINCREMENT gives no number twice, not even that of a removed row: so it is a version, and an object
# that was removed and written again with the same bytes is not taken for the old one.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    data BLOB NOT NULL,
    modified REAL NOT NULL
)
"""

# SQLite must not be carried across a fork: a child that inherits an open connection believes that it holds
# its parent's file locks, even in connections that it opens itself, and a mutex that another thread holds at
# that moment is held for ever. So a fork waits until nobody is inside SQLite, and finds nothing open.
_inside = threading.RLock()
_databases: "weakref.WeakSet[Database]" = weakref.WeakSet()


class Database:
    """The file, opened at the first use in each process."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        _databases.add(self)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; each statement is a transaction of its own."""
        with _inside:
            if self._connection is None:
                self._connection = self._open()
            yield self._connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and no other writer from the first statement to the last."""
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        with _inside:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        try:
            self._begin_log(connection)
            # What is acknowledged is on the disk, not only with the operating system.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute(SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def _begin_log(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                with closing(connection.execute("PRAGMA journal_mode = WAL")) as answer:
                    (mode,) = answer.fetchone()
            except sqlite3.OperationalError as exc:
                # Of two that begin the log at once SQLite turns one away without waiting.
                if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise UnsupportedBackendException(
                    f"{self._path} cannot have a write-ahead log (SQLite answered {mode!r}): it must lie on a disk "
                    "of this host, not on a network file system"
                )
            return


def _before_fork() -> None:
    _inside.acquire()
    for database in list(_databases):
        database.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_inside.release, after_in_child=_inside.release)
