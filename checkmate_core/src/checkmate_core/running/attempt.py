"""RunningAttempt: what a stage can ask for while it is executed."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from checkmate_core.clock import Clock
from checkmate_core.errors import (
    BindException,
    StageTimeoutException,
    StorageUnavailableException,
    TaskCanceledException,
    TaskEngineException,
    TaskIOException,
)
from checkmate_core.notes import Cursor, Progress, StageNotes
from checkmate_core.running.pace import Pace
from checkmate_core.running.place import Place

if TYPE_CHECKING:
    from checkmate_core.stage import BaseStage

T = TypeVar("T")
_log = logging.getLogger(__name__)


class AttemptHost(Protocol):
    """What an attempt needs of the engine that makes it."""

    task_id: str
    clock: Clock

    @property
    def cancel_requested(self) -> bool: ...
    def look_for_cancel(self) -> None: ...
    def check_alive(self) -> None: ...
    def save_stage(self, stage: BaseStage[Any], notes: StageNotes, *, with_state: bool) -> None: ...
    def report_progress(self, stage: BaseStage[Any], progress: Progress) -> None: ...


class RunningAttempt:
    """One attempt of one stage, from its stored beginning to its end. Thread-safe.

    Attributes:
        stage: The stage.
        broken: The store's refusal of a save, after which the attempt cannot be concluded; whatever the
            stage makes of it, the engine ends the run with it.
    """

    def __init__(
        self, host: AttemptHost, stage: BaseStage[Any], *, timeout: float | None, write_cost: float
    ) -> None:
        """Begin.

        Args:
            host: The engine.
            stage: The stage.
            timeout: Seconds that it may take; None is any time.
            write_cost: Seconds that the write took which stored its beginning.
        """
        self.broken: TaskEngineException | None = None
        self._host = host
        self.stage = stage
        self._timeout = timeout
        self._begin = host.clock.monotonic()
        self._pace = Pace(host.clock, write_cost)
        self._cursors: dict[str, Cursor] = dict(stage.notes.cursors)
        self._loops: set[str] = set()
        self._progress: Progress | None = None
        self._tells_itself = False
        # Where a loop is: a `Progress` of it is made when it is stored, as that costs more than some items.
        self._counted: tuple[int, int | None, str] | None = None
        self._is_interrupted = False

    @property
    def notes(self) -> StageNotes:
        """The stage's notes as they are to be stored now."""
        if self._counted is not None:
            (done, total, message), self._counted = self._counted, None
            self._note_progress(done, total, message)
        stored = self.stage.notes
        return stored.but(cursors=dict(self._cursors), progress=self._progress or stored.progress)

    @property
    def seconds_left(self) -> float:
        """Until the time limit; infinite without one."""
        if self._timeout is None:
            return math.inf
        return self._timeout - (self._host.clock.monotonic() - self._begin)

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for the task to be canceled, as far as was seen."""
        return self._host.cancel_requested

    def take(self, notes: StageNotes) -> None:
        """Take these over, of the stage's other self in a child process."""
        self._cursors, self._progress = dict(notes.cursors), notes.progress

    def interrupt(self) -> None:
        """Let the next `check` of the stage's thread end it."""
        self._is_interrupted = True

    def check(self) -> None:
        """Raise if the attempt must not go on. Makes no request.

        Raises:
            LockLostException: The task is not this worker's any more.
            StageTimeoutException: Its time is over.
            asyncio.CancelledError: The asyncio task that awaits the stage's thread was canceled.
        """
        if self._is_interrupted:
            raise asyncio.CancelledError
        self._host.check_alive()
        if self.seconds_left <= 0:
            raise StageTimeoutException(
                f"stage {self.stage.stage_name!r} of task {self._host.task_id} took longer than its timeout of "
                f"{self._timeout:g} s"
            )

    def raise_if_canceled(self) -> None:
        """Raise if a cancel request was seen.

        Raises:
            TaskCanceledException: It was. The engine calls the stage's `cancel` and ends the run.
        """
        if self.cancel_requested:
            raise TaskCanceledException(
                f"somebody asked for task {self._host.task_id} to be canceled while stage "
                f"{self.stage.stage_name!r} ran"
            )

    def save(self) -> None:
        """Store the state as it is. See `BaseStage.checkpoint`."""
        self.check()
        with self._paid():
            self._save(with_state=True)
            self._host.look_for_cancel()

    def tell(self, done: float, total: float | None, message: str) -> bool:
        """Note progress; whether it is time to store it."""
        self._tells_itself, self._counted = True, None
        self._host.report_progress(self.stage, self._note_progress(done, total, message))
        self.check()
        return self._pace.is_due()

    def store_progress(self) -> None:
        """Store the progress alone, beside the state as it was last stored. A failure is logged."""
        with self._paid():
            self._save_if_possible(with_state=False)

    def loop(self, name: str, key: Callable[[T], object] | None) -> Place[T]:
        """Begin a loop where it was last saved.

        Raises:
            TaskEngineException: This attempt had a loop of that name.
        """
        where = f"of stage {self.stage.stage_name!r} of task {self._host.task_id}"
        if name in self._loops:
            raise TaskEngineException(
                f"there are two loops named {name!r} in an attempt {where}; give each resumable(…, name=…) of its own"
            )
        self._loops.add(name)
        return Place(self._cursors.get(name, Cursor()), key, f"loop {name!r} {where}")

    def advance(self, name: str, cursor: Cursor, total: int | None, every: int | None) -> bool:
        """An item is done; whether it is time to save."""
        self._cursors[name] = cursor
        if not self._tells_itself:
            self._counted = cursor.done, total, "" if name == "items" else name
        self.check()
        return cursor.done % every == 0 if every else self._pace.is_due()

    def save_paced(self) -> None:
        """Store the state; a store that cannot be reached is logged, and the work goes on."""
        with self._paid():
            self._save_if_possible(with_state=True)
            try:
                self._host.look_for_cancel()
            except TaskIOException as exc:
                _log.warning("could not look for a cancel request of task %s: %s", self._host.task_id, exc)
        if self._progress:
            self._host.report_progress(self.stage, self._progress)

    def _note_progress(self, done: float, total: float | None, message: str) -> Progress:
        at = datetime.fromtimestamp(self._host.clock.now(), UTC)
        self._progress = Progress(done=done, total=total, message=message, at=at)
        return self._progress

    @contextmanager
    def _paid(self) -> Iterator[None]:
        """What is requested here is paid for by the work to come."""
        begin = self._host.clock.monotonic()
        try:
            yield
        finally:
            self._pace.saved(self._host.clock.monotonic() - begin)

    def _save_if_possible(self, *, with_state: bool) -> None:
        try:
            self._save(with_state=with_state)
        except StorageUnavailableException as exc:
            # The lease decides for how long a store may be silent.
            self.broken = None
            _log.warning("could not save stage %r, going on: %s", self.stage.stage_name, exc)

    def _save(self, *, with_state: bool) -> None:
        try:
            self._host.save_stage(self.stage, self.notes, with_state=with_state)
        except (TaskIOException, BindException) as exc:
            self.broken = exc
            raise
