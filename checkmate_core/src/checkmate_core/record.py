"""The stored form of a stage, and how stored documents are written and read."""

import json
import os
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError

from checkmate_core.errors import (
    CorruptObjectException,
    IncompatibleTaskException,
    InvalidStateException,
    SealedObjectException,
)
from checkmate_core.io.sealed_body import describe_seal
from checkmate_core.notes import StageNotes
from checkmate_core.state import STAGE_STATE, BaseStageState, StageStateHistoryEntry
from checkmate_core.status import StageStatus
from checkmate_core.version import __version__

FORMAT: Final = 1

MAX_STATE_BYTES: Final = 4 * 1024 * 1024
"""What a state may be at most, as JSON. It is stored whole at every change of the stage's status."""

DOCUMENT = TypeVar("DOCUMENT", bound="StoredDocument")


def new_write_id() -> str:
    """A nonce: it tells this write from any other, and no two bodies have one ETag."""
    return os.urandom(16).hex()


class StoredDocument(BaseModel):
    """What every stored JSON object has.

    Attributes:
        format: Number of the layout of this object; an unknown one is refused.
        written_by: CheckMate version that wrote it.
        write_id: Nonce of the write; a writer recognises its own by it.
    """

    # Later releases may add to a format; they raise its number when an older reader would be wrong.
    model_config = ConfigDict(extra="ignore")
    KIND: ClassVar[str] = "object"

    format: int = FORMAT
    written_by: str = __version__
    write_id: str = Field(default_factory=new_write_id)

    def encode(self) -> bytes:
        """The stored bytes."""
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls: type[DOCUMENT], data: bytes, url: str) -> DOCUMENT:
        """Read stored bytes.

        Raises:
            CorruptObjectException: They are not JSON, or not such a document.
            SealedObjectException: They are sealed, and the store was opened without what opens them.
            IncompatibleTaskException: A newer CheckMate wrote them.
        """
        try:
            found = json.loads(data)
            number = found["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            if seal := describe_seal(data):
                raise SealedObjectException(f"the {cls.KIND} {url} is {seal}. Nothing was changed") from exc
            raise CorruptObjectException(
                f"the {cls.KIND} {url} cannot be read: it is not a CheckMate document ({exc}). Nothing was "
                "changed. Restore it from a backup, or remove it if the task is not needed"
            ) from exc
        if number != FORMAT:
            raise IncompatibleTaskException(
                f"the {cls.KIND} {url} has format {number!r}, written by CheckMate "
                f"{found.get('written_by', '(unknown)')}; this is CheckMate {__version__}, which reads format "
                f"{FORMAT}. Nothing was changed. Use the version that wrote it, or newer"
            )
        try:
            return cls.model_validate(found)
        except ValidationError as exc:
            raise CorruptObjectException(
                f"the {cls.KIND} {url} cannot be read: {faults_of(exc)}. Nothing was changed. "
                "Restore it from a backup, or remove it if the task is not needed"
            ) from exc


class StageRecord(StoredDocument):
    """A stage as stored.

    Attributes:
        stage_name: The stage's name, unescaped.
        status: Its status, or REMOVING: the task is being removed and whoever sees this helps.
        attempts: How often it was begun.
        history: Every change of its status.
        state: Its state without the bookkeeping above, in JSON terms.
        schema_version: Version of the class that stored the state.
        migrating: An owner was about to change the task's list of stages when it wrote this, and the
            manifest that it sent may still be on its way. See `TaskJournal`.
        notes: What the engine notes of it.
        epoch: Fencing token of the owner that wrote this.
        base_epoch: The life of the task that this belongs to; lower than the manifest's means
            garbage of an earlier life.
        owner: The acquisition of the lock that wrote this.
        stages_epoch: That of the manifest that its writer went by; higher than the manifest's means that
            the task was migrated since that was read.
    """

    KIND: ClassVar[str] = "stage object"

    stage_name: str
    status: StageStatus | Literal["REMOVING"]
    attempts: int = Field(ge=0)
    history: list[StageStateHistoryEntry]
    state: dict[str, Any]
    schema_version: int = Field(default=1, ge=1)
    migrating: bool = False
    notes: StageNotes = Field(default_factory=StageNotes)
    epoch: int
    base_epoch: int
    owner: str
    stages_epoch: int = 0

    @property
    def is_removing(self) -> bool:
        """Whether the task is being removed."""
        return self.status == "REMOVING"

    @property
    def is_begun(self) -> bool:
        """Whether the stage ever began; if not, the manifest alone says what it is."""
        return self.status != StageStatus.CREATED

    def load_state(self, state_class: type[STAGE_STATE], url: str) -> STAGE_STATE:
        """The state as the model that the stage declares.

        Raises:
            IncompatibleTaskException: It does not fit the class.
        """
        return load_state(
            state_class, self.state, url, version=self.schema_version, bookkeeping=self.bookkeeping()
        )

    def bookkeeping(self) -> dict[str, Any]:
        """Status, attempts and history in JSON terms, as the state holds them."""
        return {
            "status": self.status,
            "attempts": self.attempts,
            "history": [entry.model_dump(mode="json") for entry in self.history],
        }


def stage_statuses(records: Sequence[StageRecord | None]) -> list[StageStatus]:
    """What the stages of one task count as. One that is being removed is no more than not complete."""
    found = []
    is_going_back = any(record and record.status == StageStatus.ROLLED_BACK for record in records)
    for record in records:
        if record is not None and not record.is_removing:
            found.append(StageStatus(record.status))
        elif record is not None and is_going_back:
            found.append(StageStatus.ROLLING_BACK)
        else:
            found.append(StageStatus.CREATED)
    return found


def dump_state(state: BaseStageState, where: str) -> dict[str, Any]:
    """A state in JSON terms, by its runtime type, without status, attempts and history.

    Raises:
        InvalidStateException: JSON cannot hold it, or it is larger than `MAX_STATE_BYTES`.
    """
    try:
        # By way of text, which is what will be read back: an infinity is a string there, say.
        text = state.model_dump_json(exclude={"status", "attempts", "history"}, warnings="none")
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as exc:
        raise InvalidStateException(
            f"the state of {where} cannot be stored as JSON: {exc}. Keep a path, an id or plain data in the "
            "state instead, or give the attribute a pydantic type with a serializer"
        ) from exc
    dumped: dict[str, Any] = json.loads(text)
    # A character is four bytes at most, so most states need not be encoded to be measured.
    if len(text) > MAX_STATE_BYTES // 4 and (size := len(text.encode())) > MAX_STATE_BYTES:
        raise _too_large(dumped, size, where)
    return dumped


def _too_large(dumped: dict[str, Any], size: int, where: str) -> InvalidStateException:
    sizes = {name: len(json.dumps(value, ensure_ascii=False).encode()) for name, value in dumped.items()}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
    return InvalidStateException(
        f"the state of {where} is {size:,} bytes of JSON, and {MAX_STATE_BYTES:,} are allowed, for it is stored whole "
        f"at every change. Its largest attributes: {', '.join(f'{name} ({sizes[name]:,})' for name in largest)}. Keep "
        "large values as artifacts: declare the attribute as ArtifactRef | None = None and set it to "
        "self.artifacts.put(name, value)"
    )


def check_readable(state: BaseStageState, dumped: dict[str, Any], where: str) -> None:
    """Refuse a state that the store would not give back.

    Attributes are not validated when a stage assigns them, and a field that is typed with a base
    class drops what a subclass adds: both would be stored, and missed only after a crash.

    Raises:
        InvalidStateException: What is read back is less than what was there.
    """
    try:
        found = type(state).model_validate_json(json.dumps(dumped))
    except ValidationError as exc:
        raise InvalidStateException(
            f"the state of {where} cannot be read back from the store: {faults_of(exc)}. Assign what the "
            "attribute's type says, or change the type"
        ) from exc
    before, after = (
        each.model_dump(serialize_as_any=True, warnings="none", include=set(dumped))
        for each in (state, found)
    )
    lost = [name for name in before if not _comes_back(after.get(name), before[name])]
    if lost:
        raise InvalidStateException(
            f"the state of {where} would come back changed from the store, in {', '.join(lost)}. Declare the "
            "attribute with the type that it holds (a union for several), so that nothing is dropped at reading"
        )


def _comes_back(found: Any, wanted: Any) -> bool:
    """Whether nothing is lost or changed; JSON may give a value another type, as it knows fewer."""
    if type(found) is type(wanted) and found == wanted:
        return True
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or len(found) != len(wanted):
            return False
        # Keys of JSON are text, and a mapping is read back in the order it was written.
        return all(_comes_back(*pair) for pair in zip(found.values(), wanted.values(), strict=True))
    if isinstance(wanted, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(found) != len(wanted):
            return False
        return all(_comes_back(*pair) for pair in zip(found, wanted, strict=True))
    is_nan = wanted != wanted
    return type(found) is not type(wanted) or is_nan


def load_state(
    state_class: type[STAGE_STATE],
    data: dict[str, Any],
    url: str,
    *,
    version: int | None = None,
    bookkeeping: dict[str, Any] | None = None,
) -> STAGE_STATE:
    """A state from JSON terms.

    Args:
        state_class: What it is to be.
        data: Its attributes.
        url: Where they are stored.
        version: Version of the class that stored them; None: this one.
        bookkeeping: Attributes that are nobody's to migrate.

    Raises:
        IncompatibleTaskException: They do not fit the class.
    """
    current = migrated(state_class, data, url, version)
    try:
        # From JSON text, since some types read text otherwise than they read Python values.
        return state_class.model_validate_json(json.dumps({**current, **(bookkeeping or {})}))
    except (ValidationError, TypeError, ValueError) as exc:
        faults = faults_of(exc) if isinstance(exc, ValidationError) else f"migrate() returned no JSON ({exc})"
        how = "Run the code that wrote it, or"
        how += (
            f" raise {state_class.__name__}.schema_version and write migrate()"
            if version in (None, state_class.schema_version)
            else f" mend {state_class.__name__}.migrate(), which read version {version} for {state_class.schema_version},"
        )
        raise IncompatibleTaskException(
            f"the state stored in {url} does not fit {state_class.__name__}: {faults}. Nothing was changed. "
            f"{how} so that the class reads what is stored"
        ) from exc


def migrated(
    state_class: type[BaseStageState], data: dict[str, Any], url: str, version: int | None
) -> dict[str, Any]:
    """The attributes as the present version of the class names them.

    Raises:
        IncompatibleTaskException: A later version stored them, or `migrate` raised.
    """
    wanted = state_class.schema_version
    if version is None or version == wanted:
        return data
    name = state_class.__name__
    if version > wanted:
        raise IncompatibleTaskException(
            f"the state stored in {url} has schema_version {version}, and {name} is of {wanted}. Nothing was changed. "
            f"Run code whose {name} has schema_version {version} or above"
        )
    try:
        found = state_class.migrate(deepcopy(data), version)
    except Exception as exc:
        raise IncompatibleTaskException(
            f"the state stored in {url} has schema_version {version}, {name} is of {wanted}, and {name}.migrate() "
            f"failed: {type(exc).__name__}: {exc}. Nothing was changed. Mend migrate(), or run the code that wrote it"
        ) from exc
    if not isinstance(found, dict):
        raise IncompatibleTaskException(
            f"{name}.migrate() returned {type(found).__name__}, not the attributes as a dict, for the state stored in "
            f"{url} with schema_version {version}. Nothing was changed. Let it return them"
        )
    return found


def faults_of(error: ValidationError) -> str:
    # Only places and reasons: the values may be anything, and do not belong in a message.
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'document'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    )
