"""ArtifactRef: what a state holds of an artifact."""

from base64 import b64decode, b64encode
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from checkmate_core.errors import CorruptObjectException, InvalidStateException
from checkmate_core.transfer import digest

INLINE_BELOW: Final = 4096
"""Bytes from which on a value is stored as an object of its own, unless a put says otherwise."""

INLINE_MAX: Final = 256 * 1024
"""What `inline_below` may be at most: what is inline is stored again at every change of the state."""

NAME_MAX_LENGTH: Final = 150


class ArtifactRef(BaseModel):
    """Says which artifact it is, and proves its content. For fields of a state: ``ArtifactRef | None = None``.

    It belongs to its task: it can be read by the task's stages and by `TaskStore.artifacts`.

    Attributes:
        name: For people.
        sha256: SHA-256 of the whole value, in hexadecimal.
        size: Bytes of the whole value.
        codec: What the bytes are: ``bytes``, ``json``, ``npy`` or ``parquet``.
        kept: Where they are: in this very field, in one object, or in parts that an index object names.
        inline: The bytes in base64, if they are in this very field.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1, max_length=NAME_MAX_LENGTH)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    codec: str
    kept: Literal["inline", "object", "parts"]
    inline: str | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _check_inline(self) -> Self:
        if (self.kept == "inline") != (self.inline is not None):
            raise ValueError("the bytes of an artifact are in the ref if it is kept inline, and only then")
        return self

    @classmethod
    def of_bytes(cls, name: str, data: bytes, codec: str) -> Self:
        """A ref that holds the bytes itself."""
        return cls(
            name=name,
            sha256=digest(data),
            size=len(data),
            codec=codec,
            kept="inline",
            inline=b64encode(data).decode(),
        )

    def inline_bytes(self, where: str) -> bytes:
        """The bytes that it holds itself, verified.

        Raises:
            CorruptObjectException: They are not those that were put.
        """
        try:
            data = b64decode(self.inline or "", validate=True)
        except ValueError as exc:
            raise self._damaged(where) from exc
        if len(data) != self.size or digest(data) != self.sha256:
            raise self._damaged(where)
        return data

    def _damaged(self, where: str) -> CorruptObjectException:
        return CorruptObjectException(
            f"{where} is kept in the state itself and is not what was put there: its SHA-256 is another. Restore the "
            "stage's object from a backup, or have a new task make the artifact again"
        )


def check_put(name: str, inline_below: int, task_id: str) -> None:
    """Refuse what cannot be the name of an artifact, or the size up to which it is inline.

    Raises:
        InvalidStateException: It cannot.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_MAX_LENGTH:
        raise InvalidStateException(
            f"{name!r} cannot name an artifact of task {task_id}: a name is text of 1 to {NAME_MAX_LENGTH} characters"
        )
    if not 0 <= inline_below <= INLINE_MAX:
        raise InvalidStateException(
            f"artifact {name!r} of task {task_id}: inline_below must be from 0 to {INLINE_MAX} bytes, not "
            f"{inline_below}; what is inline is stored again at every change of the state"
        )
