"""TaskStore: what tasks a store holds. Reading needs no lock."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from checkmate_core.errors import PersistenceDataNotFoundException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.layout import (
    check_task_id,
    lock_object_name,
    manifest_name,
    stage_object_name,
    task_id_of,
)
from checkmate_core.lock import BindLock, LockRecord
from checkmate_core.manifest import Manifest
from checkmate_core.record import StageRecord
from checkmate_core.state import StageStateHistoryEntry
from checkmate_core.status import StageStatus, _StageStateMachine
from checkmate_core.types import StoredObject

_BATCH = 200


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage of a stored task.

    Attributes:
        name: The stage's name.
        class_name: Qualified name of its class.
        status: Where it stands; CREATED if it never began.
        attempts: How often it was begun.
        history: Every change of its status.
        state: Its state in JSON terms, without bookkeeping; its inputs if it never began.
        epoch: Fencing token of its last writer; None if it never began.
        url: Where it is stored.
    """

    name: str
    class_name: str
    status: StageStatus
    attempts: int
    history: tuple[StageStateHistoryEntry, ...]
    state: dict[str, Any]
    epoch: int | None
    url: str


@dataclass(frozen=True, slots=True)
class TaskView:
    """A stored task at one moment.

    Attributes:
        task_id: The task.
        status: Where it stands.
        stages: Its stages in order.
        created: When it was created.
        ended: When it was finished; None before.
        holder: Who holds its lock, in words; None if nobody.
        is_removing: Its removal has begun; the next bind goes on with it.
        url: Its manifest.
    """

    task_id: str
    status: StageStatus
    stages: tuple[StageView, ...]
    created: datetime
    ended: datetime | None
    holder: str | None
    is_removing: bool
    url: str

    @property
    def stages_complete(self) -> int:
        """How many stages are done."""
        return sum(stage.status is StageStatus.COMPLETE for stage in self.stages)

    @property
    def result(self) -> Any:
        """Result of the most recently completed stage, in JSON terms; None if there is none."""
        complete = [stage for stage in self.stages if stage.status is StageStatus.COMPLETE]
        return complete[-1].state.get("result") if complete else None


class TaskStore:
    """The tasks below one URL."""

    def __init__(self, io: TaskIO | str, **storage_options: Any) -> None:
        """Open a store. Makes no request.

        Args:
            io: The store, or its URL.
            **storage_options: The backend's options, with a URL.

        Raises:
            UnsupportedBackendException: Nothing serves the URL.
        """
        self.io = open_task_io(io, **storage_options) if isinstance(io, str) else io

    def list(self) -> list[TaskView]:
        """All tasks, unfinished ones first, then the newest first. Removed ones are left out.

        Costs one listing and one read an object.

        Raises:
            TaskIOException: The store failed, or an object cannot be read.
        """
        ids = sorted({found for info in self.io.list() if (found := task_id_of(info.name))})
        tasks = [
            task for start in range(0, len(ids), _BATCH) for task in self._views(ids[start : start + _BATCH])
        ]
        return sorted(tasks, key=lambda task: (task.ended is not None, -task.created.timestamp()))

    def get(self, task_id: str) -> TaskView:
        """One task.

        Raises:
            PersistenceDataNotFoundException: There is no such task, or it was removed.
            TaskIOException: The store failed, or an object cannot be read.
        """
        found = list(self._views([check_task_id(task_id)]))
        if not found:
            raise PersistenceDataNotFoundException(
                f"there is no task {task_id} in {self.io.base_url}; `checkmate ls` lists those that there are"
            )
        return found[0]

    def unlock(self, task_id: str) -> str | None:
        """Release the task's lock, whoever holds it. Be sure that its holder is dead or stopped.

        A holder that lives after all is fenced at its next write once another worker has begun.

        Returns:
            Who held it, in words; None if nobody did.

        Raises:
            PersistenceDataNotFoundException: There is no such task.
            VersionConflictException: The lock changed meanwhile: look again.
        """
        name = lock_object_name(check_task_id(task_id))
        released = BindLock(self.io, name).force_unlock()
        if released is None:
            self.get(task_id)
        return released.describe_holder() if released else None

    def _views(self, ids: Iterable[str]) -> Iterable[TaskView]:
        ids = list(ids)
        heads = self.io.read_many(
            [name for task_id in ids for name in (manifest_name(task_id), lock_object_name(task_id))]
        )
        manifests = {}
        for task_id in ids:
            stored = heads.get(manifest_name(task_id))
            manifest = stored and Manifest.decode(stored.data, self.io.build_url(manifest_name(task_id)))
            if manifest and manifest.removed is None:
                manifests[task_id] = manifest
        bodies = self.io.read_many([name for m in manifests.values() for name in _stage_objects(m)])
        for task_id, manifest in manifests.items():
            yield self._view(manifest, heads.get(lock_object_name(task_id)), bodies)

    def _view(
        self, manifest: Manifest, lock: StoredObject | None, bodies: dict[str, StoredObject]
    ) -> TaskView:
        stages, is_removing = [], False
        classes = manifest.stage_template_classes
        for name, class_name, template in zip(
            _stage_objects(manifest), classes, manifest.stage_templates, strict=True
        ):
            url = self.io.build_url(name)
            stored = bodies.get(name)
            record = StageRecord.decode(stored.data, url) if stored else None
            if record and record.base_epoch != manifest.base_epoch:
                record = None
            is_removing = is_removing or bool(record and record.is_removing)
            stages.append(_stage_view(record, class_name, template, url))
        holder = (
            LockRecord.decode(lock.data, self.io.build_url(lock_object_name(manifest.task_id)))
            if lock
            else None
        )
        where = f"task {manifest.task_id} in {self.io.base_url}"
        return TaskView(
            task_id=manifest.task_id,
            status=_StageStateMachine.overall([stage.status for stage in stages], where),
            stages=tuple(stages),
            created=manifest.created,
            ended=manifest.ended,
            holder=holder.describe_holder() if holder and holder.owner else None,
            is_removing=is_removing,
            url=self.io.build_url(manifest_name(manifest.task_id)),
        )


def _stage_objects(manifest: Manifest) -> list[str]:
    return [
        stage_object_name(manifest.task_id, index, name) for index, name in enumerate(manifest.stage_names)
    ]


def _stage_view(record: StageRecord | None, class_name: str, template: dict[str, Any], url: str) -> StageView:
    return StageView(
        name=str(template["stage_name"]),
        class_name=class_name,
        # A stage whose removal has begun was not complete, and says no more.
        status=StageStatus(record.status) if record and not record.is_removing else StageStatus.CREATED,
        attempts=record.attempts if record else 0,
        history=tuple(record.history) if record else (),
        state=record.state if record else template.get("state", {}),
        epoch=record.epoch if record else None,
        url=url,
    )
