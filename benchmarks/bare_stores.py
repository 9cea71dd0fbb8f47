"""The least that an operation can cost: the same requests with nothing in between, one connection kept open.

Answers are read and not understood, beyond the version that the next request needs; nothing is signed.
"""

import http.client
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from floors import SIGNED


class Store(Protocol):
    """The operations that are measured."""

    def create(self, name: str, body: bytes) -> str: ...
    def swap(self, name: str, body: bytes, version: str) -> str: ...
    def read(self, name: str) -> object: ...
    def read_many(self, names: Sequence[str]) -> object: ...
    def list(self, prefix: str) -> object: ...
    def remove(self, name: str, version: str) -> None: ...


class BareHttp:
    """One connection."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port)
        self.base = parts.path

    def ask(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request(method, self.base + target, body, headers or {})
        answer = self._connection.getresponse()
        data = answer.read()
        assert 200 <= answer.status < 300, (answer.status, target, data)
        return answer, data

    def close(self) -> None:
        self._connection.close()


class BareObjects:
    """S3 and Azure: an object is a resource, its version an ETag."""

    def __init__(
        self, http: BareHttp, container: str, listing: str, headers: Mapping[str, str], query: str = ""
    ) -> None:
        self._http = http
        self._container = container
        self._listing = listing
        self._headers = dict(headers)
        self._query = query

    def create(self, name: str, body: bytes) -> str:
        return self._put(name, body, {"If-None-Match": "*"})

    def swap(self, name: str, body: bytes, version: str) -> str:
        return self._put(name, body, {"If-Match": version})

    def read(self, name: str) -> bytes:
        return self._http.ask("GET", self._target(name), None, self._headers)[1]

    def read_many(self, names: Sequence[str]) -> None:
        for name in names:
            self.read(name)

    def list(self, prefix: str) -> None:
        self._http.ask("GET", f"/{self._container}?{self._listing}&prefix={prefix}", None, self._headers)

    def remove(self, name: str, version: str) -> None:
        self._http.ask("DELETE", self._target(name), None, {**self._headers, "If-Match": version})

    def _put(self, name: str, body: bytes, condition: dict[str, str]) -> str:
        answer, _ = self._http.ask("PUT", self._target(name), body, {**self._headers, **condition})
        etag = answer.getheader("ETag")
        assert etag
        return etag

    def _target(self, name: str) -> str:
        return f"/{self._container}/{name}{self._query}"


def bare_s3(http: BareHttp, bucket: str, *, signed: bool) -> BareObjects:
    """With the look of a signature where the server asks for one and does not check it."""
    return BareObjects(http, bucket, "list-type=2", SIGNED if signed else {})


def bare_azure(http: BareHttp, container: str, sas: str) -> BareObjects:
    headers = {"x-ms-blob-type": "BlockBlob"}
    return BareObjects(http, container, f"restype=container&comp=list&{sas}", headers, f"?{sas}")


class BareGcs:
    """The JSON API, with a boundary that is not random: the body is known."""

    _MULTIPART: Mapping[str, str] = {"Content-Type": "multipart/related; boundary=b"}

    def __init__(self, http: BareHttp, bucket: str) -> None:
        self._http = http
        self._objects = f"/storage/v1/b/{bucket}/o"

    def create(self, name: str, body: bytes) -> str:
        return self._post(name, body, "0")

    def swap(self, name: str, body: bytes, version: str) -> str:
        return self._post(name, body, version)

    def read(self, name: str) -> bytes:
        return self._http.ask("GET", f"/download{self._objects}/{name.replace('/', '%2F')}?alt=media")[1]

    def read_many(self, names: Sequence[str]) -> None:
        for name in names:
            self.read(name)

    def list(self, prefix: str) -> None:
        self._http.ask("GET", f"{self._objects}?prefix={prefix}")

    def remove(self, name: str, version: str) -> None:
        self._http.ask("DELETE", f"{self._objects}/{name.replace('/', '%2F')}?ifGenerationMatch={version}")

    def _post(self, name: str, body: bytes, generation: str) -> str:
        parts = (
            f'--b\r\nContent-Type: application/json\r\n\r\n{{"name": "{name}"}}\r\n'
            "--b\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        query = f"uploadType=multipart&fields=generation&ifGenerationMatch={generation}"
        target = f"/upload{self._objects}?{query}"
        _, data = self._http.ask("POST", target, parts + body + b"\r\n--b--", self._MULTIPART)
        return data.split(b'"generation":')[1].strip(b' "\n}').split(b'"')[0].decode()


class BareFiles:
    """A temporary file, synced, renamed, its directory synced; no condition, and no lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, name: str, body: bytes) -> str:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.with_suffix(".tmp")
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, body)
            os.fsync(fd)
        finally:
            os.close(fd)
        temp.replace(path)
        _sync(path.parent)
        return ""

    def swap(self, name: str, body: bytes, version: str) -> str:
        return self.create(name, body)

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def read_many(self, names: Sequence[str]) -> None:
        for name in names:
            self.read(name)

    def list(self, prefix: str) -> None:
        with os.scandir(self._folder / prefix) as entries:
            for entry in entries:
                entry.stat()

    def remove(self, name: str, version: str) -> None:
        path = self._folder / name
        path.unlink()
        _sync(path.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
