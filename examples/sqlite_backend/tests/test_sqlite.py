"""What the kit cannot know: this backend's URL, its file, and SQLite's own failures."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from checkmate import (
    CorruptObjectException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    open_task_io,
)
from checkmate_core.types import ABSENT
from checkmate_io_sqlite_example import SqliteTaskIO


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a folder" / "ünïcode?#%20.db"


@pytest.fixture
def io(path: Path) -> SqliteTaskIO:
    path.parent.mkdir()
    return SqliteTaskIO(str(path), timeout=0.2)


def test_a_url_and_its_store_are_the_same(io: SqliteTaskIO, path: Path) -> None:
    io.write("object", b"body")
    assert path.is_file()
    again = open_task_io(io.base_url)
    assert again.base_url == io.base_url
    assert again.read("object").data == b"body"
    assert str(path) not in io.base_url, "a path is escaped in a URL"


def test_opening_touches_nothing(io: SqliteTaskIO, path: Path) -> None:
    assert list(path.parent.iterdir()) == []
    assert list(io.list()) == []
    assert path.is_file()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("sqlite-example://host/path.db", "names no file"),
        ("sqlite-example://", "names no file"),
        ("sqlite-example:///", "names no file"),
        ("sqlite-example:///a.db?timeout=soon", "'soon'"),
        ("sqlite-example:///a.db?timeout=-1", "'-1'"),
        ("sqlite-example:///a.db?timeout=nan", "'nan'"),
        ("sqlite-example:///a.db?cache=1", "does not take the URL option 'cache'"),
        ("sqlite-example://user:pw@/a.db", "credentials"),
    ],
)
def test_a_wrong_url_is_refused(url: str, word: str) -> None:
    with pytest.raises(UnsupportedBackendException, match=word) as caught:
        open_task_io(url)
    assert "pw" not in str(caught.value)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UnsupportedBackendException, match="'cache'"):
        open_task_io("sqlite-example:///a.db", cache=1)


def test_a_version_is_never_given_twice(io: SqliteTaskIO) -> None:
    versions = []
    for _ in range(3):
        versions.append(io.write("object", b"same body", expect=ABSENT))
        io.remove("object")
    assert len(set(versions)) == 3


@pytest.fixture
def writer(io: SqliteTaskIO, path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection, in the middle of a write."""
    io.write("object", b"body")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def test_a_writer_that_stays_is_an_error_that_says_so(io: SqliteTaskIO, writer: sqlite3.Connection) -> None:
    assert io.read("object").data == b"body", "readers do not wait for writers"
    with pytest.raises(StorageUnavailableException, match="another process has been writing") as caught:
        io.write("object", b"other")
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert io.build_url("object") in str(caught.value)
    writer.execute("ROLLBACK")
    io.write("object", b"other")
    assert io.read("object").data == b"other"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    io = SqliteTaskIO(f"{tmp_path}/missing/store.db")
    with pytest.raises(StorageUnavailableException, match="make its folder") as caught:
        io.write("object", b"body")
    assert f"{tmp_path}/missing/store.db" in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(io: SqliteTaskIO, path: Path) -> None:
    path.write_bytes(b"something else entirely, and longer than a header\n" * 100)
    before = path.read_bytes()
    for request in (lambda: io.read("object"), lambda: io.write("object", b""), lambda: list(io.list())):
        with pytest.raises(CorruptObjectException, match="is no SQLite database"):
            request()
    assert path.read_bytes() == before


def test_a_full_disk_is_an_error_and_changes_nothing(io: SqliteTaskIO) -> None:
    io.write("object", b"body")
    with io._database.connection() as sql:
        sql.execute("PRAGMA max_page_count = 10")
    with pytest.raises(StorageUnavailableException, match="free some space"):
        io.write("object", os.urandom(1_000_000))
    assert io.read("object").data == b"body"
    io.write("object", b"small again")


def test_a_file_that_cannot_be_written_is_an_error(io: SqliteTaskIO) -> None:
    io.write("object", b"body")
    with io._database.connection() as sql:
        sql.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageUnavailableException, match="the right to write"):
        io.write("object", b"other")


def test_a_misuse_of_a_name_is_no_request(io: SqliteTaskIO, path: Path) -> None:
    with pytest.raises(TaskIOException, match="refused"):
        io.write("../evil", b"")
    assert not path.exists()


KILLED = """
import os, signal, sys
from checkmate_io_sqlite_example import SqliteTaskIO
io = SqliteTaskIO(sys.argv[1])
for number in range(20):
    io.write(f"object-{number}", b"body")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_acknowledged_survives_a_kill(io: SqliteTaskIO, path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60)
    assert killed.returncode == -9
    assert len(list(io.list())) == 20


def test_a_child_of_a_fork_outlives_its_parents_connection(io: SqliteTaskIO) -> None:
    """A child that believed in its parent's locks would write on into a log that its parent has removed."""
    io.write("before", b"body")
    told, telling = os.pipe()
    go, going = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            io.write("child/1", b"body")
            os.write(telling, b"x")
            os.read(go, 1)
            io.write("child/2", b"body")
            os._exit(0)
        finally:
            os._exit(1)
    io.write("parent", b"body")
    os.read(told, 1)
    io._database.close()
    os.write(going, b"x")
    _, status = os.waitpid(child, 0)
    for end in (told, telling, go, going):
        os.close(end)
    assert os.waitstatus_to_exitcode(status) == 0
    assert {info.name for info in io.list()} == {"before", "parent", "child/1", "child/2"}
