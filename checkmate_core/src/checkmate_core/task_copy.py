"""The copy of one task from one store to another.

A copy is made so that it can be cut off anywhere and simply be made again:

1. Read the task: its manifest and stage objects. Refuse one that a living owner works on.
2. Take the task's lock in the destination, with an epoch as high as any in the source. So nobody else
   works on a half copied task, and the next owner's fencing token is higher than all before the move.
3. Write what is missing there, each object on the version that was seen, and read it back.
4. Read the task again. Only if nothing has changed since 1 is it one state of the task and not several.
5. Write the manifest, last: until then there is no task in the destination. Release the lock.

A task that is there already is never written to: it is the same by its digests, or it is refused.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from checkmate_core.clock import SYSTEM_CLOCK
from checkmate_core.errors import (
    BindException,
    PersistenceDataNotFoundException,
    TaskEngineException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import lock_object_name, manifest_name, task_prefix
from checkmate_core.lock import BindLock
from checkmate_core.manifest import Manifest
from checkmate_core.record import StageRecord
from checkmate_core.takeover import LockWatch, sight_lock
from checkmate_core.transfer import digest, list_all, persistently, put_verified, read_all, read_in_batches
from checkmate_core.types import Capability, ObjectInfo

# Each round means that the task went on while it was copied.
_ROUNDS: Final = 5


class CopyOutcome(StrEnum):
    """What came of copying one task."""

    COPIED = "copied"
    ALREADY_THERE = "already there"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CopiedTask:
    """What came of copying one task.

    Attributes:
        task_id: The task.
        outcome: Copied now, or the same was there already, or neither.
        objects: How many objects the task has, without its lock.
        written: How many of them were written now.
        size: Bytes written now.
        sha256: Digest of the whole task, of the lines "NAME SHA256" in order of the names; the same
            for equal tasks, wherever they are. Empty if it failed.
        error: Why it failed; None if it did not.
    """

    task_id: str
    outcome: CopyOutcome
    objects: int = 0
    written: int = 0
    size: int = 0
    sha256: str = ""
    error: TaskEngineException | None = None


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A task as it was read; two equal ones mean that it stood still in between.

    Attributes:
        documents: Bodies of its manifest and its stage objects.
        others: Its other objects, which are never changed: artifacts, garbage of an earlier life.
        epoch: The highest of all epochs, its lock's included.
        needs_lock: It is unfinished, or its manifest does not know the highest epoch.
    """

    documents: dict[str, bytes]
    others: dict[str, ObjectInfo]
    epoch: int
    needs_lock: bool

    @property
    def names(self) -> Set[str]:
        return self.documents.keys() | self.others.keys()


class TaskCopy:
    """Copies one task."""

    def __init__(
        self, source: TaskIO, destination: TaskIO, task_id: str, even_if_locked: bool, writes: Executor
    ) -> None:
        self._source = source
        self._destination = destination
        self._task_id = task_id
        self._manifest_name = manifest_name(task_id)
        self._lock_name = lock_object_name(task_id)
        self._even_if_locked = even_if_locked
        self._writes = writes
        self._digests: dict[str, str] = {}
        self._written: dict[str, int] = {}

    def run(self) -> CopiedTask:
        try:
            outcome = self._run()
        except TaskEngineException as exc:
            return self._result(CopyOutcome.FAILED, exc)
        return self._result(outcome)

    def _run(self) -> CopyOutcome:
        for _ in range(_ROUNDS):
            seen = self._read_task()
            if self._is_there(seen):
                return CopyOutcome.COPIED if self._written else CopyOutcome.ALREADY_THERE
            if self._copy(seen):
                return CopyOutcome.COPIED
        raise VersionConflictException(
            f"task {self._task_id} in {self._source.base_url} changed {_ROUNDS} times while it was copied. It is not "
            f"in {self._destination.base_url}. Stop whoever works on it, then copy again"
        )

    def _result(self, outcome: CopyOutcome, error: TaskEngineException | None = None) -> CopiedTask:
        lines = "".join(f"{name} {self._digests[name]}\n" for name in sorted(self._digests))
        return CopiedTask(
            self._task_id,
            outcome,
            objects=0 if error else len(self._digests),
            written=len(self._written),
            size=sum(self._written.values()),
            sha256="" if error else digest(lines.encode()),
            error=error,
        )

    def _read_task(self) -> _Snapshot:
        stored = read_all(self._source, [self._manifest_name])
        where = f"{self._source.base_url}; `checkmate ls` lists the tasks that there are"
        if not stored:
            raise PersistenceDataNotFoundException(f"there is no task {self._task_id} in {where}")
        body = stored[self._manifest_name].data
        manifest = Manifest.decode(body, self._source.build_url(self._manifest_name))
        if manifest.removed is not None:
            raise PersistenceDataNotFoundException(f"task {self._task_id} was removed from {where}")
        infos = list_all(self._source, task_prefix(self._task_id))
        stages = read_all(self._source, manifest.objects)
        records = [
            StageRecord.decode(stored.data, self._source.build_url(name)) for name, stored in stages.items()
        ]
        if any(record.is_removing and record.base_epoch == manifest.base_epoch for record in records):
            raise PersistenceDataNotFoundException(
                f"task {self._task_id} is being removed from {where}; the next bind ends its removal"
            )
        documents = {self._manifest_name: body, **{name: stored.data for name, stored in stages.items()}}
        epoch = max(manifest.epoch, self._lock_epoch(manifest), *(record.epoch for record in records), 0)
        return _Snapshot(
            documents,
            {name: info for name, info in infos.items() if name not in documents},
            epoch,
            needs_lock=not manifest.is_over or manifest.epoch < epoch,
        )

    def _lock_epoch(self, manifest: Manifest) -> int:
        sighting = persistently(lambda: sight_lock(self._source, self._lock_name, SYSTEM_CLOCK))
        if sighting is None:
            return 0
        is_free = manifest.is_over or LockWatch().reason_to_take(sighting) is not None
        if not is_free and not self._even_if_locked:
            raise BindException(
                f"task {self._task_id} in {self._source.base_url} is held by {sighting.record.describe_holder()}. "
                "Nothing was copied. Stop that worker, or wait for it, then copy again; to copy it as it stands, "
                "use even_if_locked (`checkmate copy --even-if-locked`)"
            )
        return sighting.record.epoch

    def _is_there(self, seen: _Snapshot) -> bool:
        found = read_all(self._destination, [self._manifest_name])
        if not found:
            return False
        url = self._destination.build_url(self._manifest_name)
        if Manifest.decode(found[self._manifest_name].data, url).removed is not None:
            raise VersionConflictException(
                f"task {self._task_id} was removed from {self._destination.base_url}, and its tombstone {url} keeps "
                "late writes of that life out. Nothing was written. Copy to another base URL; or, once no worker of "
                "the removed task can be alive, remove the tombstone"
            )
        if not self._is_same_there(seen, found[self._manifest_name].data):
            raise VersionConflictException(
                f"there is another task {self._task_id} in {self._destination.base_url}, or another state of this "
                "one. Nothing was written. Copy to another base URL, or leave this task out"
            )
        return True

    def _is_same_there(self, seen: _Snapshot, manifest: bytes) -> bool:
        infos = list_all(self._destination, task_prefix(self._task_id))
        if manifest != seen.documents[self._manifest_name] or infos.keys() != seen.names:
            return False
        self._digests = {self._manifest_name: digest(manifest)}
        for batch in self._bodies(seen):
            there = read_all(self._destination, batch)
            for name, data in batch.items():
                self._digests[name] = digest(data)
                if name not in there or digest(there[name].data) != self._digests[name]:
                    return False
        return self._digests.keys() == seen.names

    def _copy(self, seen: _Snapshot) -> bool:
        """Copy the task under its lock in the destination; False if it changed, here or there."""
        if not {Capability.CREATE, Capability.SWAP} <= self._destination.capabilities:
            return self._fill(seen, lambda: None)
        lock = BindLock(self._destination, self._lock_name, min_epoch=seen.epoch + 1)
        lock.acquire()
        is_copied = False
        try:
            is_copied = self._fill(seen, lock.check_held)
        finally:
            # The lock object stays, released: its epoch makes garbage of what is half copied for whoever
            # begins a task of this name there, and a list of locks is the list of unfinished tasks.
            lock.release(finished=is_copied and not seen.needs_lock)
        return is_copied

    def _fill(self, seen: _Snapshot, check_held: Callable[[], None]) -> bool:
        if read_all(self._destination, [self._manifest_name]):
            return False
        present = list_all(self._destination, task_prefix(self._task_id)).keys()
        if foreign := present - seen.names:
            raise VersionConflictException(
                f"{self._destination.build_url(min(foreign))} is in the place of task {self._task_id} and none of its "
                "objects: something of another task was left there. Nothing was written. Remove "
                f"{self._destination.build_url(self._task_id)}/, or copy to another base URL"
            )
        self._digests = {}
        for batch in self._bodies(seen):
            check_held()
            self._put(batch, present)
        if self._read_task() != seen:
            return False
        check_held()
        self._put({self._manifest_name: seen.documents[self._manifest_name]}, present)
        return True

    def _put(self, batch: Mapping[str, bytes], present: Set[str]) -> None:
        there = read_all(self._destination, batch.keys() & present)
        puts: dict[str, Future[None]] = {}
        for name, data in batch.items():
            self._digests[name] = digest(data)
            found = there.get(name)
            if found is None or digest(found.data) != self._digests[name]:
                puts[name] = self._writes.submit(put_verified, self._destination, name, data, found)
        # None may go on once the lock is released.
        wait(puts.values())
        for name, future in puts.items():
            future.result()
            self._written[name] = len(batch[name])

    def _bodies(self, seen: _Snapshot) -> Iterator[dict[str, bytes]]:
        """All but the manifest."""
        yield {name: data for name, data in seen.documents.items() if name != self._manifest_name}
        for batch in read_in_batches(self._source, seen.others):
            yield {name: stored.data for name, stored in batch.items()}
