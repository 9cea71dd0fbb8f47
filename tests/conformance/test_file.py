from pathlib import Path
from urllib.parse import urlsplit

import pytest

from checkmate_core.io.registry import open_task_io
from checkmate_core.testing import RaceEvidence, Subject, TaskIOConformance
from checkmate_core.types import Capability
from checkmate_io_fsspec.local import LocalTaskIO

from .raw_stores import FileRaw

RACES = RaceEvidence(True, "the kernel decides, by link, rename and file locks, between processes too")


class TestLocalTaskIO(TaskIOConformance):
    @pytest.fixture
    def subject(self, checkmate_file_url: str) -> Subject:
        return Subject(
            io=open_task_io(checkmate_file_url),
            raw=FileRaw(Path(urlsplit(checkmate_file_url).path)),
            capabilities=frozenset(Capability),
            reopen=lambda: LocalTaskIO.from_base_url(checkmate_file_url),
            races=RACES,
            clock_tick=0.02,
            # What is missing is found by looking, not by an error.
            chains_causes=False,
        )
