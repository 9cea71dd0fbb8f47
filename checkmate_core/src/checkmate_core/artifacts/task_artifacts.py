"""TaskArtifacts: `self.artifacts` of a stage."""

import io
from collections.abc import Callable
from pathlib import Path
from shutil import copyfileobj
from threading import Event
from typing import Any, Protocol, TypeAlias

from pydantic import BaseModel

from checkmate_core.artifacts.codecs import CODECS, codec_for
from checkmate_core.artifacts.ref import INLINE_BELOW, ArtifactRef, check_put
from checkmate_core.artifacts.stored import StoredArtifacts
from checkmate_core.artifacts.upload import ArtifactUpload
from checkmate_core.errors import InvalidStateException

_CHUNK = 1024 * 1024


class BinaryFile(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int = ..., /) -> bytes: ...


class Array(Protocol):
    """A `numpy.ndarray`."""

    @property
    def dtype(self) -> Any: ...
    @property
    def strides(self) -> Any: ...


class Table(Protocol):
    """A `pyarrow.Table`."""

    @property
    def schema(self) -> Any: ...
    @property
    def num_rows(self) -> int: ...


Value: TypeAlias = bytes | bytearray | memoryview | Path | BinaryFile | BaseModel | Array | Table
Encode: TypeAlias = Callable[[ArtifactUpload], object]


class TaskArtifacts(StoredArtifacts):
    """The artifacts of a task that this process owns. Thread-safe.

    An artifact is named by its content: putting the same content again stores nothing new. It goes
    when its task is removed.

    Attributes:
        part_size: Bytes of one object. What is larger is stored in parts of this size.
    """

    part_size: int = 16 * 1024 * 1024

    def put(
        self, name: str, value: Value, *, codec: str | None = None, inline_below: int = INLINE_BELOW
    ) -> ArtifactRef:
        """Store a large value, and return what a state keeps of it.

        What is larger than a part is sent part by part, a few at once, and never in memory as a whole.
        Cut off and tried again, it sends only the parts that had not arrived.

        Args:
            name: For people. Two artifacts may have the same.
            value: Bytes, a `pathlib.Path` or an open binary file (from where it stands to its end), a
                pydantic model, a numpy array, or a pyarrow Table.
            codec: Of bytes and files: what they are (``json``, ``npy``, ``parquet``), for `load`;
                ``bytes`` otherwise. Of other values it goes by the type.
            inline_below: A value of fewer bytes is kept in the ref, hence in the state. 0: never.

        Returns:
            The ref. What it names is durable.

        Raises:
            InvalidStateException: It is no such value, its codec cannot hold it, or the name or a size
                is out of range. Nothing was stored under the ref.
            OSError: The file cannot be read.
            LockLostException: Another owner has the task; parts may have been stored.
            TaskEngineException: The codec's library is not installed.
            TaskIOException: The store failed.
        """
        check_put(name, inline_below, self._place.task_id)
        what = f"artifact {name!r} of task {self._place.task_id}"
        codec_name, encode = _encoding(value, codec, what)
        self._place.check_held()
        with ArtifactUpload(self._place, self.part_size) as upload:
            encode(upload)
            return upload.finish(name, codec_name, inline_below)

    async def aput(
        self, name: str, value: Value, *, codec: str | None = None, inline_below: int = INLINE_BELOW
    ) -> ArtifactRef:
        """`put` in a thread, as `aload`."""
        from checkmate_core.threads import in_own_thread  # asyncio is loaded only when used

        stop = Event()
        own = self._until(stop)
        return await in_own_thread(
            lambda: own.put(name, value, codec=codec, inline_below=inline_below), stop.set
        )


def _encoding(value: Any, codec: str | None, what: str) -> tuple[str, Encode]:
    if codec is not None and codec not in CODECS:
        raise InvalidStateException(f"{what}: there is no codec {codec!r}; there are {', '.join(CODECS)}")
    if isinstance(value, str):
        raise InvalidStateException(
            f"{what} was given as text, which may mean a file or be the value: put Path(…) or ….encode()"
        )
    found = codec_for(value)
    if found is None:
        if isinstance(value, Path):
            return codec or "bytes", lambda upload: _send_path(value, upload)
        if not isinstance(value, io.TextIOBase) and hasattr(value, "read"):
            return codec or "bytes", lambda upload: _send_file(value, upload, what)
        raise InvalidStateException(
            f"{what} is a {type(value).__module__}.{type(value).__qualname__}. It can be bytes, a pathlib.Path, a "
            "file opened in binary mode, a pydantic model, a numpy array or a pyarrow Table; make one of these of it"
        )
    if codec not in (None, found.name) and found.name != "bytes":
        raise InvalidStateException(
            f"{what} is a {type(value).__name__}, which is stored as {found.name}, not as {codec}. Leave the codec out"
        )
    return codec or found.name, lambda upload: found.encode(value, upload, what)


def _send_path(path: Path, upload: ArtifactUpload) -> None:
    with path.open("rb") as file:
        copyfileobj(file, upload, _CHUNK)


def _send_file(file: BinaryFile, upload: ArtifactUpload, what: str) -> None:
    while chunk := file.read(_CHUNK):
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise InvalidStateException(
                f"{what} is a file whose read() returns {type(chunk).__name__}: open it in binary mode"
            )
        upload.write(chunk)
