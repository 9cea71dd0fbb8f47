"""Files that one stage leaves in the work folder for the next.

A stage may die at any moment and then simply runs again. So an output gets its name only when it
is whole and on disk, and the state carries its digest, so that the next stage can tell that it
reads exactly what the last one wrote.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

Record = dict[str, Any]
Advance = Callable[[int, int], None]
"""Told how many of how many items are done."""


class Output(BaseModel):
    """What the state says of an output: never its content.

    Attributes:
        path: Path relative to the work folder.
        sha256: Digest of the content.
        records: How many documents or chunks it holds.
    """

    path: str
    sha256: str
    records: int


class StaleOutputError(Exception):
    """A file is missing, or is not what an earlier stage recorded."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``target`` if the block ends well."""
    # A name of its own for every run: a process thought dead may still be writing to another.
    partial = target.with_name(f"{target.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a directory cannot be opened
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def discard(folder: Path, *names: str) -> None:
    """Remove outputs, whole or half-written. What is not there is no error."""
    for name in names:
        for path in (folder / name, *folder.glob(f"{name}*.partial*")):
            path.unlink(missing_ok=True)


def write_records(folder: Path, name: str, records: Iterable[Record]) -> Output:
    """Write one JSON object a line, and say what was written."""
    digest = hashlib.sha256()
    count = 0
    with replacing(folder / name) as partial, partial.open("wb") as out:
        for record in records:
            # ASCII, so that no character inside a text can be taken for the end of a line
            line = json.dumps(record, sort_keys=True).encode("ascii") + b"\n"
            digest.update(line)
            out.write(line)
            count += 1
    return Output(path=name, sha256=digest.hexdigest(), records=count)


def read_records(folder: Path, output: Output) -> Iterator[Record]:
    """The records of an output, after its digest has been found right.

    Raises:
        StaleOutputError: Before the first record, if the file is gone or has changed.
    """
    path = folder / output.path
    verify_file(path, output.sha256)
    return _lines(path)


def verify_file(path: Path, sha256: str) -> None:
    """Raise StaleOutputError unless the file has this digest."""
    try:
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except FileNotFoundError:
        raise StaleOutputError(f"{path} is missing; use the same work folder, or start anew") from None
    if found != sha256:
        raise StaleOutputError(f"{path} has changed since an earlier stage wrote it; start anew")


def _lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)
