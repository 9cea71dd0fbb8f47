"""Which operations the store lets these credentials do. The error of each says what is missing."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from checkmate_core.doctor.findings import Permission
from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import probe_object_name
from checkmate_core.probe import new_body
from checkmate_core.types import ABSENT, Capability, Expect, Version

T = TypeVar("T")


def try_operations(io: TaskIO) -> tuple[tuple[Permission, ...], tuple[str, ...]]:
    """Do everything that an engine does to a store, each once.

    Returns:
        What was tried; and the URL of the object where it could not be removed.
    """
    trial = _Trial(io)
    try:
        trial.run()
    except BaseException:
        with suppress(TaskIOException):
            io.remove(trial.name)
        raise
    return tuple(trial.tried), trial.left_behind


class _Trial:
    def __init__(self, io: TaskIO) -> None:
        self.io = io
        self.name = probe_object_name()
        self.tried: list[Permission] = []
        self.left_behind: tuple[str, ...] = ()

    def run(self) -> None:
        self._attempt("read of a missing object", self._read_missing)
        version = self._attempt("create", lambda: self._write(Capability.CREATE, ABSENT))
        if self.tried[-1].is_unsupported:
            version = self._attempt(
                "write without a condition", lambda: self.io.write(self.name, new_body()[0])
            )
        if version is None:
            self._attempt("read", self._read_missing)
        else:
            written = version
            self._attempt("read", lambda: self.io.read(self.name))
            self._attempt("swap", lambda: self._write(Capability.SWAP, written))
        self._attempt("list", lambda: self._list(is_there=version is not None))
        self._attempt("remove", lambda: self.io.remove(self.name))
        if version is not None and self.tried[-1].error:
            self.left_behind = (self.io.build_url(self.name),)

    def _attempt(self, operation: str, action: Callable[[], T]) -> T | None:
        try:
            result = action()
        except UnsupportedBackendException as exc:
            self.tried.append(Permission(operation, str(exc), is_unsupported=True))
        except VersionConflictException as exc:
            why = f"refused though its condition held: {exc}"
            self.tried.append(Permission(operation, why, is_unsupported=True))
        except TaskIOException as exc:
            self.tried.append(Permission(operation, str(exc)))
        else:
            self.tried.append(Permission(operation))
            return result
        return None

    def _write(self, needed: Capability, expect: Expect) -> Version:
        if needed not in self.io.capabilities:
            raise UnsupportedBackendException(
                f"the backend of {self.io.base_url} does not declare {needed.name}"
            )
        data, _ = new_body()
        try:
            return self.io.write(self.name, data, expect=expect)
        except VersionConflictException:
            # A lost response that the SDK sent again. Not by `CasWriter`: one that is refused would be
            # sent five times, and one that nobody answers is waited for as often.
            found = self.io.read(self.name)
            if found.data != data:
                raise
            return found.version

    def _read_missing(self) -> None:
        try:
            self.io.read(self.name)
        except PersistenceDataNotFoundException:
            return

    def _list(self, *, is_there: bool) -> None:
        found = [info.name for info in self.io.list(self.name)]
        if is_there and self.name not in found:
            raise TaskIOException(
                f"{self.io.build_url(self.name)} was written and is not listed: listings here are late or cached, so "
                "that tasks would be overlooked. Use another store"
            )
