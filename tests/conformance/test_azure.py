import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from azure.storage.blob import ContainerClient

from checkmate_core.io.registry import open_task_io
from checkmate_core.testing import RaceEvidence, Subject, TaskIOConformance
from checkmate_core.types import Capability
from checkmate_io_azure.azure import AzureTaskIO

from .raw_stores import AzureRaw

pytestmark = pytest.mark.slow

RACES = RaceEvidence(
    True,
    "Azurite checks a condition and acts on it within one turn of its event loop, as a real server would",
)


class TestAzureTaskIO(TaskIOConformance):
    @pytest.fixture
    def subject(self, checkmate_azure_url: str) -> Iterator[Subject]:
        parts = urlsplit(checkmate_azure_url)
        connection_string = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
        fields = dict(field.split("=", 1) for field in connection_string.rstrip(";").split(";"))
        with ContainerClient.from_connection_string(connection_string, parts.netloc) as container:
            yield Subject(
                io=open_task_io(checkmate_azure_url),
                raw=AzureRaw(container, parts.path.strip("/")),
                capabilities=frozenset(Capability),
                reopen=lambda: AzureTaskIO.from_base_url(
                    f"abfs://{parts.netloc}{parts.path}", connection_string=connection_string
                ),
                races=RACES,
                secrets=(connection_string, fields["AccountKey"]),
            )
