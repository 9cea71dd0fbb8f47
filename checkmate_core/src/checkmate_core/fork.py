"""Forks: a new task that begins with the completed stages of an old one.

It is written under the new task's lock and can be cut off anywhere:

1. A tombstone takes the place of the manifest. So the manifest of an earlier attempt that is still on its
   way is not applied any more, and nobody sees a task.
2. Artifacts and stage objects are written, as those of the life that is to begin.
3. The manifest is swapped in, last. Then the lock is released, and any worker finds the task.

What is left of one that was cut off belongs to an earlier life than any that follows: it is garbage.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from checkmate_core.artifacts.carrying import carry_artifact, find_refs
from checkmate_core.artifacts.place import ArtifactPlace
from checkmate_core.errors import (
    BindException,
    IncompatibleTaskException,
    InvalidStateException,
    PersistenceDataNotFoundException,
    TaskEngineException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.journal import StaleViewError, TaskJournal
from checkmate_core.layout import check_task_id, lock_object_name
from checkmate_core.lock import BindLock
from checkmate_core.manifest import Manifest
from checkmate_core.notes import StageNotes
from checkmate_core.process import HOST
from checkmate_core.record import MAX_STATE_BYTES, StageRecord, dump_state, load_state, migrated
from checkmate_core.state import BaseStageState, StageStateHistoryEntry
from checkmate_core.status import StageStatus

_REREADS: Final = 3


@dataclass(frozen=True, slots=True)
class _Source:
    """What a fork is made from.

    Attributes:
        manifest: Of the old task.
        complete: Its stages up to the one to fork from.
    """

    manifest: Manifest
    complete: list[StageRecord]


def fork_task(
    io: TaskIO,
    task_id: str,
    from_stage: str,
    *,
    new_task_id: str | None = None,
    changes: Mapping[str, Any] | None = None,
    state_class: type[BaseStageState] | None = None,
) -> str:
    """Store a new task. See `TaskStore.fork`."""
    new_id = check_task_id(new_task_id if new_task_id is not None else uuid4().hex)
    if new_id == check_task_id(task_id):
        raise TaskEngineException(f"a fork of task {task_id} needs an id of its own")
    source = _read(io, task_id, from_stage)
    if changes:
        source = _changed(source, dict(changes), state_class, io)
    seen = TaskJournal(io, new_id, is_fenced=True).read_manifest()
    _check_free(seen, new_id, io)
    lock = BindLock(io, lock_object_name(new_id), min_epoch=seen.epoch + 1 if seen else 1)
    with lock:
        journal = TaskJournal(io, new_id, is_fenced=True)
        journal.owner, journal.epoch = str(lock.owner), lock.epoch
        journal.check_held = lock.check_held
        current = journal.read_manifest()
        _check_free(current, new_id, io)
        if current is not None and current.epoch >= lock.epoch:
            raise BindException(f"task {new_id} in {io.base_url} was begun and removed meanwhile; fork again")
        _write(io, source, journal, sorted(changes or ()))
    return new_id


def _read(io: TaskIO, task_id: str, from_stage: str) -> _Source:
    journal = TaskJournal(io, task_id, is_fenced=False)
    for _ in range(_REREADS):
        manifest = journal.read_manifest()
        if manifest is None or manifest.removed is not None:
            break
        try:
            found = list(journal.read_all(manifest.objects).values())
        except StaleViewError:
            continue
        if journal.manifest.removed is not None or any(record and record.is_removing for record in found):
            break
        if journal.manifest.stage_list == manifest.stage_list:
            return _Source(manifest, _complete_until(from_stage, manifest, found))
    raise PersistenceDataNotFoundException(
        f"there is no task {task_id} in {io.base_url} that stands still; `checkmate ls` lists those that there are"
    )


def _complete_until(
    from_stage: str, manifest: Manifest, records: list[StageRecord | None]
) -> list[StageRecord]:
    names = manifest.stage_names
    complete: list[StageRecord] = []
    for record in records:
        if record is None or record.status != StageStatus.COMPLETE:
            break
        complete.append(record)
    if from_stage in names[: len(complete)]:
        return complete[: names.index(from_stage) + 1]
    what = "is not complete" if from_stage in names else "does not exist"
    done = ", ".join(map(repr, names[: len(complete)])) or "none"
    raise TaskEngineException(
        f"stage {from_stage!r} of task {manifest.task_id} {what}, and only a completed stage can be forked from. "
        f"Nothing was written. Completed: {done}"
    )


def _changed(
    source: _Source, changes: dict[str, Any], state_class: type[BaseStageState] | None, io: TaskIO
) -> _Source:
    """The last stage with another state, and the stages that follow without inputs that would override it."""
    manifest, last = source.manifest, source.complete[-1]
    index = len(source.complete) - 1
    where = f"stage {manifest.stage_names[index]!r} of task {manifest.task_id}"
    url = io.build_url(manifest.objects[index])
    templates = [dict(template) for template in manifest.stage_templates]
    versions = [manifest.schema_version_of(each) for each in range(len(templates))]
    if state_class is None:
        state = {**last.state, **_known(changes, last.state, where)}
        version = last.schema_version
    else:
        state = {**migrated(state_class, last.state, url, last.schema_version), **changes}
        version = state_class.schema_version
        try:
            state = dump_state(load_state(state_class, _known(state, state, where), url), where)
        except IncompatibleTaskException as exc:
            raise InvalidStateException(
                f"the state of {where} cannot be changed in {', '.join(sorted(changes))}: {exc.__cause__ or exc}. "
                "Nothing was written"
            ) from exc
    for following in range(index + 1, len(templates)):
        inputs = templates[following]["state"]
        if state_class is not None:
            inputs = migrated(state_class, inputs, url, versions[following])
            versions[following] = state_class.schema_version
        # A missing input is a default one, which takes the previous stage's value.
        templates[following]["state"] = {name: inputs[name] for name in inputs if name not in changes}
    return _Source(
        manifest.model_copy(update={"stage_templates": templates, "schema_versions": versions}),
        [*source.complete[:-1], last.model_copy(update={"state": state, "schema_version": version})],
    )


def _known(changes: dict[str, Any], state: Mapping[str, Any], where: str) -> dict[str, Any]:
    if strange := sorted(changes.keys() - state.keys()):
        raise InvalidStateException(
            f"the state of {where} has no {', '.join(strange)}. Nothing was written. It has {', '.join(sorted(state))}"
        )
    try:
        size = len(json.dumps({**state, **changes}, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidStateException(
            f"what the state of {where} is to hold is no JSON: {exc}. Nothing was written"
        ) from exc
    if size > MAX_STATE_BYTES:
        raise InvalidStateException(
            f"the state of {where} would be {size:,} bytes of JSON, and {MAX_STATE_BYTES:,} are allowed. Nothing was written"
        )
    return changes


def _check_free(manifest: Manifest | None, task_id: str, io: TaskIO) -> None:
    if manifest is not None and manifest.removed is None:
        raise VersionConflictException(
            f"task {task_id} exists in {io.base_url} already. Nothing was written. Give the fork another id"
        )


def _write(io: TaskIO, source: _Source, journal: TaskJournal, changed: list[str]) -> None:
    manifest = source.manifest
    journal.stake_life()
    old = ArtifactPlace(io=io, task_id=manifest.task_id, base_epoch=manifest.base_epoch)
    new = ArtifactPlace(
        io=io, task_id=journal.task_id, base_epoch=journal.epoch, check_held=journal.check_held
    )
    for ref in {ref.sha256: ref for record in source.complete for ref in find_refs(record.state)}.values():
        carry_artifact(ref, old, new)
    # By the names that the stages have now: no object of the new task is any older.
    fork = manifest.model_copy(update={"task_id": journal.task_id, "stage_objects": []})
    names = manifest.stage_names
    for index, record in enumerate(source.complete):
        message = f"Forked from stage {names[index]!r} of task {manifest.task_id}"
        if changed and index == len(source.complete) - 1:
            message += f", with another {', '.join(changed)}"
        now = datetime.now(UTC)
        entry = StageStateHistoryEntry(
            begin=now, end=now, message=message, status=StageStatus.COMPLETE, host=HOST, epoch=journal.epoch
        )
        journal.write_stage(
            fork.objects[index],
            stage_name=names[index],
            status=record.status,
            attempts=record.attempts,
            history=[*record.history, entry],
            state=record.state,
            schema_version=record.schema_version,
            # What it waited for and took was the old task's.
            notes=StageNotes(progress=record.notes.progress),
        )
    journal.begin_life(
        fork.stage_templates,
        **{
            name: getattr(fork, name)
            for name in (
                "stage_template_classes",
                "schema_versions",
                "state_class",
                "max_attempts",
                "retry_policy",
                "on_error",
                "max_interruptions",
            )
        },
    )
