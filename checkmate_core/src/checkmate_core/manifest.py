"""What is stored of a task as a whole: which stages it has, from which life, and how it ended."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from checkmate_core.errors import IncompatibleTaskException, TaskEngineException
from checkmate_core.imported import qualified_name
from checkmate_core.record import StoredDocument, check_readable, dump_state, load_state
from checkmate_core.stage import STAGE, BaseStage
from checkmate_core.state import BaseStageState
from checkmate_core.status import StageStatus


class TaskEngineState(BaseModel, Generic[STAGE]):
    """The stages that a task is made of, as they were before any ran.

    Attributes:
        stage_template_classes: Qualified names of the stages' classes.
        stage_templates: The stages with their inputs.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    stage_template_classes: list[str] = Field(
        ..., title="Stage Template Classes", description="List of stage template classes"
    )
    stage_templates: list[STAGE] = Field(..., title="Stage Templates", description="List of stage templates")


class Manifest(StoredDocument):
    """The manifest of one life of a task, or the tombstone of a removed one.

    Written at creation, once when the task is finished, and when it is removed. What happens in
    between stands in the stage objects alone: a summary here could be written by an owner that
    has lost the task.

    Attributes:
        task_id: The task.
        base_epoch: Epoch of the owner that began this life; stage objects with a lower one are
            garbage of an earlier life.
        epoch: Epoch of the owner that wrote this.
        owner: The acquisition of the lock that wrote this.
        created: When this life began.
        stage_template_classes: Qualified names of the stages' classes.
        stage_templates: The stages with their inputs, in JSON terms.
        state_class: Qualified name of the state class.
        max_attempts: The engine's, for whoever loads the task.
        retry_policy: The engine's, for whoever loads the task.
        on_error: The engine's, for whoever loads the task.
        max_interruptions: The engine's, for whoever loads the task.
        ended: When the task was finished; None before.
        ended_as: COMPLETE, CANCELED or ROLLED_BACK; None before.
        removed: When the task was removed: this is a tombstone.
    """

    KIND: ClassVar[str] = "manifest"

    task_id: str
    base_epoch: int
    epoch: int
    owner: str
    created: datetime
    stage_template_classes: list[str]
    stage_templates: list[dict[str, Any]]
    state_class: str
    max_attempts: int = 1
    retry_policy: dict[str, Any] = Field(default_factory=dict)
    on_error: Literal["stop", "compensate"] = "stop"
    max_interruptions: int = 3
    ended: datetime | None = None
    ended_as: StageStatus | None = None
    removed: datetime | None = None

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if self.removed is None:
            if not self.stage_templates or len(self.stage_templates) != len(self.stage_template_classes):
                raise ValueError("it needs as many stage templates as stage classes, and at least one")
            for template in self.stage_templates:
                if not isinstance(template.get("stage_name"), str) or not isinstance(
                    template.get("state"), dict
                ):
                    raise ValueError("a stage template lacks its name or its state")  # noqa: TRY004 - pydantic's way
        return self

    @property
    def is_over(self) -> bool:
        """Whether this life of the task was finished or removed."""
        return self.ended is not None or self.removed is not None

    @property
    def stage_names(self) -> list[str]:
        """Names of the stages in their order."""
        return [template["stage_name"] for template in self.stage_templates]


def dump_templates(stages: Sequence[BaseStage[Any]], task_id: str) -> list[dict[str, Any]]:
    """Stages in JSON terms, by their runtime type.

    Raises:
        InvalidStateException: JSON cannot hold a stage or its state.
    """
    templates = []
    for stage in stages:
        where = f"stage {stage.stage_name!r} of task {task_id}"
        state = dump_state(stage.state, where)
        check_readable(stage.state, state, where)
        templates.append({**stage.dump_fields(where), "state": state})
    return templates


def check_same_task(manifest: Manifest, stages: Sequence[BaseStage[Any]], url: str) -> None:
    """Refuse to work on a stored task with stages that it was not made of.

    Raises:
        IncompatibleTaskException: Another number, order, name or class of stages, or a state class
            that cannot read the stored inputs.
    """
    stored = list(zip(manifest.stage_names, manifest.stage_template_classes, strict=False))
    given = [(stage.stage_name, qualified_name(type(stage))) for stage in stages]
    if stored != given:
        raise IncompatibleTaskException(
            f"task {manifest.task_id} ({url}) has the stages {_list(stored)}, but this process has {_list(given)}. "
            "Nothing was changed. Run the code that created the task, or give a new task id"
        )
    for stage, template in zip(stages, manifest.stage_templates, strict=True):
        load_state(type(stage.state), template["state"], url)


def check_stage_list(stages: Sequence[BaseStage[Any]], task_id: str) -> type[BaseStageState]:
    """The one state class of the stages of a task.

    Raises:
        IncompatibleTaskException: They have several, or an attribute has no default.
        TaskEngineException: A template is not fresh.
    """
    state_class = type(stages[0].state)
    for stage in stages:
        if stage.status is not StageStatus.UNBOUND or stage.attempts or stage.state.history:
            raise TaskEngineException(
                f"the template of stage {stage.stage_name!r} of task {task_id} has been executed ({stage.status}, "
                f"{stage.attempts} attempts); make a new stage for a new task"
            )
        if type(stage.state) is not state_class:
            raise IncompatibleTaskException(
                f"the stages of task {task_id} have different state classes: {state_class.__name__} and, in stage "
                f"{stage.stage_name!r}, {type(stage.state).__name__}. Give all of them one"
            )
    required = [name for name, field in state_class.model_fields.items() if field.is_required()]
    if required:
        raise IncompatibleTaskException(
            f"{state_class.__name__} has attributes without a default: {', '.join(required)}. Give each one "
            "(usually None): a default is how the engine knows that a stage has not set it"
        )
    return state_class


def _list(stages: Sequence[tuple[str, str]]) -> str:
    return json.dumps([f"{name} ({class_name})" for name, class_name in stages], ensure_ascii=False)
