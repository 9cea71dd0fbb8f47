"""TaskJournal: one owner's reads and fenced writes of one task's stored objects.

Every write is a swap on the version that this owner last saw. That is the fence: once another
owner has written an object, nothing that this one sends about it is applied any more.

A migration, which changes the task's list of stages, is two writes: the object that an earlier owner could
write next is claimed as it is, marked ``migrating``; then the manifest is swapped. Whoever meets the mark
cannot tell whether that second write is still on its way. So before the claim that takes the mark away,
the manifest is swapped by itself: then the late one fails. ADR 11 tells what goes wrong otherwise.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from checkmate_core.clock import SYSTEM_CLOCK, Clock
from checkmate_core.errors import (
    LockLostException,
    PersistenceDataNotFoundException,
    VersionConflictException,
)
from checkmate_core.io.cas import CasWriter
from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import artifact_life, cancel_object_name, manifest_name
from checkmate_core.manifest import Manifest
from checkmate_core.record import StageRecord
from checkmate_core.status import StageStatus
from checkmate_core.types import ABSENT, ANY, Capability, Expect, StoredObject, Version


class StaleViewError(Exception):
    """What was read is not the latest: read again, and acquire with at least this epoch."""

    def __init__(self, min_epoch: int = 1) -> None:
        super().__init__(min_epoch)
        self.min_epoch = min_epoch


class StageChangedError(VersionConflictException):
    """A stage is not as we last saw it, but no rival has it.

    Either an earlier owner's write arrived between our read and our claim, or one of our own, that
    had been given up without an answer, arrived after all. Adopt ``record`` and decide again.
    """

    def __init__(self, record: StageRecord, url: str) -> None:
        super().__init__(f"{url} is {record.status} by now, not as it was last read; bind the task again")
        self.record = record


class TaskJournal:
    """The stored objects of one task as one owner knows them.

    Attributes:
        owner: Identity that is stamped on every write.
        epoch: Fencing token that is stamped on every write.
        check_held: Called before every write; raises `LockLostException` if the lock behind it is lost.
        is_fenced: Whether a lock stands behind it; without one, versions alone decide.
        has_cancel_request: Whether a cancel request, of whatever life, was there at the last `read_all`.
    """

    def __init__(self, io: TaskIO, task_id: str, *, is_fenced: bool, clock: Clock = SYSTEM_CLOCK) -> None:
        self.io = io
        self.task_id = task_id
        self.is_fenced = is_fenced
        self.owner = uuid4().hex
        self.epoch = 1
        self.check_held: Callable[[], None] = lambda: None
        self.has_cancel_request = False
        self._clock = clock
        self._writer = CasWriter(io, clock)
        self._is_conditional = {Capability.CREATE, Capability.SWAP} <= io.capabilities
        self._manifest: Manifest | None = None
        self._versions: dict[str, Version] = {}
        self._claimed: set[str] = set()
        # Objects that were seen marked by a migration, with the epoch of the owner that marked them.
        self._marks: dict[str, int] = {}

    @property
    def manifest(self) -> Manifest:
        """The manifest as last read or written."""
        if self._manifest is None:
            raise PersistenceDataNotFoundException(f"there is no task {self.task_id} in {self.io.base_url}")
        return self._manifest

    @property
    def has_claimed(self) -> bool:
        """Whether this owner has written a stage, so that its epoch is in use."""
        return bool(self._claimed)

    @property
    def url(self) -> str:
        """The manifest's URL."""
        return self.io.build_url(manifest_name(self.task_id))

    def read_manifest(self) -> Manifest | None:
        """Read the manifest, which may be a tombstone; None if there is none."""
        name = manifest_name(self.task_id)
        try:
            return self._take_manifest(self.io.read(name))
        except PersistenceDataNotFoundException:
            return self._take_manifest(None)

    def read_all(
        self, stage_objects: Sequence[str], *, with_cancel_request: bool = False
    ) -> dict[str, StageRecord | None]:
        """Read the manifest and these stage objects at once, and whether there is a cancel request.

        Garbage of an earlier life counts as absent, but is swapped over, never created.
        """
        name = manifest_name(self.task_id)
        letter = cancel_object_name(self.task_id)
        found = self.io.read_many([name, *stage_objects, *([letter] if with_cancel_request else [])])
        self.has_cancel_request = letter in found
        if self._take_manifest(found.get(name)) is None:
            raise StaleViewError
        return {obj_name: self._take_stage(obj_name, found.get(obj_name)) for obj_name in stage_objects}

    def begin_life(self, templates: list[dict[str, Any]], **fields: Any) -> None:
        """Store a new manifest, over a tombstone if there is one.

        Raises:
            VersionConflictException: There is a live manifest.
        """
        # What is known of stage objects belongs to an earlier life, which may be swept by now.
        self._versions = {
            name: v for name, v in self._versions.items() if name == manifest_name(self.task_id)
        }
        self._claimed.clear()
        self._write_manifest(
            Manifest(
                task_id=self.task_id,
                base_epoch=self.epoch,
                epoch=self.epoch,
                owner=self.owner,
                created=self._now(),
                stage_templates=templates,
                **fields,
            )
        )

    def stake_life(self) -> None:
        """Put a tombstone of ours where the manifest of the next life is to be, so that it can be begun last.

        Nobody else's manifest for it that is still on its way is applied any more, and until `begin_life`
        there is no task for anyone who looks.

        Raises:
            VersionConflictException: There is a live manifest, or somebody else stakes a claim.
        """
        self._write_manifest(
            Manifest(
                task_id=self.task_id,
                base_epoch=self.epoch,
                epoch=self.epoch,
                owner=self.owner,
                created=self._now(),
                removed=self._now(),
                stage_templates=[],
                stage_template_classes=[],
                state_class="",
            )
        )

    def change_stages(self, **fields: Any) -> None:
        """Store another list of stages. To be preceded by a claim that is marked ``migrating``.

        Raises:
            StaleViewError: The manifest is not as it was last read.
        """
        try:
            self._write_manifest(self._stamped(stages_epoch=self.epoch, **fields))
        except VersionConflictException as conflict:
            raise StaleViewError(self.epoch + 1) from conflict

    def end_life(self, status: StageStatus) -> None:
        """Note in the manifest how the task ended.

        Raises:
            LockLostException: The task was removed, begun anew or migrated meanwhile.
        """
        while self.manifest.ended is None:
            try:
                self._write_manifest(self._stamped(ended=self._now(), ended_as=status))
            except VersionConflictException as conflict:
                self._reread_life(conflict)
                if self.manifest.removed is not None:
                    raise self._lost_life() from conflict

    def bury(self) -> None:
        """Replace the manifest with a tombstone.

        Raises:
            LockLostException: The task was begun anew or migrated meanwhile.
        """
        while self.manifest.removed is None:
            try:
                self._write_manifest(self._stamped(removed=self._now(), stage_templates=[]))
            except VersionConflictException as conflict:
                self._reread_life(conflict)

    def write_stage(self, obj_name: str, **fields: Any) -> StageRecord:
        """Store a stage, stamped with this owner. An owner's first write to an object claims it.

        Returns:
            What was stored.

        Raises:
            StageChangedError: An earlier owner's write, or an earlier one of ours, had arrived.
            LockLostException: Another owner has the stage, or the task was removed or migrated.
            TaskIOException: The store failed.
        """
        record = StageRecord(
            epoch=self.epoch,
            base_epoch=self.manifest.base_epoch,
            stages_epoch=self.manifest.stages_epoch,
            owner=self.owner,
            **fields,
        )
        while True:
            self._settle_migration(obj_name)
            try:
                self._versions[obj_name] = self._write(obj_name, record.encode(), record.write_id)
            except VersionConflictException as conflict:
                self._check_claimable(obj_name, conflict)
            else:
                self._claimed.add(obj_name)
                return record

    def list_removable(self) -> list[tuple[str, Version | None]]:
        """The task's objects but its manifest, each with its version, None where none is needed.

        To be asked before `bury`: whatever is listed later may belong to the next life.
        """
        can_remove = not self._is_conditional or Capability.REMOVE_IF in self.io.capabilities
        found: list[tuple[str, Version | None]] = []
        for info in self.io.list(f"{self.task_id}/"):
            life = artifact_life(info.name)
            if life is not None and life <= self.manifest.base_epoch:
                # No later life writes under this name, so it goes on every store, and nothing large is
                # read for its version.
                found.append((info.name, None))
                continue
            if not can_remove or info.name == manifest_name(self.task_id):
                continue
            version = info.version
            if version is None and self._is_conditional:
                try:
                    version = self.io.read(info.name).version
                except PersistenceDataNotFoundException:
                    continue
            found.append((info.name, version))
        return found

    def sweep(self, doomed: Sequence[tuple[str, Version | None]]) -> None:
        """Remove what `list_removable` found, each only as it was found.

        What the store cannot remove conditionally stays, as garbage that every later life ignores.
        """
        for obj_name, version in doomed:
            self.check_held()
            self._writer.remove(obj_name, version if version is not None and self._is_conditional else ANY)

    def _check_claimable(self, obj_name: str, conflict: VersionConflictException) -> None:
        """Decide again after a conflict: return to write once more, or raise."""
        url = self.io.build_url(obj_name)
        lost = LockLostException(
            f"{url} was written by another owner: task {self.task_id} is not ours any more, and this write was "
            "not applied. Stop this worker; the task goes on elsewhere"
        )
        try:
            current = StageRecord.decode((stored := self.io.read(obj_name)).data, url)
        except PersistenceDataNotFoundException:
            raise lost from conflict
        if current.base_epoch < self.manifest.base_epoch and obj_name not in self._claimed:
            self._versions[obj_name] = stored.version
            return
        is_other_task = current.base_epoch != self.manifest.base_epoch
        if is_other_task or current.is_removing or current.stages_epoch > self.manifest.stages_epoch:
            raise lost from conflict
        is_own = current.owner == self.owner
        is_earlier = self.is_fenced and obj_name not in self._claimed and current.epoch < self.epoch
        if not is_own and not is_earlier:
            raise lost from conflict
        self._versions[obj_name] = stored.version
        self._note_mark(obj_name, current)
        if current.is_begun:
            raise StageChangedError(current, url) from conflict

    def _settle_migration(self, obj_name: str) -> None:
        """Let the manifest fail that an earlier owner may have sent once it had marked this object."""
        marked_by = self._marks.get(obj_name)
        # Where a later owner's manifest stands, what was sent before it has arrived or failed.
        while marked_by is not None and marked_by >= self.manifest.epoch:
            try:
                self._write_manifest(self._stamped())
            except VersionConflictException as conflict:
                self._reread_life(conflict)
            else:
                break
        self._marks.pop(obj_name, None)

    def _note_mark(self, obj_name: str, record: StageRecord) -> None:
        self._marks.pop(obj_name, None)
        if record.migrating:
            self._marks[obj_name] = record.epoch

    def _write(self, obj_name: str, data: bytes, write_id: str) -> Version:
        self.check_held()
        expect: Expect = self._versions.get(obj_name, ABSENT) if self._is_conditional else ANY
        return self._writer.write(obj_name, data, write_id, expect=expect)

    def _write_manifest(self, manifest: Manifest) -> None:
        name = manifest_name(self.task_id)
        self._versions[name] = self._write(name, manifest.encode(), manifest.write_id)
        self._manifest = manifest

    def _stamped(self, **changes: Any) -> Manifest:
        kept = self.manifest.model_dump(exclude={"write_id", "written_by"})
        return Manifest.model_validate({**kept, "epoch": self.epoch, "owner": self.owner, **changes})

    def _reread_life(self, conflict: VersionConflictException) -> None:
        """Read the manifest again; raise if another life, owner's word or list of stages stands there."""
        known = self.manifest
        current = self.read_manifest()
        if (
            current is None
            or current.base_epoch != known.base_epoch
            or (self.is_fenced and current.epoch > self.epoch)
        ):
            raise self._lost_life() from conflict
        if current.removed is None and current.stage_list != known.stage_list:
            raise LockLostException(
                f"task {self.task_id} ({self.url}) got other stages by an earlier owner's hand while it was being bound. "
                "This write was not applied. Bind the task again"
            ) from conflict

    def _lost_life(self) -> LockLostException:
        return LockLostException(
            f"task {self.task_id} ({self.url}) was finished, removed or begun anew by another owner; nothing was "
            "changed. Stop this worker"
        )

    def _take_manifest(self, stored: StoredObject | None) -> Manifest | None:
        name = manifest_name(self.task_id)
        if stored is None:
            self._manifest = None
            self._versions.pop(name, None)
            return None
        self._manifest = Manifest.decode(stored.data, self.url)
        self._versions[name] = stored.version
        return self._manifest

    def _take_stage(self, obj_name: str, stored: StoredObject | None) -> StageRecord | None:
        if stored is None:
            self._versions.pop(obj_name, None)
            return None
        record = StageRecord.decode(stored.data, self.io.build_url(obj_name))
        self._versions[obj_name] = stored.version
        if record.base_epoch > self.manifest.base_epoch:
            raise StaleViewError(record.epoch + 1)
        if record.base_epoch < self.manifest.base_epoch:
            return None
        if record.stages_epoch > self.manifest.stages_epoch:
            # A migration came between the read of the manifest and this one.
            raise StaleViewError(record.epoch + 1)
        self._note_mark(obj_name, record)
        return record

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)
