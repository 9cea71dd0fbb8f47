"""What a user of CheckMate tests of a service: `checkmate.testing` crashes it, the store is real."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from imports_cm import cm_factory_imports, prepare_database
from service import ImportService, make_server

from checkmate import CheckMate, StageStatus, TaskIO, TaskStore
from checkmate.testing import CrashPoint, check_every_crash, crash, resume

TEXT = "ada,10.50\ngrace,20\nbarbara,0.25\n"
RESULT = "3 payments, 30.75"


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "payments.db")
    prepare_database(path)
    return path


def payments(database: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT name, amount FROM payment ORDER BY name").fetchall()


@pytest.mark.parametrize("stage", ["parse", "load", "sum"])
@pytest.mark.parametrize("point", [CrashPoint.before_work, CrashPoint.after_work, CrashPoint.after_stage])
def test_a_crash_doubles_and_loses_no_payment(
    checkmate_file_url: str, database: str, stage: str, point: Any
) -> None:
    crash(cm_factory_imports(checkmate_file_url, "t", database, TEXT), at=point(stage))
    assert TaskStore(checkmate_file_url).get("t").ended is None
    assert resume(cm_factory_imports(checkmate_file_url, "t", database)) == RESULT
    assert payments(database) == [("ada", "10.50"), ("barbara", "0.25"), ("grace", "20")]


def test_a_crash_at_any_request_changes_nothing(tmp_path: Path) -> None:
    databases: dict[TaskIO, str] = {}

    def make(io: TaskIO) -> CheckMate[Any, str]:
        # A database for each store, as in life.
        database = databases.setdefault(io, str(tmp_path / f"{len(databases)}.db"))
        prepare_database(database)
        return cm_factory_imports(io, "t", database, TEXT)

    assert check_every_crash(make) >= 20
    assert all(len(payments(database)) == 3 for database in databases.values())


@pytest.fixture
def service(checkmate_s3_url: str, tmp_path: Path) -> Iterator[tuple[ImportService, str]]:
    """The service on a bucket, with its web server; its worker is the test's to start."""
    found = ImportService(checkmate_s3_url, str(tmp_path / "payments.db"))
    server = make_server(found, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield found, f"http://127.0.0.1:{server.server_port}/imports"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(url: str, body: str | None = None) -> dict[str, Any]:
    with urlopen(url, data=None if body is None else body.encode()) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found


def test_what_was_taken_is_imported_by_whoever_comes(service: tuple[ImportService, str]) -> None:
    first, url = service
    task_id = ask(url, TEXT)["id"]
    assert ask(f"{url}/{task_id}") == {"status": StageStatus.CREATED, "result": None}
    # The first process dies before it has done anything; another one works on the same store.
    second = ImportService(first.url, first.database)
    assert second.run_unfinished() == 1
    assert ask(f"{url}/{task_id}") == {"status": StageStatus.COMPLETE, "result": RESULT}
    assert second.run_unfinished() == 0
