"""Artifacts in parts, read in order with a few parts ahead, or as a file with any part at any time."""

import io
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING

from checkmate_core.artifacts.index import ArtifactIndex
from checkmate_core.artifacts.place import PARALLEL, ArtifactPlace
from checkmate_core.errors import CorruptObjectException

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Proof:
    """The digest of the whole, from its parts in order."""

    def __init__(self, index: ArtifactIndex, what: str) -> None:
        self._index = index
        self._what = what
        self._hash = sha256()
        self._parts = 0

    def add(self, part: int, data: bytes) -> None:
        """Take a part into account if it is the next one; the last one must make up the whole.

        Raises:
            CorruptObjectException: It does not.
        """
        if part != self._parts:
            return
        self._hash.update(data)
        self._parts += 1
        if self._parts == len(self._index.parts) and self._hash.hexdigest() != self._index.sha256:
            raise CorruptObjectException(
                f"{self._what} is not what was put there: each of its {self._parts} parts is what its index says, "
                f"but together they have the SHA-256 {self._hash.hexdigest()}, not {self._index.sha256}. Restore the "
                "index from a backup, or have a new task make the artifact again"
            )


def read_in_order(place: ArtifactPlace, index: ArtifactIndex, what: str) -> Generator[bytes]:
    """All parts in order, each verified, the last one only once the whole is.

    Raises:
        CorruptObjectException: A part, or the whole, is not what was put.
        PersistenceDataNotFoundException: A part is not there.
    """
    proof = _Proof(index, what)
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="checkmate reads") as pool:
        ahead: deque[Future[bytes]] = deque()
        parts = iter(range(len(index.parts)))
        try:
            for number in count():
                while len(ahead) < PARALLEL and (part := next(parts, None)) is not None:
                    ahead.append(pool.submit(place.get, index.parts[part], index.size_of(part), what))
                if not ahead:
                    return
                data = ahead.popleft().result()
                proof.add(number, data)
                yield data
                # One part less in memory while the next are fetched.
                del data
        finally:
            for future in ahead:
                future.cancel()


class PartsFile(io.RawIOBase):
    """An artifact in parts as a file for reading, seekable; one part of it is in memory."""

    def __init__(self, place: ArtifactPlace, index: ArtifactIndex, what: str) -> None:
        super().__init__()
        self._place = place
        self._index = index
        self._what = what
        self._proof = _Proof(index, what)
        self._position = 0
        self._part = -1
        self._data = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._index.size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: "Buffer", /) -> int:
        room = memoryview(buffer).cast("B")
        if self._position >= self._index.size:
            return 0
        part, start = divmod(self._position, self._index.part_size)
        if part != self._part:
            self._load(part)
        taken = self._data[start : start + len(room)]
        room[: len(taken)] = taken
        self._position += len(taken)
        return len(taken)

    def _load(self, part: int) -> None:
        self._part, self._data = -1, b""
        data = self._place.get(self._index.parts[part], self._index.size_of(part), self._what)
        self._proof.add(part, data)
        self._part, self._data = part, data
