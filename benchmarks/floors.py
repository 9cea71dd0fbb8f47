"""The least that a durable step can cost on this machine: the same bytes, with nothing in between."""

import http.client
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit


def synced_files(folder: Path, body: bytes, stages: int) -> float:
    """Seconds a stage: twice a temporary file, synced, renamed, and its directory synced."""
    folder.mkdir(parents=True)
    begin = time.perf_counter()
    for stage in range(stages):
        for _ in range(2):
            _write_synced(folder, f"{stage}.json", body)
    return (time.perf_counter() - begin) / stages


def sqlite_commits(folder: Path, body: bytes, stages: int) -> float:
    """Seconds a stage: one commit that is synced, in WAL mode."""
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "floor.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE stages (number INTEGER PRIMARY KEY, body BLOB)")
        begin = time.perf_counter()
        for stage in range(stages):
            database.execute("INSERT INTO stages VALUES (?, ?)", (stage, body))
        return (time.perf_counter() - begin) / stages


# Moto looks whether there is a signature, not whether it is right.
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=benchmark/20240101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}


class BareHttp:
    """PUTs to an S3 server over one connection that stays open: no SDK, and nothing to sign."""

    def __init__(self, endpoint: str, bucket: str) -> None:
        parts = urlsplit(endpoint)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port)
        self._bucket = bucket

    def make_bucket(self) -> None:
        self._put("")

    def puts(self, body: bytes, stages: int) -> float:
        """Seconds a stage: two PUTs."""
        begin = time.perf_counter()
        for stage in range(stages):
            self._put(f"/floor/{stage}.json", body)
            self._put(f"/floor/{stage}.json", body)
        return (time.perf_counter() - begin) / stages

    def close(self) -> None:
        self._connection.close()

    def _put(self, key: str, body: bytes = b"") -> None:
        self._connection.request("PUT", f"/{self._bucket}{key}", body, SIGNED)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status


@contextmanager
def bare_http(endpoint: str, bucket: str) -> Iterator[BareHttp]:
    with closing(BareHttp(endpoint, bucket)) as bare:
        bare.make_bucket()
        yield bare


def _write_synced(folder: Path, name: str, body: bytes) -> None:
    temp = folder / f"{name}.tmp"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, body)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temp, folder / name)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
