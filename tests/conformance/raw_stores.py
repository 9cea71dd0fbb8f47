"""The ways around the backends: a dict, plain files, and boto3."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
