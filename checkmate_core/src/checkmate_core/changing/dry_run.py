"""What a bind would make of a stored task, found out without writing anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from checkmate_core.changing.changes import StageChanges
from checkmate_core.changing.migration import plan_migration
from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskEngineException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.journal import StaleViewError, TaskJournal
from checkmate_core.layout import check_task_id
from checkmate_core.manifest import Manifest, check_stage_list, dump_templates
from checkmate_core.record import load_state, stage_statuses
from checkmate_core.stage import BaseStage


class BindOutcome(StrEnum):
    """What a bind would make of a stored task."""

    FITS = "fits"
    MIGRATED = "will be migrated"
    REFUSED = "is refused"


@dataclass(frozen=True, slots=True)
class BindPreview:
    """What a bind would make of one stored task, as it stands now.

    Attributes:
        task_id: The task.
        outcome: Whether it fits, and how.
        changes: What a bind would change, and which states are read through `migrate`.
        refusal: Why a bind would refuse it, and what to do; None if it would not.
    """

    task_id: str
    outcome: BindOutcome
    changes: tuple[str, ...] = ()
    refusal: str | None = None


def preview_bind(
    io: TaskIO, task_id: str, stages: Sequence[BaseStage[Any]], changes: StageChanges | None
) -> BindPreview:
    """What a bind with these stages would make of a task. Reads its manifest and its stages; needs no lock.

    Raises:
        PersistenceDataNotFoundException: There is no such task.
        StorageUnavailableException: The store did not answer for good.
    """
    journal = TaskJournal(io, check_task_id(task_id), is_fenced=False)
    try:
        found = _changes(journal, _read_manifest(journal), stages, changes)
    except (PersistenceDataNotFoundException, StorageUnavailableException):
        raise
    except StaleViewError:
        return refused(task_id, "it changes while it is read; look again")
    except TaskEngineException as exc:
        return refused(task_id, str(exc))
    return BindPreview(task_id, BindOutcome.MIGRATED if found else BindOutcome.FITS, tuple(found))


def refused(task_id: str, why: str) -> BindPreview:
    """The preview of a task that a bind would refuse."""
    return BindPreview(task_id, BindOutcome.REFUSED, refusal=why)


def _read_manifest(journal: TaskJournal) -> Manifest:
    manifest = journal.read_manifest()
    if manifest is None or manifest.removed is not None:
        raise PersistenceDataNotFoundException(
            f"there is no task {journal.task_id} in {journal.io.base_url}; `checkmate ls` lists those that there are"
        )
    return manifest


def _changes(
    journal: TaskJournal, manifest: Manifest, stages: Sequence[BaseStage[Any]], changes: StageChanges | None
) -> list[str]:
    state_class = check_stage_list(stages, manifest.task_id)
    templates = dump_templates(stages, manifest.task_id)
    migration = plan_migration(manifest, stages, templates, changes, journal.url)
    records = list(journal.read_all(manifest.objects).values())
    if journal.manifest.stage_list != manifest.stage_list:
        raise StaleViewError
    found: list[str] = []
    origins: Sequence[int | None] = range(len(stages))
    if migration is not None:
        migration.check(stage_statuses(records))
        found += migration.changes
        origins = migration.origins
    for stage, origin in zip(stages, origins, strict=True):
        if origin is None:
            continue
        record, url = records[origin], journal.io.build_url(manifest.objects[origin])
        if record is None or not record.is_begun or record.is_removing:
            version = manifest.schema_version_of(origin)
            load_state(state_class, manifest.stage_templates[origin]["state"], url, version=version)
        else:
            version = record.schema_version
            record.load_state(state_class, url)
        if version != state_class.schema_version:
            found.append(
                f"the state of {stage.stage_name!r} is read by migrate() from schema_version {version} to "
                f"{state_class.schema_version}"
            )
    return found
