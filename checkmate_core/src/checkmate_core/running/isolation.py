"""A stage in a child process of its own: it can be ended wherever it is, and its death is not ours.

The child has the stage's code and a pipe; the parent keeps the task: whatever the stage asks to be stored goes
through the pipe, behind the parent's fence. A child whose parent is gone ends itself.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import threading
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from checkmate_core.artifacts import ArtifactPlace
from checkmate_core.clock import SYSTEM_CLOCK
from checkmate_core.errors import BindException, TaskEngineException, TaskIOException
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.io.protocol import TaskIO
from checkmate_core.notes import Progress, StageNotes
from checkmate_core.running.attempt import RunningAttempt
from checkmate_core.state import BaseStageState

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from checkmate_core.hosting import StageHost
    from checkmate_core.stage import BaseStage

_TICK: Final = 0.1
"""Seconds between two looks at whether the child may go on."""

_GRACE: Final = 5.0
"""Seconds for a child to end when told to, before it is killed."""


@dataclass(frozen=True, slots=True)
class _Save:
    """The child wants its state stored."""

    state: BaseStageState
    notes: StageNotes
    with_state: bool


@dataclass(frozen=True, slots=True)
class _End:
    """The child is done."""

    state: BaseStageState
    notes: StageNotes
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """The parent's to a `_Save`."""

    error: Exception | None


@dataclass(frozen=True, slots=True)
class _CancelRequested:
    """The parent saw a cancel request."""


def run_isolated(host: StageHost[Any, Any], stage: BaseStage[Any], previous: BaseStageState) -> None:
    """Execute a stage in a child process, started afresh (spawn), and take its state from there.

    Raises:
        ChildProcessError: The child died. A failed attempt like any other.
        TaskEngineException: The stage cannot be pickled.
        BaseException: What the stage raised, or what ended the attempt.
    """
    import multiprocessing  # few stages are isolated, and it is slow to load

    attempt = host.attempt_of(stage)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    place = host.artifact_place
    facts = _Facts(host.task_id, host.fencing_token, _portable(place.io), place.base_epoch)
    try:
        cargo = pickle.dumps((stage, stage.notes, previous, facts))
    except Exception as exc:
        raise TaskEngineException(
            f"stage {stage.stage_name!r} of task {host.task_id} is isolated, so it must be picklable: {exc}"
        ) from exc
    child = context.Process(
        target=_child_main, args=(theirs, cargo), name=f"checkmate stage {stage.stage_name}", daemon=False
    )
    child.start()
    theirs.close()
    try:
        end = _serve(host, stage, attempt, ours)
    finally:
        child.terminate()
        child.join(_GRACE)
        if child.is_alive():
            child.kill()
            child.join()
        exit_code = child.exitcode
        child.close()
        ours.close()
    if end is None:
        raise ChildProcessError(
            f"the process of stage {stage.stage_name!r} of task {host.task_id} died (exit code {exit_code})"
        )
    _take_state(stage, end.state)
    attempt.take(end.notes)
    if end.error is not None:
        raise end.error


def _serve(
    host: StageHost[Any, Any], stage: BaseStage[Any], attempt: RunningAttempt, pipe: Connection
) -> _End | None:
    has_told = False
    while True:
        attempt.check()
        if attempt.cancel_requested and not has_told:
            has_told = True
            pipe.send(_CancelRequested())
        if not pipe.poll(_TICK):
            continue
        try:
            message = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from our own child
        except EOFError:
            return None
        if isinstance(message, _End):
            return message
        if isinstance(message, Progress):
            host.report_progress(stage, message)
        else:
            pipe.send(_Answer(_save(host, stage, attempt, message)))
            if attempt.broken is not None:
                raise attempt.broken


def _portable(io: TaskIO) -> TaskIO | None:
    """The store, if another process can open it."""
    try:
        pickle.dumps(io)
    except Exception:  # noqa: BLE001 - whatever keeps it here
        return None
    return None if isinstance(io, MemoryTaskIO) else io


def _save(
    host: StageHost[Any, Any], stage: BaseStage[Any], attempt: RunningAttempt, wish: _Save
) -> Exception | None:
    if wish.with_state:
        _take_state(stage, wish.state)
    try:
        host.save_stage(stage, wish.notes, with_state=wish.with_state)
        host.look_for_cancel()
    except (TaskIOException, BindException) as exc:
        attempt.broken = exc
        return exc
    except Exception as exc:  # noqa: BLE001 - raised again in the child
        return exc
    attempt.take(wish.notes)
    return None


def _take_state(stage: BaseStage[Any], state: BaseStageState) -> None:
    kept = {name: getattr(stage.state, name) for name in ("status", "attempts", "history")}
    stage.state = state.model_copy(update=kept)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the child knows of its engine."""

    task_id: str
    fencing_token: int | None
    io: TaskIO | None
    base_epoch: int


class ChildEngine:
    """What stands for the engine in the child.

    Attributes:
        task_id: The task.
        fencing_token: The parent's.
        clock: The machine's.
    """

    def __init__(self, pipe: Connection, stage: BaseStage[Any], facts: _Facts) -> None:
        self.task_id = facts.task_id
        self.fencing_token = facts.fencing_token
        self.clock = SYSTEM_CLOCK
        self.cancel_requested = False
        self._facts = facts
        self._pipe = pipe
        self._stage = stage
        self._answers: SimpleQueue[_Answer] = SimpleQueue()
        self._lock = threading.Lock()
        # The time limit is the parent's to keep.
        self._attempt = RunningAttempt(self, stage, timeout=None, write_cost=0.0)
        threading.Thread(target=self._listen, name="checkmate-parent", daemon=True).start()

    @property
    def artifact_place(self) -> ArtifactPlace:
        """Where the task's artifacts are.

        Raises:
            TaskEngineException: This process cannot open the store.
        """
        facts = self._facts
        if facts.io is None:
            raise TaskEngineException(
                f"the store of task {facts.task_id} cannot be opened in another process (it is in memory, or was "
                "opened with a key in hand), so its isolated stages have no artifacts"
            )
        return ArtifactPlace(
            io=facts.io, task_id=facts.task_id, base_epoch=facts.base_epoch, check_held=self.check_alive
        )

    def attempt_of(self, stage: BaseStage[Any]) -> RunningAttempt:
        """The attempt."""
        return self._attempt

    def check_stage(self, stage: BaseStage[Any]) -> None:
        """Nothing: the parent ends this process when it must not go on."""

    def check_alive(self) -> None:
        """As `check_stage`."""

    def look_for_cancel(self) -> None:
        """Nothing: the parent has looked when it answered the save."""

    def save_stage(self, stage: BaseStage[Any], notes: StageNotes, *, with_state: bool) -> None:
        """Ask the parent to."""
        with self._lock:
            self._pipe.send(_Save(stage.state, notes, with_state))
            answer = self._answers.get()
        if answer.error is not None:
            raise answer.error
        stage.take_notes(notes)

    def report_progress(self, stage: BaseStage[Any], progress: Progress) -> None:
        """Tell the parent."""
        with self._lock:
            self._pipe.send(progress)

    def end(self, error: BaseException | None) -> None:
        """Tell the parent how it went."""
        end = _End(self._stage.state, self._attempt.notes, error)
        try:
            cargo = pickle.dumps(end)
            pickle.loads(cargo)  # noqa: S301 - just made; an exception may pickle and not come back
        except Exception as exc:  # noqa: BLE001 - whatever cannot be pickled
            what = f"{type(error).__name__}: {error}" if error else str(exc)
            cargo = pickle.dumps(_End(self._stage.state, self._attempt.notes, RuntimeError(what)))
        with self._lock:
            self._pipe.send_bytes(cargo)

    def _listen(self) -> None:
        try:
            while True:
                message = self._pipe.recv()
                if isinstance(message, _CancelRequested):
                    self.cancel_requested = True
                else:
                    self._answers.put(message)
        except (EOFError, OSError):
            # The parent is gone, and with it the right to go on.
            os._exit(1)


def _child_main(pipe: Connection, cargo: bytes) -> None:
    stage, notes, previous, facts = pickle.loads(cargo)  # noqa: S301 - from our own parent
    stage.take_notes(notes)
    engine = ChildEngine(pipe, stage, facts)
    stage.volatile_engine_ref = engine
    error: BaseException | None = None
    try:
        found = stage.execute_stage(previous)
        if inspect.iscoroutine(found):
            asyncio.run(found)
    except BaseException as exc:  # noqa: BLE001 - the parent raises it
        error = exc
    engine.end(error)
    # Until the parent has it: it closes its end then, and `_listen` ends this process.
    threading.Event().wait()
