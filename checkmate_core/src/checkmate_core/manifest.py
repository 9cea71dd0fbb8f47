"""What is stored of a task as a whole: which stages it has, from which life, and how it ended."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from checkmate_core.errors import IncompatibleTaskException, TaskEngineException
from checkmate_core.layout import stage_object_name
from checkmate_core.record import StoredDocument, check_readable, dump_state
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
        stages_epoch: Epoch of the owner that gave the task its list of stages; 0 where that is who began it.
        epoch: Epoch of the owner that wrote this.
        owner: The acquisition of the lock that wrote this.
        created: When this life began.
        stage_template_classes: Qualified names of the stages' classes.
        stage_templates: The stages with their inputs, in JSON terms.
        schema_versions: Version of the class that stored each template's state; empty: all 1.
        stage_objects: Stage names that the stages' objects are named by. They differ from the stages'
            where one was renamed after it had begun; empty: none was.
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
    stages_epoch: int = 0
    epoch: int
    owner: str
    created: datetime
    stage_template_classes: list[str]
    stage_templates: list[dict[str, Any]]
    schema_versions: list[int] = Field(default_factory=list)
    stage_objects: list[str] = Field(default_factory=list)
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
            if any(
                len(each) not in (0, len(self.stage_templates))
                for each in (self.schema_versions, self.stage_objects)
            ):
                raise ValueError("it needs as many schema versions and objects as stages, or none")
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

    @property
    def objects(self) -> list[str]:
        """Names of the objects of the stages in their order."""
        return [
            stage_object_name(self.task_id, index, self.object_stage_name(index))
            for index in range(len(self.stage_templates))
        ]

    @property
    def stage_list(self) -> tuple[list[str], list[str], list[str]]:
        """Which stages the task has; another one means that it was migrated."""
        return self.stage_names, self.stage_template_classes, self.objects

    def object_stage_name(self, index: int) -> str:
        """The stage name that the object of a stage is named by."""
        return self.stage_objects[index] if self.stage_objects else self.stage_names[index]

    def schema_version_of(self, index: int) -> int:
        """Version of the class that stored the state of a template."""
        return self.schema_versions[index] if self.schema_versions else 1


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
    version: object = state_class.schema_version
    if not isinstance(version, int) or version < 1:
        raise IncompatibleTaskException(
            f"{state_class.__name__}.schema_version is {version!r}; it must be a whole number of at least 1"
        )
    required = [name for name, field in state_class.model_fields.items() if field.is_required()]
    if required:
        raise IncompatibleTaskException(
            f"{state_class.__name__} has attributes without a default: {', '.join(required)}. Give each one "
            "(usually None): a default is how the engine knows that a stage has not set it"
        )
    return state_class
