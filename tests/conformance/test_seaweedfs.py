"""SeaweedFS: an S3 server that is no emulator, so that its races prove more than the client."""

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from checkmate_core.doctor import Verdict, examine
from checkmate_core.io.registry import open_task_io
from checkmate_core.testing import RaceEvidence, Subject, TaskIOConformance
from checkmate_core.types import Capability
from checkmate_io_s3.s3 import S3TaskIO
from tests.backends.seaweed import KEY, REGION, SECRET, boto_client

from .raw_stores import S3Raw

pytestmark = pytest.mark.slow

RACES = RaceEvidence(
    True,
    "SeaweedFS is a server in a process of its own, which nothing of ours helps: one gateway, one filer",
)


class TestS3TaskIOOnSeaweedFS(TaskIOConformance):
    @pytest.fixture
    def subject(self, seaweedfs_server: str, seaweedfs_url: str) -> Iterator[Subject]:
        parts = urlsplit(seaweedfs_url)
        with closing(boto_client(seaweedfs_server)) as s3:
            yield Subject(
                io=open_task_io(seaweedfs_url),
                raw=S3Raw(s3, parts.netloc, parts.path.strip("/")),
                capabilities=frozenset(Capability),
                reopen=lambda: S3TaskIO.from_base_url(
                    f"s3://{parts.netloc}{parts.path}",
                    endpoint_url=seaweedfs_server,
                    region=REGION,
                    addressing_style="path",
                ),
                races=RACES,
                secrets=(KEY, SECRET),
            )


def test_the_doctor_finds_no_fault_and_says_that_this_is_no_proof(seaweedfs_url: str) -> None:
    found = examine([seaweedfs_url], rounds=5)
    assert found.verdict is Verdict.UNPROVEN, found.reason
    assert [(race.kind, race.winners) for race in found.races] == [
        ("create", (1,) * 5),
        ("swap", (1,) * 5),
    ]
    (only,) = found.doors
    assert [(each.name, each.fault, each.error) for each in only.conditions if each.fault or each.error] == []
    assert len(only.conditions) == 4
    assert list(open_task_io(seaweedfs_url).list()) == []
