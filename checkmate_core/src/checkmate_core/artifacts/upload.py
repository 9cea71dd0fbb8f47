"""A binary file for writing that becomes an artifact."""

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING

from checkmate_core.artifacts.index import ArtifactIndex
from checkmate_core.artifacts.place import PARALLEL, ArtifactPlace
from checkmate_core.artifacts.ref import ArtifactRef
from checkmate_core.transfer import digest

if TYPE_CHECKING:
    from typing_extensions import Buffer


class ArtifactUpload(io.RawIOBase):
    """Takes bytes of any number, and sends a part whenever one is full.

    A part is an object of its own, named by its content, so what arrived before a crash is not sent
    again. Which parts are there is asked for only as long as some are: at most `PARALLEL` are under way
    at once, hence behind so many missing ones in a row an upload that was cut off has sent nothing.
    """

    def __init__(self, place: ArtifactPlace, part_size: int) -> None:
        super().__init__()
        self._place = place
        self._part_size = part_size
        self._whole = sha256()
        self._size = 0
        self._buffer = bytearray()
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: deque[Future[tuple[str, bool]]] = deque()
        self._parts: list[str] = []
        self._missing_in_a_row = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: "Buffer", /) -> int:
        left = memoryview(data).cast("B")
        length = len(left)
        self._whole.update(left)
        self._size += length
        while left:
            # A part is sent only when there is more: what fits into one is a single object.
            if len(self._buffer) == self._part_size:
                self._send()
            room = self._part_size - len(self._buffer)
            self._buffer += left[:room]
            left = left[room:]
        return length

    def finish(self, name: str, codec: str, inline_below: int) -> ArtifactRef:
        """The ref of all that was written, once all of it is stored."""
        whole = self._whole.hexdigest()
        if self._pool is None:
            data = bytes(self._buffer)
            if len(data) < inline_below:
                return ArtifactRef.of_bytes(name, data, codec)
            self._place.put(whole, data)
            return ArtifactRef(name=name, sha256=whole, size=self._size, codec=codec, kept="object")
        self._send()
        while self._under_way:
            self._collect()
        self._place.put_index(
            ArtifactIndex(sha256=whole, size=self._size, part_size=self._part_size, parts=self._parts)
        )
        return ArtifactRef(name=name, sha256=whole, size=self._size, codec=codec, kept="parts")

    def close(self) -> None:
        """Wait until nothing is under way: nothing may be sent any more once the task was let go."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        super().close()

    def _send(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="checkmate uploads")
        if len(self._under_way) == PARALLEL:
            self._collect()
        part = bytes(self._buffer)
        self._buffer.clear()
        self._under_way.append(self._pool.submit(self._put, part, look=self._missing_in_a_row < PARALLEL))

    def _put(self, part: bytes, *, look: bool) -> tuple[str, bool]:
        name = digest(part)
        return name, self._place.put(name, part, look=look)

    def _collect(self) -> None:
        name, was_there = self._under_way.popleft().result()
        self._parts.append(name)
        self._missing_in_a_row = 0 if was_there else self._missing_in_a_row + 1
