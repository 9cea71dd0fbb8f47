"""Where the artifacts of one life of a task are, object by object."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from checkmate_core.artifacts.index import ArtifactIndex
from checkmate_core.errors import (
    CorruptObjectException,
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import artifact_index_name, artifact_object_name
from checkmate_core.transfer import digest, persistently
from checkmate_core.types import ABSENT, ANY, Capability

PARALLEL: Final = 4
"""How many parts of one artifact are on their way at once, and so in memory."""


@dataclass(frozen=True, kw_only=True)
class ArtifactPlace:
    """All that artifacts need to know of their task.

    Attributes:
        io: The store.
        task_id: The task.
        base_epoch: Its life.
        check_held: Called before every request that moves content; raises once the task is not this
            worker's any more, so that it stops sending.
    """

    io: TaskIO
    task_id: str
    base_epoch: int
    check_held: Callable[[], object] = lambda: None

    def until(self, check: Callable[[], object]) -> "ArtifactPlace":
        """The same place, for work that this check may end as well."""

        def both() -> None:
            check()
            self.check_held()

        return replace(self, check_held=both)

    def put(self, sha256: str, data: bytes, *, look: bool = False) -> bool:
        """Store content under its digest, unless it is there.

        Args:
            sha256: The digest.
            data: The content.
            look: Ask first whether it is there, so that it is not sent in vain.

        Returns:
            Whether it was there already.
        """
        obj_name = artifact_object_name(self.task_id, self.base_epoch, sha256)

        def once() -> bool:
            self.check_held()
            if look and self.io.exists(obj_name):
                return True
            return not self._create(obj_name, data)

        return persistently(once)

    def put_index(self, index: ArtifactIndex) -> None:
        """Store an index, unless one for the same content is there; that may have parts of another size."""
        obj_name = artifact_index_name(self.task_id, self.base_epoch, index.sha256)
        data = index.encode()

        def once() -> None:
            self.check_held()
            if self._create(obj_name, data):
                return
            try:
                self._decode(obj_name, self.io.read(obj_name).data, index.sha256, index.size)
            except PersistenceDataNotFoundException as exc:
                raise StorageUnavailableException(
                    f"{self.io.build_url(obj_name)} was refused as existing, then was not there"
                ) from exc

        persistently(once)

    def get(self, sha256: str, size: int, what: str) -> bytes:
        """Content by its digest, verified.

        Raises:
            CorruptObjectException: It is not the content that was put.
            PersistenceDataNotFoundException: It is not there.
        """
        obj_name = artifact_object_name(self.task_id, self.base_epoch, sha256)
        data = self._read(obj_name, what)
        found = digest(data)
        if (found, len(data)) != (sha256, size):
            wrong = f"the SHA-256 {found}" if len(data) == size else f"{len(data)} bytes, not {size}"
            raise CorruptObjectException(
                f"{self.io.build_url(obj_name)}, which holds {what}, is not what was put there: it has {wrong}. "
                "Restore it from a backup, or have a new task make the artifact again"
            )
        return data

    def get_index(self, sha256: str, size: int, what: str) -> ArtifactIndex:
        """The index of content in parts.

        Raises:
            CorruptObjectException: It is not the index of that content.
            PersistenceDataNotFoundException: It is not there.
        """
        obj_name = artifact_index_name(self.task_id, self.base_epoch, sha256)
        return self._decode(obj_name, self._read(obj_name, what), sha256, size)

    def _create(self, obj_name: str, data: bytes) -> bool:
        expect = ABSENT if Capability.CREATE in self.io.capabilities else ANY
        try:
            self.io.write(obj_name, data, expect=expect)
        except VersionConflictException:
            # Named by its content: whoever wrote it, and be it an unanswered request of ours, it is the same.
            return False
        return True

    def _read(self, obj_name: str, what: str) -> bytes:
        self.check_held()
        try:
            return persistently(lambda: self.io.read(obj_name)).data
        except PersistenceDataNotFoundException as exc:
            raise PersistenceDataNotFoundException(
                f"{what} is not whole: {self.io.build_url(obj_name)} is not there. Either the ref is of another task "
                "or of a removed one, or somebody removed the object: restore it from a backup"
            ) from exc

    def _decode(self, obj_name: str, data: bytes, sha256: str, size: int) -> ArtifactIndex:
        url = self.io.build_url(obj_name)
        index = ArtifactIndex.decode(data, url)
        if (index.sha256, index.size) != (sha256, size):
            raise CorruptObjectException(
                f"the artifact index {url} is of other content than its name says. Nothing was changed. Restore it "
                "from a backup, or have a new task make the artifact again"
            )
        return index
