from pathlib import Path

import pytest

from checkmate import open_task_io
from checkmate.testing import RaceEvidence, Subject, TaskIOConformance
from checkmate_core.types import Capability
from checkmate_io_sqlite_example import SqliteTaskIO

from .raw_sqlite import SqliteRaw

RACES = RaceEvidence(True, "SQLite's file locks decide, between processes too")


class TestSqliteTaskIO(TaskIOConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        url = f"sqlite-example://{tmp_path}/store.db"
        return Subject(
            io=open_task_io(url),
            raw=SqliteRaw(f"{tmp_path}/store.db"),
            capabilities=frozenset(Capability),
            reopen=lambda: SqliteTaskIO.from_base_url(url),
            races=RACES,
            clock_tick=0.002,
            # What is missing is found by looking, not by an error.
            chains_causes=False,
        )
