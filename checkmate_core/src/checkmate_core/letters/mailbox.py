"""TaskMailbox: what others leave for a task's owner, without its lock: signals and cancel requests.

    <task_id>/cancel.json               a request to cancel the task
    <task_id>/signals/<event>.json      an event with its data, until the task has taken it

Letters change nothing of the task; its owner does, when it reads them, and writes what follows behind
its fence. Each belongs to the life of the task that its sender saw, and means nothing to another.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, TypeVar

from checkmate_core.clock import SYSTEM_CLOCK, Clock
from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    TaskEngineException,
    VersionConflictException,
)
from checkmate_core.io.cas import CasWriter
from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import cancel_object_name, check_event_name, signal_object_name
from checkmate_core.process import HOST
from checkmate_core.record import StoredDocument
from checkmate_core.types import ABSENT, ANY, Capability, Expect, StoredObject, Version

DATA_LIMIT: Final = 256 * 1024
"""Bytes of an event's data as JSON. More belongs into an object of your own, and its name into the event."""


class Letter(StoredDocument):
    """What is stored of any letter.

    Attributes:
        base_epoch: Life of the task that it is for.
        sent: When, by the sender's clock.
        host: Where the sender runs.
    """

    base_epoch: int
    sent: datetime
    host: str = HOST


class CancelRequest(Letter):
    """A wish that the task be canceled.

    Attributes:
        reason: Why, for people.
    """

    KIND: ClassVar[str] = "cancel request"

    reason: str = ""


class Signal(Letter):
    """An event.

    Attributes:
        event: Its name.
        data: What it says, in JSON terms.
        is_taken: The task has it, and the object stays only because the store cannot remove it.
    """

    KIND: ClassVar[str] = "signal"

    event: str
    data: Any = None
    is_taken: bool = False


LETTER = TypeVar("LETTER", bound=Letter)


class TaskMailbox:
    """The letters for one life of one task. Thread-safe."""

    def __init__(self, io: TaskIO, task_id: str, base_epoch: int, *, clock: Clock = SYSTEM_CLOCK) -> None:
        """Makes no request.

        Args:
            io: The store.
            task_id: The task.
            base_epoch: Its life; letters for another are ignored, and replaced.
            clock: Where time comes from.
        """
        self._io = io
        self._task_id = task_id
        self._base_epoch = base_epoch
        self._clock = clock
        self._writer = CasWriter(io, clock)

    def request_cancel(self, reason: str = "") -> None:
        """Leave a cancel request; one that is there already will do.

        Raises:
            TaskIOException: The store failed.
        """
        letter = CancelRequest(base_epoch=self._base_epoch, sent=self._now(), reason=reason)
        self._put(cancel_object_name(self._task_id), letter, replace=False)

    def read_cancel_request(self) -> CancelRequest | None:
        """The cancel request, if there is one."""
        found = self._read(cancel_object_name(self._task_id), CancelRequest)
        return found[1] if found else None

    def send(self, event: str, data: Any = None, *, replace: bool = False) -> None:
        """Leave a signal for a stage that waits for the event, or will.

        Args:
            event: Its name.
            data: What it says, in JSON terms.
            replace: Replace one of that name that was not taken yet.

        Raises:
            TaskEngineException: The name is none, or JSON cannot hold the data, or it is too large.
            VersionConflictException: A signal of that name waits already, and ``replace`` is False.
            TaskIOException: The store failed.
        """
        check_event_name(event)
        try:
            size = len(json.dumps(data, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as exc:
            raise TaskEngineException(
                f"the data of event {event!r} for task {self._task_id} is no JSON: {exc}"
            ) from exc
        if size > DATA_LIMIT:
            raise TaskEngineException(
                f"the data of event {event!r} for task {self._task_id} has {size} bytes, and {DATA_LIMIT} are allowed: "
                "store it elsewhere and send its name"
            )
        letter = Signal(base_epoch=self._base_epoch, sent=self._now(), event=event, data=data)
        name = signal_object_name(self._task_id, event)
        if not self._put(name, letter, replace=replace):
            raise VersionConflictException(
                f"task {self._task_id} has a signal {event!r} already that it has not taken yet "
                f"({self._io.build_url(name)}). Nothing was changed. Wait until it is taken, or replace it "
                "(replace=True, `checkmate signal --replace`)"
            )

    def read_signal(self, event: str) -> tuple[Version, Signal] | None:
        """The signal of that name with its version, if there is one."""
        return self._read(signal_object_name(self._task_id, event), Signal)

    def pick(self, name: str, kind: type[LETTER], found: Mapping[str, StoredObject]) -> LETTER | None:
        """The letter of that object name among objects that were read; None if it is none for this life."""
        return self._decode(name, found[name], kind) if name in found else None

    def discard_signal(self, signal: Signal, version: Version) -> None:
        """Remove a signal that was taken, unless another stands there by now."""
        name = signal_object_name(self._task_id, signal.event)
        if Capability.REMOVE_IF in self._io.capabilities:
            self._writer.remove(name, version)
        elif Capability.SWAP in self._io.capabilities:
            taken = Signal.model_validate({**signal.model_dump(exclude={"write_id"}), "is_taken": True})
            with suppress(VersionConflictException):
                self._writer.write(name, taken.encode(), taken.write_id, expect=version)
        else:
            self._io.remove(name)

    def _put(self, name: str, letter: Letter, *, replace: bool) -> bool:
        """Write it; False if one of this life is there and may not be replaced."""
        expect: Expect = ABSENT if Capability.CREATE in self._io.capabilities else ANY
        while True:
            try:
                self._writer.write(name, letter.encode(), letter.write_id, expect=expect)
            except VersionConflictException:
                try:
                    stored = self._io.read(name)
                except PersistenceDataNotFoundException:
                    expect = ABSENT
                    continue
                if not replace and self._decode(name, stored, type(letter)) is not None:
                    return False
                expect = stored.version
            else:
                return True

    def _read(self, name: str, kind: type[LETTER]) -> tuple[Version, LETTER] | None:
        try:
            stored = self._io.read(name)
        except PersistenceDataNotFoundException:
            return None
        letter = self._decode(name, stored, kind)
        return (stored.version, letter) if letter else None

    def _decode(self, name: str, stored: StoredObject, kind: type[LETTER]) -> LETTER | None:
        letter = kind.decode(stored.data, self._io.build_url(name))
        is_void = letter.base_epoch != self._base_epoch or (isinstance(letter, Signal) and letter.is_taken)
        return None if is_void else letter

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)


class CancelWatch:
    """Whether a cancel request was seen. Looked at by the renewal of the lock and at checkpoints."""

    def __init__(self) -> None:
        """Nothing is looked at before `open`."""
        self._mailbox: TaskMailbox | None = None
        self._is_requested = False

    @property
    def is_requested(self) -> bool:
        """Whether one was seen. Final. Makes no request."""
        return self._is_requested

    def open(self, mailbox: TaskMailbox) -> None:
        """Look into this mailbox from now on."""
        self._mailbox = mailbox

    def look(self) -> None:
        """Look once, unless one was seen.

        Raises:
            TaskIOException: The store failed.
        """
        if self._mailbox is not None and not self._is_requested:
            self._is_requested = self._mailbox.read_cancel_request() is not None
