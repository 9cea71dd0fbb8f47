"""Azurite in a process of its own, and a container in it that bare HTTP can reach too."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from azure.storage.blob import AccountSasPermissions, ContainerClient, ResourceTypes, generate_account_sas

from checkmate.testing._azure import ACCOUNT, AZURITE_LISTENS, KEY, azurite_command, connection_string
from checkmate.testing._server_process import server_process


@contextmanager
def azurite_server() -> Iterator[str]:
    """The endpoint, account included."""
    with (
        tempfile.TemporaryDirectory() as folder,
        server_process(azurite_command, Path(folder, "log"), AZURITE_LISTENS, name="Azurite") as port,
    ):
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


def make_container(endpoint: str, name: str) -> str:
    """The query that authorises bare requests to it: a SAS, so that nothing is to be signed for each."""
    with ContainerClient.from_connection_string(connection_string(endpoint), name) as container:
        container.create_container()
    return generate_account_sas(
        ACCOUNT,
        KEY,
        ResourceTypes(object=True, container=True),
        AccountSasPermissions(read=True, write=True, create=True, delete=True, list=True),
        datetime.now(UTC) + timedelta(hours=1),
    )
