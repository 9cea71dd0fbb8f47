"""What one operation of a backend costs, beside the same request by bare HTTP to the same server.

    python benchmarks/operations.py [--rounds 300] [--size 2048] [--only gcs]

Each round writes and reads an object through the backend, through bare HTTP and, on Azurite and the GCS emulator, through the
SDK's own operations, one after another, so that all of them see the same machine. Printed are medians.
"""

import argparse
import http.client
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from azure.storage.blob.aio import ContainerClient
from azurite_server import azurite_server, make_container
from floors import SIGNED
from fsspec.asyn import get_loop, sync
from gcsfs.core import GCSFileSystem
from machine import describe, median, table
from moto_server import moto_server

from checkmate.testing._azure import connection_string
from checkmate.testing._gcs import fake_gcs_server, make_bucket
from checkmate_core import TaskIO, open_task_io

WARM_UP = 20
Way = tuple[Callable[[bytes], object], Callable[[], object]]
"""How to write and how to read one object."""


class Bare:
    """Requests for one object over one connection that stays open."""

    def __init__(self, endpoint: str, target: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(endpoint)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port)
        self._target = f"{parts.path}/{target}"
        self._headers = dict(headers)

    def write(self, body: bytes) -> None:
        self.ask("PUT", body)

    def read(self) -> bytes:
        return self.ask("GET")

    def close(self) -> None:
        self._connection.close()

    def ask(self, method: str, body: bytes | None = None) -> bytes:
        self._connection.request(method, self._target, body, self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        assert answer.status in (200, 201), answer.status
        return data


def through(io: TaskIO) -> Way:
    return lambda body: io.write("object", body), lambda: io.read("object").data


@contextmanager
def s3() -> Iterator[dict[str, Way]]:
    with moto_server() as endpoint, closing(Bare(endpoint, "operations", SIGNED)) as bucket:
        bucket.write(b"")
        with closing(Bare(endpoint, "operations/floor", SIGNED)) as bare:
            io = open_task_io("s3://operations/tasks", endpoint_url=endpoint, region="us-east-1")
            yield {"backend": through(io), "floor": (bare.write, bare.read)}


@contextmanager
def azure() -> Iterator[dict[str, Way]]:
    with azurite_server() as endpoint:
        sas = make_container(endpoint, "operations")
        target = f"operations/floor?{sas}"
        with closing(Bare(endpoint, target, {"x-ms-blob-type": "BlockBlob"})) as bare:
            io = open_task_io("az://operations/tasks", connection_string=connection_string(endpoint))
            with sdk(endpoint) as own:
                yield {"backend": through(io), "floor": (bare.write, bare.read), "the SDK's own": own}


@contextmanager
def sdk(endpoint: str) -> Iterator[Way]:
    """As adlfs does it: a client of the blob for each operation, from one of the container."""
    loop = get_loop()
    container = ContainerClient.from_connection_string(connection_string(endpoint), "operations")

    async def write(body: bytes) -> Any:
        async with container.get_blob_client("sdk") as blob:
            return await blob.upload_blob(body, overwrite=True)

    async def read() -> Any:
        async with container.get_blob_client("sdk") as blob:
            return await (await blob.download_blob()).readall()

    yield lambda body: sync(loop, write, body), lambda: sync(loop, read)
    sync(loop, container.close)


class BareGcs:
    """The requests of `Bare` in the JSON API: an object is not written where it is read."""

    def __init__(self, endpoint: str, bucket: str, name: str) -> None:
        # A boundary that is not random, for the only body that it is for.
        self._start = (
            f'--b\r\nContent-Type: application/json\r\n\r\n{{"name": "{name}"}}\r\n'
            "--b\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        multipart = {"Content-Type": "multipart/related; boundary=b"}
        objects = f"storage/v1/b/{bucket}/o"
        self._writing = Bare(endpoint, f"upload/{objects}?uploadType=multipart&fields=generation", multipart)
        self._reading = Bare(endpoint, f"download/{objects}/{name}?alt=media", {})

    def write(self, body: bytes) -> None:
        self._writing.ask("POST", self._start + body + b"\r\n--b--")

    def read(self) -> bytes:
        return self._reading.read()

    def close(self) -> None:
        self._writing.close()
        self._reading.close()


@contextmanager
def gcs() -> Iterator[dict[str, Way]]:
    # The emulator itself: what corrects it in tests is left out.
    with (
        TemporaryDirectory() as folder,
        fake_gcs_server(Path(folder) / "log", "http://127.0.0.1") as port,
    ):
        endpoint = f"http://127.0.0.1:{port}"
        make_bucket(endpoint, "operations")
        with closing(BareGcs(endpoint, "operations", "floor")) as bare:
            io = open_task_io("gs://operations/tasks", endpoint_url=endpoint)
            # The class itself, since gcsfs puts one in its place that asks by gRPC, which no emulator answers.
            own = GCSFileSystem(endpoint_url=endpoint, token="anon", skip_instance_cache=True)
            yield {
                "backend": through(io),
                "floor": (bare.write, bare.read),
                "the SDK's own": (
                    lambda body: own.pipe_file("operations/sdk", body),
                    lambda: own.cat_file("operations/sdk"),
                ),
            }


STORES = {"s3 (moto)": s3, "gcs (fake-gcs-server)": gcs, "azure (Azurite)": azure}


def measure(ways: dict[str, Way], body: bytes, rounds: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Median milliseconds, and of them the mean on this process's CPU, by way and operation."""
    wall: dict[tuple[str, str], list[float]] = defaultdict(list)
    cpu: dict[tuple[str, str], float] = defaultdict(float)
    for number in range(WARM_UP + rounds):
        for name, (write, read) in ways.items():
            for operation, act in (("write", lambda write=write: write(body)), ("read", read)):
                began, busy = time.perf_counter(), time.process_time()
                act()
                if number >= WARM_UP:
                    cpu[name, operation] += time.process_time() - busy
                    wall[name, operation].append(time.perf_counter() - began)
    return {key: (median(wall[key]) * 1000, cpu[key] / rounds * 1000) for key in wall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--only", choices=[name.partition(" ")[0] for name in STORES])
    arguments = parser.parse_args()
    rows = []
    for store, opened in STORES.items():
        if arguments.only not in (None, store.partition(" ")[0]):
            continue
        with ExitStack() as stack:
            found = measure(stack.enter_context(opened()), b"x" * arguments.size, arguments.rounds)
        for (way, operation), (wall, cpu) in found.items():
            ratio = wall / found["floor", operation][0]
            rows.append([f"{store}, {way}, {operation}", f"{wall:.2f}", f"{ratio:.1f}", f"{cpu:.2f}"])
    print(table(["store, way, operation", "ms", "of the floor", "CPU ms"], rows), end="\n\n")
    packages = ("s3fs", "aiobotocore", "moto", "gcsfs", "adlfs", "azure-storage-blob", "aiohttp")
    print(describe(Path.cwd(), "checkmate-core", *packages))


if __name__ == "__main__":
    main()
