import os
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
from botocore.config import Config

from checkmate_core.io.registry import open_task_io
from checkmate_core.testing import RaceEvidence, Subject, TaskIOConformance
from checkmate_core.types import Capability
from checkmate_io_s3.s3 import S3TaskIO

from .raw_stores import S3Raw

RACES = RaceEvidence(False, "moto checks and then acts, and only a lock of our fixture makes that one step")


class TestS3TaskIO(TaskIOConformance):
    @pytest.fixture
    def subject(self, checkmate_s3_url: str) -> Iterator[Subject]:
        parts = urlsplit(checkmate_s3_url)
        options = dict(parse_qsl(parts.query))
        s3 = boto3.client(
            "s3",
            endpoint_url=options["endpoint_url"],
            region_name=options["region"],
            config=Config(max_pool_connections=32),
        )
        yield Subject(
            io=open_task_io(checkmate_s3_url),
            raw=S3Raw(s3, parts.netloc, parts.path.strip("/")),
            capabilities=frozenset(Capability),
            reopen=lambda: S3TaskIO.from_base_url(f"s3://{parts.netloc}{parts.path}", **options),
            races=RACES,
            secrets=(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]),
        )
        s3.close()
