from collections.abc import Iterator
from pathlib import Path

import pytest

from checkmate_core.io.registry import open_task_io
from checkmate_core.io.url import parse_store_url
from checkmate_core.testing import RaceEvidence, Subject, TaskIOConformance
from checkmate_io_fsspec.generic import FsspecTaskIO
from tests.backends.sftp_server import PASSWORD, sftp_server

from .raw_stores import FileRaw

pytestmark = pytest.mark.slow

RACES = RaceEvidence(False, "no condition is declared, so there is none: each is tested to be refused")


class TestFsspecTaskIO(TaskIOConformance):
    """Any fsspec URL, by the one that has a server which runs in a test: SFTP."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        with sftp_server(tmp_path) as server:
            url = parse_store_url(server.url)
            yield Subject(
                io=open_task_io(server.url, password=PASSWORD),
                raw=FileRaw(server.base),
                capabilities=frozenset(),
                reopen=lambda: FsspecTaskIO.from_base_url(url.location, **url.options, password=PASSWORD),
                races=RACES,
                secrets=(PASSWORD,),
            )
