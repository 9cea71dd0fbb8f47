"""Whether stored tasks are those of this code, and how they become so where their stages have changed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from checkmate_core.changing.changes import StageChanges
from checkmate_core.changing.difference import Stage, find_difference
from checkmate_core.errors import IncompatibleTaskException
from checkmate_core.imported import qualified_name
from checkmate_core.manifest import Manifest
from checkmate_core.record import load_state
from checkmate_core.stage import BaseStage
from checkmate_core.status import FINISHED_STATES, ROLLBACK_STATES, StageStatus


@dataclass(frozen=True, slots=True)
class Migration:
    """A change of the list of stages of one stored task. It was declared; whether it can be made, `check` says.

    Attributes:
        manifest: What is stored of the task.
        url: Where.
        stages: What it is to have.
        templates: The same in JSON terms.
        origins: For each of them its position in the stored list; None for a new stage.
        changes: What changes, in words.
    """

    manifest: Manifest
    url: str
    stages: Sequence[BaseStage[Any]]
    templates: Sequence[dict[str, Any]]
    origins: Sequence[int | None]
    changes: Sequence[str]

    def check(self, statuses: Sequence[StageStatus]) -> None:
        """Refuse to change what has begun, and what goes back or is over.

        Args:
            statuses: Of the stored stages.

        Raises:
            IncompatibleTaskException: The task must stay as it is.
        """
        if going_back := ROLLBACK_STATES & set(statuses):
            raise self._refusal(
                f"the task is being rolled back ({', '.join(sorted(going_back))}), which is done with the stages that "
                "it has. Nothing was changed. Roll it back with the code that created it"
            )
        if StageStatus.CANCELED in statuses:
            raise self._refusal(
                "the task is CANCELED, and stays as it is. Nothing was changed. Start a new task"
            )
        for index, status in enumerate(statuses):
            if status is StageStatus.CREATED or self._stays(index):
                continue
            name = self.manifest.stage_names[index]
            what = (
                f"nothing can be put or moved before stage {name!r}, which is {status}"
                if index in self.origins
                else f"stage {name!r} is {status} and cannot be removed"
            )
            raise self._refusal(f"{what}: it has begun. Nothing was changed. {self._way_out(index)}")

    def manifest_fields(self, statuses: Sequence[StageStatus]) -> dict[str, Any]:
        """What the manifest says afterwards."""
        templates, versions, names = [], [], []
        for stage, template, origin in zip(self.stages, self.templates, self.origins, strict=True):
            name = stage.stage_name
            if origin is None:
                templates.append(template)
                versions.append(type(stage.state).schema_version)
                names.append(name)
                continue
            # Inputs are the task's, other fields of a stage are the process's.
            templates.append({**template, "state": self.manifest.stage_templates[origin]["state"]})
            versions.append(self.manifest.schema_version_of(origin))
            has_begun = statuses[origin] is not StageStatus.CREATED
            names.append(self.manifest.object_stage_name(origin) if has_begun else name)
        return {
            "stage_template_classes": [qualified_name(type(stage)) for stage in self.stages],
            "stage_templates": templates,
            "schema_versions": versions,
            "stage_objects": names if names != [stage.stage_name for stage in self.stages] else [],
            "state_class": qualified_name(type(self.stages[0].state)),
        }

    def _stays(self, index: int) -> bool:
        return index < len(self.origins) and self.origins[index] == index

    def _way_out(self, index: int) -> str:
        if index == 0:
            return "Run the code that created the task, or give a new task id"
        before = self.manifest.stage_names[index - 1]
        return (
            "Run the code that created the task; or start another from what comes before, `checkmate fork URL "
            f"{self.manifest.task_id} --from {before!r}`, which this code can change"
        )

    def _refusal(self, reason: str) -> IncompatibleTaskException:
        return IncompatibleTaskException(
            f"task {self.manifest.task_id} ({self.url}) cannot get the stages of this code ({'; '.join(self.changes)}): "
            f"{reason}"
        )


def plan_migration(
    manifest: Manifest,
    stages: Sequence[BaseStage[Any]],
    templates: Sequence[dict[str, Any]],
    changes: StageChanges | None,
    url: str,
) -> Migration | None:
    """How a stored task gets these stages; None if it has them.

    Raises:
        IncompatibleTaskException: Number, order, names or classes of the stages differ, and that was not
            declared, or the task is finished; or the class of the state cannot read the stored inputs.
    """
    stored = list(zip(manifest.stage_names, manifest.stage_template_classes, strict=True))
    given = [(stage.stage_name, qualified_name(type(stage))) for stage in stages]
    found = find_difference(stored, given, changes or StageChanges())
    if found.contradictions or found.undeclared:
        raise IncompatibleTaskException(
            f"task {manifest.task_id} ({url}) has the stages {_list(stored)}, but this process has {_list(given)}: "
            f"{'; '.join(found.contradictions + found.undeclared)}. Nothing was changed. Run the code that created the "
            "task, or give a new task id; or "
            + (
                "mend the declaration, for it does not fit this task"
                if found.contradictions
                else f"declare the change, CheckMateEngine(…, changes={found.suggestion})"
            )
        )
    for stage, origin in zip(stages, found.origins, strict=True):
        if origin is not None:
            state = manifest.stage_templates[origin]["state"]
            load_state(type(stage.state), state, url, version=manifest.schema_version_of(origin))
    if stored == given:
        return None
    migration = Migration(manifest, url, stages, templates, tuple(found.origins), tuple(found.declared))
    if manifest.ended_as in FINISHED_STATES:
        raise migration._refusal(
            f"the task is {manifest.ended_as}, and stays as it is. Nothing was changed. Look at it with TaskStore or "
            "`checkmate show`, run the code that created it, or start another from one of its stages (`checkmate fork`)"
        )
    return migration


def _list(stages: Sequence[Stage]) -> str:
    return json.dumps([f"{name} ({class_name})" for name, class_name in stages], ensure_ascii=False)
