"""What is compared on each store: the backend, the bare requests, and the calls that fsspec offers.

Each server runs in a process of its own.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from adlfs import AzureBlobFileSystem
from azurite_server import azurite_server, make_container
from bare_stores import BareFiles, BareGcs, BareHttp, Store, bare_azure, bare_s3
from floors import SIGNED
from gcsfs.core import GCSFileSystem
from moto_server import moto_server
from s3fs import S3FileSystem

from checkmate.testing._azure import connection_string
from checkmate.testing._gcs import fake_gcs_server, make_bucket
from checkmate_core import TaskIO, open_task_io

sys.path.append(str(Path(__file__).parents[1]))
from tests.backends.seaweed import KEY, REGION, SECRET, seaweedfs

BUCKET = "operations"


@dataclass(frozen=True)
class Compared:
    """Attributes:
    io: The backend.
    floor: The same requests, bare; None where there are none.
    filesystem: What fsspec has for this store, caches off; None where it is none that we build on.
    """

    io: TaskIO
    floor: Store | None = None
    filesystem: Any = None


@contextmanager
def memory(_: Path) -> Iterator[Compared]:
    yield Compared(open_task_io(f"memory://{uuid4().hex}"))


@contextmanager
def files(folder: Path) -> Iterator[Compared]:
    yield Compared(open_task_io((folder / "store").as_uri()), BareFiles(folder / "floor"))


@contextmanager
def moto(_: Path) -> Iterator[Compared]:
    with moto_server() as endpoint, closing(BareHttp(endpoint)) as http:
        http.ask("PUT", f"/{BUCKET}", b"", SIGNED)
        yield _s3(endpoint, http, "benchmark", "made-up-for-moto", signed=True)


@contextmanager
def seaweed(folder: Path) -> Iterator[Compared]:
    home = folder / "seaweedfs"
    home.mkdir()
    with seaweedfs(home, anyone=True) as endpoint, closing(BareHttp(endpoint)) as http:
        http.ask("PUT", f"/{BUCKET}", b"")
        yield _s3(endpoint, http, KEY, SECRET, signed=False)


def _s3(endpoint: str, http: BareHttp, key: str, secret: str, *, signed: bool) -> Compared:
    options: dict[str, Any] = {"endpoint_url": endpoint, "key": key, "secret": secret}
    own = S3FileSystem(**options, use_listings_cache=False, skip_instance_cache=True)
    io = open_task_io(f"s3://{BUCKET}/tasks", region=REGION, **options)
    return Compared(io, bare_s3(http, BUCKET, signed=signed), own)


@contextmanager
def gcs(folder: Path) -> Iterator[Compared]:
    # The emulator itself: what corrects it in tests is left out.
    with fake_gcs_server(folder / "gcs.log", "http://127.0.0.1") as port:
        endpoint = f"http://127.0.0.1:{port}"
        make_bucket(endpoint, BUCKET)
        # The class itself, since gcsfs puts one in its place that asks by gRPC, which no emulator answers.
        own = GCSFileSystem(endpoint_url=endpoint, token="anon", skip_instance_cache=True)
        io = open_task_io(f"gs://{BUCKET}/tasks", endpoint_url=endpoint)
        with closing(BareHttp(endpoint)) as http:
            yield Compared(io, BareGcs(http, BUCKET), own)


@contextmanager
def azure(_: Path) -> Iterator[Compared]:
    with azurite_server() as endpoint:
        sas = make_container(endpoint, BUCKET)
        account = connection_string(endpoint)
        own = AzureBlobFileSystem(connection_string=account, skip_instance_cache=True)
        with closing(BareHttp(endpoint)) as http:
            io = open_task_io(f"az://{BUCKET}/tasks", connection_string=account)
            yield Compared(io, bare_azure(http, BUCKET, sas), own)


STORES: dict[str, tuple[str, Callable[[Path], AbstractContextManager[Compared]]]] = {
    "memory": ("memory", memory),
    "file": ("file", files),
    "moto": ("S3, moto", moto),
    "seaweedfs": ("S3, SeaweedFS", seaweed),
    "gcs": ("GCS, fake-gcs-server", gcs),
    "azure": ("Azure, Azurite", azure),
}


@contextmanager
def opened(name: str, folder: Path | None) -> Iterator[Compared]:
    """Everything that is compared on one store."""
    with TemporaryDirectory(dir=folder) as temporary, STORES[name][1](Path(temporary)) as compared:
        yield compared
