"""What a stage knows: BaseStageState, its history, and how it travels to the next stage."""

from copy import deepcopy
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from checkmate_core.errors import IncompatibleTaskException, MissingStateException
from checkmate_core.status import StageStatus

STAGE_STATE = TypeVar("STAGE_STATE", bound="BaseStageState")

BOOKKEEPING: Final = frozenset({"status", "attempts", "history", "result"})
"""State fields that belong to one stage and do not travel to the next."""


class StageStateHistoryEntry(BaseModel):
    """One change of a stage's status.

    Attributes:
        begin: When what this entry tells of began, in the stage's timezone.
        end: When it ended; None while it goes on.
        message: What happened, for people.
        status: The status that the stage got.
        host: Host name of the process that did it.
        epoch: Fencing token of the owner that did it; None without a lock.
    """

    model_config = ConfigDict(frozen=True)

    begin: datetime
    end: datetime | None = None
    message: str
    status: StageStatus
    host: str = ""
    epoch: int | None = None

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> "StageStateHistoryEntry":
        # Immutable, and copied with every state.
        return self


class BaseStageState(BaseModel):
    """State that all stages of a task share. Subclass it and give every attribute a default.

    The default matters: before a stage runs, each attribute that still holds its default takes the
    previous stage's value. States are stored as JSON by their runtime type, so attributes must be
    what pydantic can write as JSON and read back.

    Attributes:
        schema_version: Of the class, not of one state: raise it when attributes change in a way that
            stored states do not fit any more, and write `migrate`.
        status: Where the stage stands. Only the engine changes it.
        attempts: How often the stage was begun.
        history: Every change of its status.
        result: What the stage has to hand over; the last completed stage's is the task's result.
    """

    model_config = ConfigDict(
        extra="forbid",
        # JSON has no such numbers; null would come back as None or not at all.
        ser_json_inf_nan="strings",
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    schema_version: ClassVar[int] = 1

    status: StageStatus = Field(default=StageStatus.UNBOUND, title="Status")
    attempts: int = Field(default=0, ge=0, title="Attempts", description="How often the stage was begun")
    history: list[StageStateHistoryEntry] = Field(default_factory=list, title="History")
    result: Any = Field(default=None, title="Result", description="What the stage hands over")

    @classmethod
    def migrate(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        """Turn what an earlier version of this class stored into what this one reads. Override it.

        Called at every read of a state whose version is lower than `schema_version`, before it is
        validated; a complete stage keeps what it has, so it is read like that for ever. Do not count on
        the order of stages or on anything outside.

        Args:
            data: The attributes in JSON terms, without status, attempts and history; a copy.
            from_version: The version that stored them.

        Returns:
            The attributes as this version names and types them. One that had its default must get the
            new default: otherwise it looks set, and takes no value from the previous stage.

        Raises:
            IncompatibleTaskException: There is no way. That is what the default says.
        """
        raise IncompatibleTaskException(f"{cls.__name__} has no migrate() that reads version {from_version}")

    def require(self, *names: str) -> None:
        """Check that a stage has the inputs it needs.

        Args:
            *names: Attributes that must not be None.

        Raises:
            MissingStateException: Some are None. The stage is not retried.
        """
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise MissingStateException(
                f"{type(self).__name__} lacks {', '.join(missing)}: an earlier stage must set it, "
                "or the task's templates must"
            )

    def carry_forward(self, previous: "BaseStageState") -> None:
        """Take the previous stage's value for every attribute that still holds its default."""
        for name, field in travelling_fields(type(self)).items():
            if self._holds_default(name, field):
                setattr(self, name, deepcopy(getattr(previous, name)))

    def _holds_default(self, name: str, field: FieldInfo) -> bool:
        value = getattr(self, name)
        default = field.get_default(call_default_factory=True, validated_data=vars(self))
        return value is default or bool(type(value) is type(default) and value == default)

    def restore(self, snapshot: "BaseStageState") -> None:
        """Go back to the attributes of ``snapshot``; bookkeeping but the result stays."""
        for name in (*travelling_fields(type(self)), "result"):
            setattr(self, name, getattr(snapshot, name))


@cache
def travelling_fields(state_class: type[BaseStageState]) -> dict[str, FieldInfo]:
    """The fields of a state class that travel from stage to stage."""
    return {name: field for name, field in state_class.model_fields.items() if name not in BOOKKEEPING}
