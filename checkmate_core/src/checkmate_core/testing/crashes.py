"""Crashing a pipeline at a chosen point, within one process, and resuming it as another one would.

crash(cm_factory_report(url, "t"), at=CrashPoint.after_work("index"))
assert resume(cm_factory_report(url, "t")) == expected

A crash here is an exception that no ``except Exception`` catches, after which nothing that the
crashed engine sends reaches the store: neither the end of the stage nor the release of the lock.
Whatever the stage's own code did up to there, it did.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from checkmate_core.checkmate import CheckMate
from checkmate_core.errors import StorageUnavailableException
from checkmate_core.inspection import STAGE_RESULT
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import stage_object_name
from checkmate_core.lock import BindLock
from checkmate_core.record import StageRecord
from checkmate_core.stage import STAGE
from checkmate_core.status import StageStatus
from checkmate_core.types import ANY, Capability, Expect, ObjectInfo, RemoveExpect, StoredObject, Version

T = TypeVar("T")
Moment: TypeAlias = Literal["before", "after"]


class SimulatedCrashError(BaseException):
    """The process died here. Not an `Exception`, so that a pipeline does not take it for a failure."""


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """Where a process dies: at one of its storage requests, before or after the store applied it.

    Between two requests there is only the pipeline's own code, so these are all the points that the
    store can tell apart.

    Attributes:
        moment: Before the request reaches the store, or after it was applied and before its answer.
        request: Number of the request, from 1; None for any.
        stage: Name of the stage that it stores; None for any.
        status: The status that it stores; None for any.
    """

    moment: Moment
    request: int | None = None
    stage: str | None = None
    status: StageStatus | None = None

    @classmethod
    def before_work(cls, stage: str) -> "CrashPoint":
        """The stage was stored as RUNNING, and its code has not begun."""
        return cls("after", stage=stage, status=StageStatus.RUNNING)

    @classmethod
    def after_work(cls, stage: str) -> "CrashPoint":
        """The stage's code has done everything, and nothing of it is stored."""
        return cls("before", stage=stage, status=StageStatus.COMPLETE)

    @classmethod
    def after_stage(cls, stage: str) -> "CrashPoint":
        """The stage was stored as COMPLETE, and nothing else has happened."""
        return cls("after", stage=stage, status=StageStatus.COMPLETE)

    @classmethod
    def at_request(cls, number: int, moment: Moment) -> "CrashPoint":
        """The storage request of this number, from 1."""
        return cls(moment, request=number)


def crash(task: CheckMate[STAGE, Any], at: CrashPoint) -> None:
    """Run a task in an engine whose process dies at ``at``. The engine cannot be used again.

    Args:
        task: The pipeline, not bound.
        at: Where it dies.

    Raises:
        AssertionError: The run ended without reaching that point.
        TaskEngineException: The run failed before it.
    """
    task.io = _MortalTaskIO(task.io, task, at)
    try:
        task.run()
    except SimulatedCrashError:
        return
    raise AssertionError(f"the run of task {task.task_id} ended without reaching {at}")


def resume(task: CheckMate[STAGE, STAGE_RESULT]) -> STAGE_RESULT | None:
    """Run a task as the next process does after a crash; the result.

    The crashed engine's lock is released first: its process is this very one and lives, so that
    nobody could prove it dead.

    Raises:
        TaskEngineException: As `CheckMate.run` raises it.
    """
    BindLock(task.io, task.lock_obj_name).force_unlock()
    return task.run()


def crash_points(make: Callable[[TaskIO], CheckMate[STAGE, Any]]) -> Sequence[CrashPoint]:
    """Every point at which a process can die that runs this pipeline undisturbed.

    Args:
        make: Returns the pipeline for a store, under the same task id each time.
    """
    task = make(MemoryTaskIO())
    io = task.io = _MortalTaskIO(task.io, task, None)
    task.run()
    moments: tuple[Moment, ...] = ("before", "after")
    return [CrashPoint.at_request(n, moment) for n in range(1, io.requests + 1) for moment in moments]


def check_every_crash(make: Callable[[TaskIO], CheckMate[STAGE, Any]]) -> int:
    """Crash a pipeline at every point in turn, resume it, and compare with an undisturbed run.

    The store is one in memory. Stages must not keep anything between runs but in the store and in
    what ``make`` gives them.

    Args:
        make: Returns the pipeline for a store, under the same task id each time.

    Returns:
        How many points were tried.

    Raises:
        AssertionError: A resumed task has another result or another last state.
    """
    undisturbed = make(MemoryTaskIO())
    result = undisturbed.run()
    state = _lasting(undisturbed)
    points = crash_points(make)
    for point in points:
        io = MemoryTaskIO()
        crash(make(io), point)
        resumed = make(io)
        found = resume(resumed)
        assert found == result, f"after a crash at {point} the result is {found!r}, not {result!r}"  # noqa: S101
        assert _lasting(resumed) == state, (  # noqa: S101 - what this function is for
            f"after a crash at {point} the last state is {_lasting(resumed)!r}, not {state!r}"
        )
    return len(points)


def _lasting(task: CheckMate[STAGE, Any]) -> dict[str, Any]:
    return task.state.model_dump(exclude={"attempts", "history"})


class _MortalTaskIO:
    """Passes requests on until the process dies; afterwards nothing reaches the store."""

    def __init__(self, io: TaskIO, task: CheckMate[Any, Any], at: CrashPoint | None) -> None:
        self._io = io
        self._at = at
        self._names = {
            stage_object_name(task.task_id, index, stage.stage_name): stage.stage_name
            for index, stage in enumerate(task.stages)
        }
        self._counting = threading.Lock()
        self._is_dead = False
        self.requests = 0

    @property
    def base_url(self) -> str:
        return self._io.base_url

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._io.capabilities

    @property
    def probe_scope(self) -> str | None:
        return self._io.probe_scope

    def build_url(self, obj_name: str) -> str:
        return self._io.build_url(obj_name)

    def exists(self, obj_name: str) -> bool:
        return self._pass(lambda: self._io.exists(obj_name))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._pass(lambda: self._io.list(prefix))

    def read(self, obj_name: str) -> StoredObject:
        return self._pass(lambda: self._io.read(obj_name))

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        return self._pass(lambda: self._io.read_many(obj_names))

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return self._pass(lambda: self._io.write(obj_name, data, expect=expect), obj_name, data)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self._pass(lambda: self._io.remove(obj_name, expect=expect))

    def _pass(self, request: Callable[[], T], obj_name: str = "", data: bytes = b"") -> T:
        if threading.current_thread().name.startswith("checkmate renews "):
            # A dead process renews no lease, and a live one's renewals would change the numbers.
            raise StorageUnavailableException("this engine renews nothing: its process is about to die")
        # Parts of an artifact are sent by several threads.
        with self._counting:
            self.requests += 1
            is_here = self._at is not None and self._is_at(self._at, obj_name, data)
        if self._is_dead or (is_here and self._at and self._at.moment == "before"):
            self._die()
        try:
            return request()
        finally:
            if is_here:
                self._die()

    def _is_at(self, at: CrashPoint, obj_name: str, data: bytes) -> bool:
        if at.request is not None and at.request != self.requests:
            return False
        if at.stage is None and at.status is None:
            return True
        stage = self._names.get(obj_name)
        if stage is None or at.stage not in (None, stage):
            return False
        return at.status in (None, StageRecord.decode(data, self.build_url(obj_name)).status)

    def _die(self) -> None:
        self._is_dead = True
        raise SimulatedCrashError
