"""The object that says which parts a large artifact is made of."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints, model_validator

from checkmate_core.record import StoredDocument

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ArtifactIndex(StoredDocument):
    """Written when all parts are there, so an artifact that can be found is whole.

    It names no task and no life of one, so that a copy of the objects under other names stays right.

    Attributes:
        sha256: SHA-256 of the whole value.
        size: Bytes of the whole value.
        part_size: Bytes of every part but the last.
        parts: SHA-256 of each part, in order.
    """

    KIND: ClassVar[str] = "artifact index"

    sha256: Digest
    size: int = Field(gt=0)
    part_size: int = Field(gt=0)
    parts: list[Digest]

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if len(self.parts) != -(-self.size // self.part_size):
            raise ValueError("there are not as many parts as the sizes say")
        return self

    def size_of(self, part: int) -> int:
        """Bytes of one part."""
        return min(self.part_size, self.size - part * self.part_size)
