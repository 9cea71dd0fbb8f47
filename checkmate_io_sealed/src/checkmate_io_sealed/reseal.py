"""Sealing anew what an earlier key sealed, or none: the second half of a key's rotation.

Nothing of what is stored changes but its seal. Yet the version of an object changes, and a worker swaps
on the versions that it knows. So a task that is not over is resealed under its lock, and one that
somebody holds is left alone: its worker seals by the newest key whatever it writes from now on.

Cut off anywhere it is simply called again: what is sealed by the newest key is only read.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    TaskEngineException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.layout import (
    PROBE_PREFIX,
    check_task_id,
    lock_object_name,
    manifest_name,
    task_id_of,
)
from checkmate_core.lock import BindLock
from checkmate_core.manifest import Manifest
from checkmate_core.transfer import list_all, persistently, read_in_batches
from checkmate_core.types import Capability, ObjectInfo
from checkmate_io_sealed.sealed import SealedTaskIO

# Each means that somebody wrote the object between a read and the swap on it.
_ROUNDS: Final = 5


class ResealOutcome(StrEnum):
    """What came of one task."""

    RESEALED = "resealed"
    CURRENT = "current"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ResealedTask:
    """What came of resealing one task.

    Attributes:
        task_id: The task; "" stands for objects that are no task's.
        outcome: Sealed anew now, or sealed by the newest key already, or not, or not all of it.
        objects: How many objects it has, with its lock.
        resealed: How many of them were sealed anew now.
        error: Why it failed; None if it did not. A `BindException` if somebody works on it.
    """

    task_id: str
    outcome: ResealOutcome
    objects: int
    resealed: int
    error: TaskEngineException | None = None


@dataclass(frozen=True, slots=True)
class ResealReport:
    """What `reseal_tasks` did.

    Attributes:
        base_url: The store.
        key_id: The id of the newest key; None where nothing is encrypted.
        tasks: What came of each task, by their ids.
    """

    base_url: str
    key_id: str | None
    tasks: tuple[ResealedTask, ...]

    @property
    def failed(self) -> tuple[ResealedTask, ...]:
        """The tasks that still have objects that the newest key did not seal, or may have."""
        return tuple(task for task in self.tasks if task.outcome is ResealOutcome.FAILED)

    @property
    def is_complete(self) -> bool:
        """Whether every object that was listed is sealed by the newest key."""
        return not self.failed


def reseal_tasks(
    io: TaskIO | str,
    task_ids: Sequence[str] | None = None,
    *,
    concurrency: int = 8,
    on_task: Callable[[ResealedTask], object] | None = None,
) -> ResealReport:
    """Seal by the newest key all that is sealed by another, or with ``allow_plain`` not at all.

    Safe beside running workers: their tasks are skipped and reported. Workers that run with
    ``no_lock=True`` cannot be seen and must be stopped before.

    Costs a listing and a read of each object; of one that is sealed anew another read and a write;
    and the lock of each unfinished task that has such an object.

    Args:
        io: The store, or its URL, opened with the newest key first and the earlier ones behind it.
        task_ids: Which tasks; None for all objects of the store.
        concurrency: How many tasks at once.
        on_task: Called in this thread after each task, in the order in which they end.

    Raises:
        UnsupportedBackendException: The store was not opened with ``key`` or ``compress``, or cannot swap.
        TaskIOException: It cannot be listed.
    """
    store = open_task_io(io) if isinstance(io, str) else io
    if not isinstance(store, SealedTaskIO):
        raise UnsupportedBackendException(
            f"{store.base_url} was opened without key= and compress=, so there is nothing to seal it with. Add "
            "?key=env:NAME to its URL; the variable holds the newest key first"
        )
    if Capability.SWAP not in store.capabilities:
        raise UnsupportedBackendException(
            f"{store.base_url} cannot swap an object ({store.no_locks_because}), so nothing can be sealed anew beside "
            "its workers. Copy the tasks into a new store: `checkmate copy`"
        )
    wanted = None if task_ids is None else {check_task_id(task_id) for task_id in task_ids}
    found = {
        task_id: infos for task_id, infos in _by_task(store).items() if wanted is None or task_id in wanted
    }
    done: dict[str, ResealedTask] = {}

    def note(task: ResealedTask) -> None:
        done[task.task_id] = task
        if on_task:
            on_task(task)

    for task_id in sorted((wanted or set()) - found.keys()):
        note(_missing(store, task_id))
    with ThreadPoolExecutor(concurrency) as pool:
        running = [pool.submit(_TaskReseal(store, task_id, infos).run) for task_id, infos in found.items()]
        try:
            for future in as_completed(running):
                note(future.result())
        finally:
            for future in running:
                future.cancel()
    return ResealReport(store.base_url, store.newest_key_id, tuple(done[task_id] for task_id in sorted(done)))


def _by_task(store: SealedTaskIO) -> Mapping[str, Mapping[str, ObjectInfo]]:
    tasks: defaultdict[str, dict[str, ObjectInfo]] = defaultdict(dict)
    listed = list_all(store, "")
    known = {found for name in listed if (found := task_id_of(name))}
    for name, info in listed.items():
        if not name.startswith(PROBE_PREFIX):
            first = name.partition("/")[0]
            tasks[task_id_of(name) or (first if first in known else "")][name] = info
    return tasks


def _missing(store: SealedTaskIO, task_id: str) -> ResealedTask:
    error = PersistenceDataNotFoundException(
        f"there is no task {task_id} in {store.base_url}; `checkmate ls` lists those that there are"
    )
    return ResealedTask(task_id, ResealOutcome.FAILED, 0, 0, error)


class _TaskReseal:
    """Reseals the objects of one task, or those that are no task's."""

    def __init__(self, store: SealedTaskIO, task_id: str, infos: Mapping[str, ObjectInfo]) -> None:
        self._store = store
        self._task_id = task_id
        self._infos = infos
        self._resealed = 0

    def run(self) -> ResealedTask:
        try:
            self._run()
        except TaskEngineException as exc:
            return self._result(ResealOutcome.FAILED, exc)
        return self._result(ResealOutcome.RESEALED if self._resealed else ResealOutcome.CURRENT)

    def _result(self, outcome: ResealOutcome, error: TaskEngineException | None = None) -> ResealedTask:
        return ResealedTask(self._task_id, outcome, len(self._infos), self._resealed, error)

    def _run(self) -> None:
        outdated = self._outdated()
        if not outdated:
            return
        lock_name = lock_object_name(self._task_id)
        is_over = not self._task_id or self._is_over()
        if is_over and lock_name not in self._infos:
            for name in outdated:
                self._reseal(name)
            return
        lock = BindLock(self._store, lock_name)
        # It writes the lock object, and so seals it.
        lock.acquire()
        self._resealed += lock_name in outdated
        try:
            for name in outdated:
                if name != lock_name:
                    lock.check_held()
                    self._reseal(name)
        finally:
            lock.release(finished=is_over)

    def _outdated(self) -> list[str]:
        return [
            name
            for batch in read_in_batches(self._store.below, self._infos)
            for name, stored in batch.items()
            if not self._store.is_current(name, stored.data)
        ]

    def _is_over(self) -> bool:
        """Whether nobody will go on with the task."""
        name = manifest_name(self._task_id)
        try:
            stored = persistently(lambda: self._store.read(name))
        except PersistenceDataNotFoundException:
            # The lock comes first, and then the manifest: without a lock either, nobody has begun.
            return lock_object_name(self._task_id) not in self._infos
        return Manifest.decode(stored.data, self._store.build_url(name)).is_over

    def _reseal(self, name: str) -> None:
        for _ in range(_ROUNDS):
            try:
                self._resealed += persistently(lambda: self._store.reseal(name))
            except PersistenceDataNotFoundException:
                return
            except VersionConflictException:
                continue
            return
        raise VersionConflictException(
            f"{self._store.build_url(name)} was written {_ROUNDS} times while it was to be sealed anew; somebody works "
            "on it. Try again later"
        )
