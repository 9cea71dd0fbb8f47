"""The simulated store: versioned objects in memory, and everything that ever changed them, in order."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.layout import (
    LOCKS_PREFIX,
    MANIFEST_NAME,
    artifact_life,
    cancel_object_name,
    task_id_of,
)
from checkmate_core.testing.simulation.process import WALL_TIME
from checkmate_core.testing.simulation.trace import Body
from checkmate_core.types import (
    ABSENT,
    ANY,
    Capability,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)

_STAMPS: Final = ("epoch", "owner", "write_id", "written_by")


@dataclass(frozen=True, slots=True)
class Change:
    """A write or a remove that the store applied.

    Attributes:
        number: 0 for the first.
        time: When, in virtual seconds.
        by: The process that had sent it.
        name: The object.
        before: What stood there; None if nothing did.
        before_since: When that had been written.
        body: What stands there now; None if it was removed.
        life: ``base_epoch`` of the task's manifest at that moment; None without one or under a tombstone.
        ended_by: Epoch of whoever finished or removed the task, if the manifest said so at that moment.
    """

    number: int
    time: float
    by: str
    name: str
    before: Body | None
    before_since: float
    body: Body | None
    life: int | None
    ended_by: int | None

    @property
    def task_id(self) -> str:
        """The task that the object belongs to."""
        return task_of(self.name)

    @property
    def is_lock(self) -> bool:
        """Whether the object is a lock."""
        return self.name.startswith(LOCKS_PREFIX)

    @property
    def is_manifest(self) -> bool:
        """Whether the object is a manifest."""
        return self.name.endswith(f"/{MANIFEST_NAME}")

    @property
    def is_stage(self) -> bool:
        """Whether the object is a stage."""
        return "/stages/" in self.name

    @property
    def stage(self) -> str:
        """Which stage the object is of, under whatever name."""
        return stage_of(self.name)

    @property
    def is_migration(self) -> bool:
        """Whether the task got another list of stages."""
        before, body = self.before, self.body
        if not self.is_manifest or before is None or body is None or body["removed"]:
            return False
        is_same_life: bool = body["base_epoch"] == before["base_epoch"]
        return is_same_life and bool(body["stage_templates"] != before["stage_templates"])

    @property
    def is_settling(self) -> bool:
        """Whether a manifest was written again as it was, so that what is still on its way to it fails."""
        before, body = self.before, self.body
        if not self.is_manifest or before is None or body is None:
            return False
        return all(body[each] == value for each, value in before.items() if each not in _STAMPS)

    @property
    def is_signal(self) -> bool:
        """Whether the object is an event that was sent."""
        return "/signals/" in self.name

    @property
    def is_cancel_request(self) -> bool:
        """Whether the object is a cancel request."""
        return self.name == cancel_object_name(self.task_id)

    @property
    def artifact_life(self) -> int | None:
        """The life that the object belongs to, if it is of an artifact."""
        return artifact_life(self.name)

    @property
    def is_take_over(self) -> bool:
        """Whether a lock was taken from a holder that had not released it."""
        before, body = self.before, self.body
        if not self.is_lock or before is None or body is None:
            return False
        return before["owner"] is not None and body["epoch"] > before["epoch"]

    @property
    def live_body(self) -> Body | None:
        """What was written, if it is a stage of the life that the manifest tells of, else None.

        What arrives late for a life that was removed is garbage, and every reader takes it for such.
        """
        is_live = self.is_stage and self.body is not None and self.body["base_epoch"] == self.life
        return self.body if is_live else None


@dataclass(frozen=True, slots=True)
class _Stored:
    data: bytes
    version: Version
    body: Body
    since: float


class SimulatedStore:
    """Applies requests one after another.

    Versions are digests of the content, as a plain S3 ETag is: equal bodies have equal versions.

    Attributes:
        capabilities: What it does atomically.
        changes: Everything that it applied.
    """

    def __init__(self, capabilities: frozenset[Capability], now: Callable[[], float]) -> None:
        self.capabilities = capabilities
        self.changes: list[Change] = []
        self._now = now
        self._objects: dict[str, _Stored] = {}
        self._lives: dict[str, int | None] = {}
        self._ended_by: dict[str, int | None] = {}

    @property
    def bodies(self) -> dict[str, Body]:
        """What is stored now."""
        return {name: stored.body for name, stored in self._objects.items()}

    def read(self, name: str) -> StoredObject:
        stored = self._objects.get(name)
        if stored is None:
            raise PersistenceDataNotFoundException(f"there is no object {name}")
        has_clock = Capability.STORE_CLOCK in self.capabilities
        return StoredObject(stored.data, stored.version, self._now() - stored.since if has_clock else None)

    def list(self, prefix: str) -> list[ObjectInfo]:
        return [
            ObjectInfo(
                name, stored.version, len(stored.data), datetime.fromtimestamp(WALL_TIME + stored.since, UTC)
            )
            for name, stored in self._objects.items()
            if name.startswith(prefix)
        ]

    def write(self, by: str, name: str, data: bytes, expect: Expect) -> Version:
        self._check(name, expect)
        version = Version(hashlib.sha256(data).hexdigest())
        self._apply(by, name, _Stored(data, version, _body(name, data), self._now()))
        return version

    def remove(self, by: str, name: str, expect: RemoveExpect) -> bool:
        """Remove an object; False if there was nothing to remove."""
        if expect is not ANY and Capability.REMOVE_IF not in self.capabilities:
            raise UnsupportedBackendException(f"{name} cannot be removed conditionally here")
        self._check(name, expect)
        if name not in self._objects:
            return False
        self._apply(by, name, None)
        return True

    def _check(self, name: str, expect: Expect) -> None:
        if expect is ANY:
            return
        stored = self._objects.get(name)
        if (ABSENT if stored is None else stored.version) != expect:
            raise VersionConflictException(f"{name} has another version than expected")

    def _apply(self, by: str, name: str, stored: _Stored | None) -> None:
        before = self._objects.get(name)
        change = Change(
            number=len(self.changes),
            time=self._now(),
            by=by,
            name=name,
            before=before.body if before else None,
            before_since=before.since if before else 0.0,
            body=stored.body if stored else None,
            life=self._lives.get(task_of(name)),
            ended_by=self._ended_by.get(task_of(name)),
        )
        self.changes.append(change)
        if stored is None:
            del self._objects[name]
        else:
            self._objects[name] = stored
        if change.is_manifest:
            self._note_life(change.task_id, change.body)

    def _note_life(self, task_id: str, manifest: Body | None) -> None:
        is_live = manifest is not None and manifest["removed"] is None
        self._lives[task_id] = manifest["base_epoch"] if manifest and is_live else None
        is_over = manifest is not None and (manifest["removed"] or manifest["ended"])
        self._ended_by[task_id] = manifest["epoch"] if manifest and is_over else None


def _body(name: str, data: bytes) -> Body:
    if artifact_life(name) is not None and not name.endswith(".json"):
        return {"content": hashlib.sha256(data).hexdigest()}
    body: Body = json.loads(data)
    return body


def stage_of(name: str) -> str:
    """Task and number of the stage that an object is of: the digits that end each of its names."""
    return f"{task_of(name)} {re.sub('.*-[a-z]|[.]json$', '', name)}"


def task_of(name: str) -> str:
    """The task that an object belongs to."""
    return task_id_of(name) or name.partition("/")[0]
