"""The ways around the backends: a dict, plain files, boto3, plain HTTP, and Azure's synchronous SDK."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

from checkmate_core.io.memory import MemoryTaskIO


class MemoryRaw:
    def __init__(self, store: MemoryTaskIO) -> None:
        self.store = store
        self.neighbours: dict[str, MemoryRaw] = {}

    def get(self, name: str) -> bytes | None:
        stored = self.store.objects.get(name)
        return None if stored is None else stored[0]

    def put(self, name: str, data: bytes) -> None:
        self.store.objects[name] = (data, datetime.now(UTC))

    def delete(self, name: str) -> None:
        self.store.objects.pop(name, None)

    def names(self) -> set[str]:
        return set(self.store.objects)

    def beside(self, suffix: str) -> "MemoryRaw":
        neighbour = MemoryRaw(MemoryTaskIO(self.store.base_url + suffix))
        return self.neighbours.setdefault(suffix, neighbour)


@dataclass
class FileRaw:
    folder: Path

    # The lock files and the temporary files of the backend.
    PRIVATE = ".checkmate"

    def get(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def names(self) -> set[str]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        relative = (path.relative_to(self.folder) for path in found)
        return {path.as_posix() for path in relative if path.parts[0] != self.PRIVATE}

    def beside(self, suffix: str) -> "FileRaw":
        return FileRaw(Path(f"{self.folder}{suffix}"))


@dataclass
class S3Raw:
    s3: Any
    bucket: str
    prefix: str

    def get(self, name: str) -> bytes | None:
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")
        except self.s3.exceptions.NoSuchKey:
            return None
        with answer["Body"] as body:
            data = body.read()
        assert isinstance(data, bytes)
        return data

    def put(self, name: str, data: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}", Body=data)

    def delete(self, name: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")

    def names(self) -> set[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}/"
        )
        keys = (entry["Key"] for page in pages for entry in page.get("Contents", ()))
        return {key.removeprefix(f"{self.prefix}/") for key in keys}

    def beside(self, suffix: str) -> "S3Raw":
        return S3Raw(self.s3, self.bucket, self.prefix + suffix)


@dataclass
class GcsRaw:
    http: urllib3.PoolManager
    endpoint: str
    bucket: str
    prefix: str

    @classmethod
    @contextmanager
    def connected(cls, endpoint: str, bucket: str, prefix: str) -> Iterator["GcsRaw"]:
        with urllib3.PoolManager(maxsize=32, retries=False) as http:
            yield cls(http, endpoint, bucket, prefix)

    def get(self, name: str) -> bytes | None:
        return self._ask("GET", f"/storage/v1/b/{self.bucket}/o/{self._key(name)}?alt=media")

    def put(self, name: str, data: bytes) -> None:
        self._ask(
            "POST", f"/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={self._key(name)}", data
        )

    def delete(self, name: str) -> None:
        self._ask("DELETE", f"/storage/v1/b/{self.bucket}/o/{self._key(name)}")

    def names(self) -> set[str]:
        found: set[str] = set()
        token: str | None = ""
        while token is not None:
            body = self._ask(
                "GET",
                f"/storage/v1/b/{self.bucket}/o?prefix={quote(self.prefix, safe='')}%2F&pageToken={quote(token, safe='')}",
            )
            page = json.loads(body or "{}")
            found |= {item["name"].removeprefix(f"{self.prefix}/") for item in page.get("items", ())}
            token = page.get("nextPageToken")
        return found

    def beside(self, suffix: str) -> "GcsRaw":
        return replace(self, prefix=self.prefix + suffix)

    def _key(self, name: str) -> str:
        return quote(f"{self.prefix}/{name}", safe="")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes | None:
        answer = self.http.request(method, f"{self.endpoint}{path}", body=body)
        assert answer.status in (200, 204, 404), answer.data
        return None if answer.status == 404 else answer.data


@dataclass
class AzureRaw:
    container: ContainerClient
    prefix: str

    def get(self, name: str) -> bytes | None:
        try:
            return self.container.download_blob(f"{self.prefix}/{name}").readall()
        except ResourceNotFoundError:
            return None

    def put(self, name: str, data: bytes) -> None:
        self.container.upload_blob(f"{self.prefix}/{name}", data, overwrite=True)

    def delete(self, name: str) -> None:
        with suppress(ResourceNotFoundError):
            self.container.delete_blob(f"{self.prefix}/{name}")

    def names(self) -> set[str]:
        names = self.container.list_blob_names(name_starts_with=f"{self.prefix}/")
        return {name.removeprefix(f"{self.prefix}/") for name in names}

    def beside(self, suffix: str) -> "AzureRaw":
        return replace(self, prefix=self.prefix + suffix)
