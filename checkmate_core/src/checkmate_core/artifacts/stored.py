"""StoredArtifacts: reading the artifacts of a task."""

import os
from collections.abc import Generator
from contextlib import closing, suppress
from io import BufferedReader, BytesIO
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO, Self, TypeVar, overload
from uuid import uuid4

from checkmate_core.artifacts.codecs import codec_named
from checkmate_core.artifacts.place import ArtifactPlace
from checkmate_core.artifacts.reading import PartsFile, read_in_order
from checkmate_core.artifacts.ref import ArtifactRef
from checkmate_core.errors import MissingStateException

T = TypeVar("T")


class StoppedError(Exception):
    """Work in a thread was given up, for whoever waited for it was cancelled."""


class StoredArtifacts:
    """The artifacts of one life of a task, for reading. Thread-safe.

    Whatever is handed out was verified by its digest. An artifact larger than a part is never in
    memory as a whole, except where the whole is asked for.
    """

    def __init__(self, place: ArtifactPlace) -> None:
        """Artifacts of a task. Makes no request."""
        self._place = place

    @overload
    def load(self, ref: ArtifactRef | None) -> Any: ...
    @overload
    def load(self, ref: ArtifactRef | None, expected: type[T]) -> T: ...
    def load(self, ref: ArtifactRef | None, expected: type[T] | None = None) -> Any:
        """The value: bytes, a model, an array, a table, as its codec says.

        Args:
            ref: What `put` returned.
            expected: The type that is wanted. A model is made only if one is named, since no class is
                imported because a bucket says so; otherwise JSON data is returned.

        Raises:
            MissingStateException: There is no ref.
            IncompatibleTaskException: The value does not fit the type.
            CorruptObjectException: What is stored is not what was put.
            PersistenceDataNotFoundException: It is not there.
            LockLostException: Another owner has the task.
            TaskEngineException: The codec's library is not installed.
            TaskIOException: The store failed.
        """
        ref = self._given(ref)
        codec = codec_named(ref.codec, self._what(ref))
        with self.open(ref) as file:
            return codec.decode(file, expected, self._what(ref))

    def read(self, ref: ArtifactRef | None) -> bytes:
        """All of its bytes.

        Raises:
            MissingStateException: There is no ref.
            CorruptObjectException: What is stored is not what was put.
            PersistenceDataNotFoundException: It is not there.
            LockLostException: Another owner has the task.
            TaskIOException: The store failed.
        """
        ref = self._given(ref)
        if ref.kept != "parts":
            return self._single(ref)
        content = BytesIO()
        with closing(self._parts(ref)) as parts:
            content.writelines(parts)
        return content.getvalue()

    def open(self, ref: ArtifactRef | None) -> BinaryIO:
        """A file for reading, seekable. One part of it is in memory, and verified before it is handed out.

        The digest of the whole is verified when the file is read from its start to its end; with seeks,
        the digests of the parts that are read.

        Raises:
            MissingStateException: There is no ref.
            CorruptObjectException: What is stored is not what was put; may come from a later read, too.
            PersistenceDataNotFoundException: It is not there; likewise.
            LockLostException: Another owner has the task; likewise.
            TaskIOException: The store failed; likewise.
        """
        ref = self._given(ref)
        if ref.kept != "parts":
            return BytesIO(self._single(ref))
        what = self._what(ref)
        return BufferedReader(PartsFile(self._place, self._place.get_index(ref.sha256, ref.size, what), what))

    def download(self, ref: ArtifactRef | None, path: str | os.PathLike[str]) -> Path:
        """Write it to a local file, which is replaced only by the whole, verified one.

        Args:
            ref: What `put` returned.
            path: The file. Its folder must exist; a temporary file is written beside it.

        Returns:
            The file.

        Raises:
            OSError: The file cannot be written.
            MissingStateException: There is no ref.
            CorruptObjectException: What is stored is not what was put.
            PersistenceDataNotFoundException: It is not there.
            LockLostException: Another owner has the task.
            TaskIOException: The store failed.
        """
        ref = self._given(ref)
        target = Path(path)
        temp = target.with_name(f".{target.name[:100]}.{uuid4().hex}.part")
        try:
            with temp.open("xb") as file:
                if ref.kept != "parts":
                    file.write(self._single(ref))
                else:
                    with closing(self._parts(ref)) as parts:
                        file.writelines(parts)
            temp.replace(target)
        finally:
            with suppress(FileNotFoundError):
                temp.unlink()
        return target

    @overload
    async def aload(self, ref: ArtifactRef | None) -> Any: ...
    @overload
    async def aload(self, ref: ArtifactRef | None, expected: type[T]) -> T: ...
    async def aload(self, ref: ArtifactRef | None, expected: type[T] | None = None) -> Any:
        """`load` in a thread. If the caller is cancelled, the thread stops at its next part and is waited for."""
        from checkmate_core.threads import in_own_thread  # asyncio is loaded only when used

        stop = Event()
        own = self._until(stop)
        if expected is None:
            return await in_own_thread(lambda: own.load(ref), stop.set)
        return await in_own_thread(lambda: own.load(ref, expected), stop.set)

    async def aread(self, ref: ArtifactRef | None) -> bytes:
        """`read` in a thread, as `aload`."""
        from checkmate_core.threads import in_own_thread

        stop = Event()
        own = self._until(stop)
        return await in_own_thread(lambda: own.read(ref), stop.set)

    async def adownload(self, ref: ArtifactRef | None, path: str | os.PathLike[str]) -> Path:
        """`download` in a thread, as `aload`."""
        from checkmate_core.threads import in_own_thread

        stop = Event()
        own = self._until(stop)
        return await in_own_thread(lambda: own.download(ref, path), stop.set)

    def _until(self, stop: Event) -> Self:
        def check() -> None:
            if stop.is_set():
                raise StoppedError

        return type(self)(self._place.until(check))

    def _given(self, ref: ArtifactRef | None) -> ArtifactRef:
        if ref is None:
            raise MissingStateException(
                f"there is no artifact to read: the ref is None. An earlier stage of task {self._place.task_id} must put it"
            )
        return ref

    def _single(self, ref: ArtifactRef) -> bytes:
        what = self._what(ref)
        return ref.inline_bytes(what) if ref.kept == "inline" else self._place.get(ref.sha256, ref.size, what)

    def _parts(self, ref: ArtifactRef) -> Generator[bytes]:
        what = self._what(ref)
        return read_in_order(self._place, self._place.get_index(ref.sha256, ref.size, what), what)

    def _what(self, ref: ArtifactRef) -> str:
        return f"artifact {ref.name!r} of task {self._place.task_id}"
