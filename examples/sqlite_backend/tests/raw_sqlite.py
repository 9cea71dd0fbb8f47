"""The way around the backend: SQL of its own, on connections of its own."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from checkmate_io_sqlite_example._database import SCHEMA


@dataclass
class SqliteRaw:
    path: str

    def get(self, name: str) -> bytes | None:
        with self._connection() as sql:
            found = sql.execute("SELECT data FROM objects WHERE name = ?", (name,)).fetchone()
        return None if found is None else bytes(found[0])

    def put(self, name: str, data: bytes) -> None:
        with self._connection() as sql:
            sql.execute(
                "REPLACE INTO objects (name, data, modified) VALUES (?, ?, strftime('%s', 'now'))",
                (name, data),
            )

    def delete(self, name: str) -> None:
        with self._connection() as sql:
            sql.execute("DELETE FROM objects WHERE name = ?", (name,))

    def names(self) -> set[str]:
        with self._connection() as sql:
            return {name for (name,) in sql.execute("SELECT name FROM objects")}

    def beside(self, suffix: str) -> "SqliteRaw":
        return SqliteRaw(self.path + suffix)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=60.0, isolation_level=None)) as sql:
            # No test pulls the plug on what was put here, and thousands of objects are.
            sql.execute("PRAGMA synchronous = OFF")
            sql.execute(SCHEMA)
            yield sql
