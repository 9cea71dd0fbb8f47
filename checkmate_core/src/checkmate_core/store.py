"""TaskStore: what tasks a store holds. Reading needs no lock."""

import builtins
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any

from checkmate_core.artifacts import ArtifactPlace, StoredArtifacts
from checkmate_core.clock import SYSTEM_CLOCK
from checkmate_core.errors import (
    CorruptObjectException,
    IncompatibleTaskException,
    InvalidTransitionException,
    PersistenceDataNotFoundException,
    TaskEngineException,
)
from checkmate_core.fork import fork_task
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.layout import LOCKS_PREFIX, check_task_id, lock_object_name, manifest_name, task_id_of
from checkmate_core.letters.due import awaited_letters, with_due
from checkmate_core.letters.signaling import request_cancel, send_signal
from checkmate_core.lock import BindLock
from checkmate_core.manifest import Manifest
from checkmate_core.report import StageSection, render_task
from checkmate_core.state import BaseStageState
from checkmate_core.status import StageStatus
from checkmate_core.types import StoredObject
from checkmate_core.views import TaskView, view_task

_BATCH = 200
_REREADS = 3
_UNREADABLE = (CorruptObjectException, IncompatibleTaskException, InvalidTransitionException)


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

        Costs one listing and one read an object; two more reads tell whether a suspended task is due. A task that cannot be read is listed with its
        fault, first of all.

        Raises:
            TaskIOException: The store failed.
        """
        tasks = self._views_below("")
        return sorted(
            tasks,
            key=lambda task: (task.ended is not None, -task.created.timestamp() if task.created else -inf),
        )

    def unfinished(self) -> builtins.list[TaskView]:
        """The tasks that are not finished, the oldest first.

        They are found by their locks, so this costs in proportion to them, however many are finished: a
        listing of the locks, and one read an object, as `list`. A task that was only ever bound with
        ``no_lock`` is not found.

        Raises:
            TaskIOException: The store failed.
        """
        tasks = [task for task in self._views_below(LOCKS_PREFIX) if task.ended is None]
        return sorted(tasks, key=lambda task: task.created.timestamp() if task.created else -inf)

    def get(self, task_id: str) -> TaskView:
        """One task.

        Raises:
            PersistenceDataNotFoundException: There is no such task, or it was removed.
            TaskIOException: The store failed, or an object cannot be read.
        """

        def refuse(_: str, fault: TaskEngineException) -> TaskView:
            raise fault

        found = list(self._views([check_task_id(task_id)], refuse))
        if not found:
            raise self._no_task(task_id)
        return found[0]

    def render(self, task_id: str) -> str:
        """A Markdown summary of a task with every stage's state and history.

        Raises:
            PersistenceDataNotFoundException: There is no such task, or it was removed.
            TaskIOException: The store failed, or an object cannot be read.
        """
        return render_task(
            task_id,
            [
                StageSection(
                    name=stage.name,
                    status=stage.status,
                    class_name=stage.class_name,
                    location=stage.url,
                    attempts=stage.attempts,
                    state=stage.state,
                    history=stage.history,
                )
                for stage in self.get(task_id).stages
            ],
        )

    def dump(self, task_id: str) -> dict[str, Any]:
        """Every stored object of a task by its name, as JSON, its lock included.

        Raises:
            PersistenceDataNotFoundException: There is no such task, or it was removed.
            TaskIOException: The store failed, or an object cannot be read.
        """
        self.get(task_id)
        names = [info.name for info in self.io.list(f"{task_id}/") if info.name.endswith(".json")]
        found = self.io.read_many([*sorted(names), lock_object_name(task_id)])
        return {name: json.loads(stored.data) for name, stored in found.items()}

    def artifacts(self, task_id: str) -> StoredArtifacts:
        """The artifacts of a task, for reading. Costs one read.

        A ref is in a state: ``ArtifactRef.model_validate(store.get(task_id).stages[-1].state["vectors"])``.

        Raises:
            PersistenceDataNotFoundException: There is no such task, or it was removed.
            TaskIOException: The store failed, or the manifest cannot be read.
        """
        name = manifest_name(check_task_id(task_id))
        found = self.io.read_many([name])
        manifest = Manifest.decode(found[name].data, self.io.build_url(name)) if found else None
        if manifest is None or manifest.removed is not None:
            raise self._no_task(task_id)
        return StoredArtifacts(ArtifactPlace(io=self.io, task_id=task_id, base_epoch=manifest.base_epoch))

    def fork(
        self,
        task_id: str,
        from_stage: str,
        *,
        new_task_id: str | None = None,
        set: Mapping[str, Any] | None = None,  # noqa: A002 - the command line's word
        state_class: type[BaseStageState] | None = None,
    ) -> str:
        """Start a new task from a completed stage of another, which stays as it is.

        The new task has the same stages with the same inputs. Those up to ``from_stage`` are complete already,
        with copies of their states, and of the artifacts that these refer to; the rest is to be run. It is
        stored and not run: any worker finds it. A fork that is cut off leaves no task.

        Args:
            task_id: The old task; it may be unfinished or finished.
            from_stage: Name of a completed stage of it.
            new_task_id: Id of the new task; None makes one.
            set: Attributes of the state of ``from_stage`` that are to have other values, in JSON terms. Inputs of
                later stages that would override them are dropped.
            state_class: Class of the states, to validate them with; without it only their names are.

        Returns:
            Id of the new task.

        Raises:
            PersistenceDataNotFoundException: There is no such task, or one of its artifacts is not there.
            VersionConflictException: There is a task with the new id.
            InvalidStateException: The state has no such attributes, or does not take the values.
            BindException: Somebody holds the lock of the new id.
            TaskEngineException: The stage is not complete.
            TaskIOException: The store failed.
        """
        return fork_task(
            self.io, task_id, from_stage, new_task_id=new_task_id, changes=set, state_class=state_class
        )

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

    def signal(self, task_id: str, event: str, data: Any = None, *, replace: bool = False) -> None:
        """Send an event to a task, for a stage that waits for it, or will. See `CheckMateEngine.signal`.

        Raises:
            PersistenceDataNotFoundException: There is no such task.
            VersionConflictException: An event of that name waits already.
            TaskEngineException: JSON cannot hold the data, or it is too large, or the task is finished.
            TaskIOException: The store failed.
        """
        send_signal(self.io, task_id, event, data, replace=replace)

    def request_cancel(self, task_id: str, reason: str = "") -> None:
        """Ask for a task to be canceled by whoever executes it.

        A running engine sees it at the next renewal of its lock (a third of the lease) or checkpoint, and
        cancels the task between two stages, or when the stage looks (`BaseStage.raise_if_canceled`). If
        nobody holds the task, the next engine that executes it does.

        Raises:
            PersistenceDataNotFoundException: There is no such task.
            InvalidTransitionException: The task is finished.
            TaskIOException: The store failed.
        """
        request_cancel(self.io, task_id, reason)

    def _views_below(self, prefix: str) -> builtins.list[TaskView]:
        ids = sorted({found for info in self.io.list(prefix) if (found := task_id_of(info.name))})
        tasks: builtins.list[TaskView] = []
        for start in range(0, len(ids), _BATCH):
            tasks += self._views(ids[start : start + _BATCH], self._unreadable)
        return tasks

    def _views(
        self, ids: Sequence[str], on_fault: Callable[[str, TaskEngineException], TaskView]
    ) -> Iterator[TaskView]:
        heads = self.io.read_many(
            [name for task_id in ids for name in (manifest_name(task_id), lock_object_name(task_id))]
        )
        manifests: dict[str, Manifest] = {}
        for task_id in ids:
            name = manifest_name(task_id)
            try:
                manifest = (
                    Manifest.decode(heads[name].data, self.io.build_url(name)) if name in heads else None
                )
            except _UNREADABLE as exc:
                yield on_fault(task_id, exc)
                continue
            # Without a manifest there is only a lock: the task never started.
            if manifest and manifest.removed is None:
                manifests[task_id] = manifest
        bodies = self.io.read_many([name for found in manifests.values() for name in found.objects])
        views: dict[str, TaskView] = {}
        for task_id, manifest in manifests.items():
            try:
                views[task_id] = self._settled_view(manifest, {**heads, **bodies})
            except _UNREADABLE as exc:
                yield on_fault(task_id, exc)
        letters = self.io.read_many([name for view in views.values() for name in awaited_letters(view)])
        now = datetime.fromtimestamp(SYSTEM_CLOCK.now(), UTC)
        for task_id, view in views.items():
            try:
                yield with_due(self.io, manifests[task_id], view, letters, now)
            except _UNREADABLE as exc:
                yield on_fault(task_id, exc)

    def _settled_view(self, manifest: Manifest, bodies: dict[str, StoredObject]) -> TaskView:
        for _ in range(_REREADS):
            try:
                return view_task(self.io, manifest, bodies)
            except InvalidTransitionException:
                # Reading takes no lock, so a running task may have moved on between two reads.
                bodies = self.io.read_many([*manifest.objects, lock_object_name(manifest.task_id)])
        return view_task(self.io, manifest, bodies)

    def _no_task(self, task_id: str) -> PersistenceDataNotFoundException:
        return PersistenceDataNotFoundException(
            f"there is no task {task_id} in {self.io.base_url}; `checkmate ls` lists those that there are"
        )

    def _unreadable(self, task_id: str, fault: TaskEngineException) -> TaskView:
        return TaskView(
            task_id=task_id,
            status=StageStatus.UNBOUND,
            stages=(),
            created=None,
            ended=None,
            holder=None,
            is_removing=False,
            url=self.io.build_url(manifest_name(task_id)),
            fault=str(fault),
        )
