from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest

from checkmate_core.io.registry import open_task_io
from checkmate_core.testing import RaceEvidence, Subject, TaskIOConformance
from checkmate_core.types import Capability
from checkmate_io_gcs.gcs import GCSTaskIO

from .raw_stores import GcsRaw

pytestmark = pytest.mark.slow

RACES = RaceEvidence(
    False,
    "fake-gcs-server ignores conditions of removals; a proxy of our fixture lets one change pass at a time",
)
TOKEN = "ya29.verysecrettoken"


class TestGCSTaskIO(TaskIOConformance):
    @pytest.fixture
    def subject(self, checkmate_gcs_url: str) -> Iterator[Subject]:
        parts = urlsplit(checkmate_gcs_url)
        endpoint = dict(parse_qsl(parts.query))["endpoint_url"]
        with GcsRaw.connected(endpoint, parts.netloc, parts.path.strip("/")) as raw:
            yield Subject(
                io=open_task_io(checkmate_gcs_url, token=TOKEN),
                raw=raw,
                capabilities=frozenset(Capability),
                reopen=lambda: GCSTaskIO.from_base_url(
                    f"gcs://{parts.netloc}{parts.path}", endpoint_url=endpoint, token=TOKEN
                ),
                races=RACES,
                secrets=(TOKEN,),
            )
