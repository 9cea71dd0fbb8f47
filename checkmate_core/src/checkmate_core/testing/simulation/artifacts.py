"""Artifacts in a simulated process: sent and read by the stage's own thread, and waited for in virtual time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, ParamSpec, TypeVar

from checkmate_core.artifacts import ArtifactPlace, ArtifactRef
from checkmate_core.artifacts.stored import StoredArtifacts
from checkmate_core.artifacts.upload import ArtifactUpload
from checkmate_core.clock import Clock
from checkmate_core.errors import StorageUnavailableException, TaskIOException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.types import ANY, Capability, Expect, ObjectInfo, RemoveExpect, StoredObject, Version

P = ParamSpec("P")
T = TypeVar("T")

PART_SIZE: Final = 16
_SENDS: Final = 4
_PAUSE_S: Final = 0.3


def content_of(name: str) -> bytes:
    """What is put under a name: three parts and a bit, of which two are alike."""
    return f"the content of {name}:".ljust(2 * PART_SIZE, ".").encode() + b"." * PART_SIZE + b"end"


def put(place: ArtifactPlace, clock: Clock, name: str) -> ArtifactRef:
    """Put the artifact of that name."""
    with _Upload(_patient(place, clock), PART_SIZE) as upload:
        upload.write(content_of(name))
        return upload.finish(name, "bytes", 0)


def read(place: ArtifactPlace, clock: Clock, ref: ArtifactRef) -> bytes:
    """All of an artifact, part by part."""
    with StoredArtifacts(_patient(place, clock)).open(ref) as file:
        return file.read()


class _InTurn(ThreadPoolExecutor):
    """Runs at once what is submitted: an order of threads could not be repeated."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001 - raised again by whoever asks for the result
            done.set_exception(exc)
        return done


class _Upload(ArtifactUpload):
    def _send(self) -> None:
        if self._pool is None:
            self._pool = _InTurn(1)
        super()._send()


def _patient(place: ArtifactPlace, clock: Clock) -> ArtifactPlace:
    return replace(place, io=_PatientTaskIO(place.io, clock))


class _PatientTaskIO:
    """Asks again in virtual time, so that nobody above does in real time."""

    def __init__(self, io: TaskIO, clock: Clock) -> None:
        self._io = io
        self._clock = clock
        self.base_url = io.base_url
        self.probe_scope = io.probe_scope

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._io.capabilities

    def build_url(self, obj_name: str) -> str:
        return self._io.build_url(obj_name)

    def exists(self, obj_name: str) -> bool:
        return self._ask(self._io.exists, obj_name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._ask(self._io.list, prefix)

    def read(self, obj_name: str) -> StoredObject:
        return self._ask(self._io.read, obj_name)

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        return self._ask(self._io.read_many, obj_names)

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return self._ask(self._io.write, obj_name, data, expect=expect)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self._ask(self._io.remove, obj_name, expect=expect)

    def _ask(self, request: Callable[..., T], *args: Any, **options: Any) -> T:
        for left in reversed(range(_SENDS)):
            try:
                return request(*args, **options)
            except StorageUnavailableException as exc:
                if not left:
                    raise TaskIOException(f"no answer after {_SENDS} sends") from exc
                self._clock.sleep(_PAUSE_S)
        raise AssertionError
