"""`sqlite-example://`: objects as rows of one table in one SQLite file."""

import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote, unquote, urlsplit

from checkmate_core import (
    PersistenceDataNotFoundException,
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
from checkmate_io_sqlite_example._database import Database
from checkmate_io_sqlite_example._errors import failure

SCHEME: Final = "sqlite-example"

_PAGE = 1000
# Seconds since 1970, in milliseconds.
_NOW = "((julianday('now') - 2440587.5) * 86400.0)"


class SqliteTaskIO:
    """Objects in one SQLite file, safe between the threads, processes and forks of one host.

    Every change is one immediate transaction, synced before it is acknowledged. A version is the
    number of the write that made it. Opening makes no file; the first request does.

    Attributes:
        base_url: ``sqlite-example://`` URL of the file.
    """

    url_options: ClassVar[frozenset[str]] = frozenset({"timeout"})
    capabilities = frozenset(Capability)
    # SQLite is the same everywhere, and the conformance kit has proven what is made of it here.
    probe_scope: str | None = None

    def __init__(self, path: str, *, timeout: float = 30.0) -> None:
        self.path = path
        self.base_url = f"{SCHEME}://{quote(path)}"
        self._database = Database(path, timeout)
        weakref.finalize(self, self._database.close)

    @classmethod
    def from_base_url(cls, base_url: str, **storage_options: Any) -> "SqliteTaskIO":
        """Open ``sqlite-example:///absolute/path/of/the/file``. Touches no file.

        Raises:
            UnsupportedBackendException: The URL has no absolute path, or an option is unknown or
                no number of seconds.
        """
        parts = urlsplit(base_url)
        path = unquote(parts.path).rstrip("/")
        if parts.netloc or not path.startswith("/"):
            raise UnsupportedBackendException(
                f"{base_url!r} names no file: give its absolute path, {SCHEME}:///srv/jobs.db"
            )
        unknown = storage_options.keys() - cls.url_options
        if unknown:
            raise UnsupportedBackendException(
                f"{SCHEME}:// does not take the option {min(unknown)!r} (it takes: timeout)"
            )
        return cls(path, timeout=_seconds(storage_options.get("timeout", 30.0)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def build_url(self, obj_name: str) -> str:
        return f"{self.base_url}/{quote(check_object_name(obj_name))}"

    def exists(self, obj_name: str) -> bool:
        url = self.build_url(obj_name)
        with self._errors("look for", url), self._database.connection() as sql:
            found = sql.execute("SELECT 1 FROM objects WHERE name = ?", (obj_name,)).fetchone()
        return found is not None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        return self._pages(prefix)

    def read(self, obj_name: str) -> StoredObject:
        url = self.build_url(obj_name)
        with self._errors("read", url), self._database.connection() as sql:
            found = sql.execute(
                f"SELECT data, version, {_NOW} - modified FROM objects WHERE name = ?", (obj_name,)
            ).fetchone()
        if found is None:
            raise PersistenceDataNotFoundException(f"there is no object {url}")
        data, version, age = found
        return StoredObject(data, Version(str(version)), max(0.0, age))

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        found = {}
        for name in obj_names:
            with suppress(PersistenceDataNotFoundException):
                found[name] = self.read(name)
        return found

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        url = self.build_url(obj_name)
        with self._errors("write", url), self._database.transaction() as sql:
            _compare(sql, obj_name, url, expect)
            written = sql.execute(
                f"INSERT OR REPLACE INTO objects (name, data, modified) VALUES (?, ?, {_NOW})",
                (obj_name, data),
            )
        return Version(str(written.lastrowid))

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        url = self.build_url(obj_name)
        with self._errors("remove", url), self._database.transaction() as sql:
            _compare(sql, obj_name, url, expect)
            sql.execute("DELETE FROM objects WHERE name = ?", (obj_name,))

    def _pages(self, prefix: str) -> Iterator[ObjectInfo]:
        # Names are sorted by their bytes, so those with one prefix stand together. No page leaves a
        # statement open: a listing may be given up half way, or outlive a fork.
        condition, start = "name >= ?", prefix
        while True:
            with self._errors("list", self.base_url), self._database.connection() as sql:
                rows = sql.execute(
                    f"SELECT name, version, length(data), modified FROM objects WHERE {condition} "
                    f"ORDER BY name LIMIT {_PAGE}",
                    (start,),
                ).fetchall()
            for name, version, size, modified in rows:
                if not name.startswith(prefix):
                    return
                yield ObjectInfo(name, Version(str(version)), size, datetime.fromtimestamp(modified, UTC))
            if len(rows) < _PAGE:
                return
            condition, start = "name > ?", rows[-1][0]

    @contextmanager
    def _errors(self, what: str, url: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise failure(what, url, self.path, exc) from exc


def _compare(sql: sqlite3.Connection, obj_name: str, url: str, expect: Expect) -> None:
    if expect is ANY:
        return
    found = sql.execute("SELECT version FROM objects WHERE name = ?", (obj_name,)).fetchone()
    current = ABSENT if found is None else Version(str(found[0]))
    if current != expect:
        raise VersionConflictException(
            f"{url} has another version than expected (expected {expect}, found {current})"
        )


def _seconds(timeout: Any) -> float:
    # In a URL it is a text.
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise UnsupportedBackendException(
            f"the option timeout is {timeout!r}; it must be a number of seconds"
        )
    return seconds
