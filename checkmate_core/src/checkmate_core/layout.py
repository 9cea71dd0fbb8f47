"""Names of a task's objects below the base URL.

    <task_id>/task.json                  the manifest
    <task_id>/stages/000-<stage>.json    one per stage
    <task_id>/artifacts/<life>-<sha256>  large values, or parts of them; with .json: which parts one has
    <task_id>/cancel.json                a request to cancel the task
    <task_id>/signals/<event>.json       an event that the task has not taken yet
    _locks/<task_id>.lock                the bind lock
    _probe/<uuid>                        of a probe of the store, while it lasts; no task's

Task ids and stage names are the user's; nothing in them can leave the base URL.
"""

import re
from hashlib import sha256
from typing import Final
from urllib.parse import quote
from uuid import uuid4

from checkmate_core.errors import TaskEngineException

STAGE_NAME_MAX_LENGTH: Final = 150
LOCK_EXTENSION: Final = "lock"
LOCKS_PREFIX: Final = "_locks/"
PROBE_PREFIX: Final = "_probe/"
MANIFEST_NAME: Final = "task.json"
EVENT_NAME_MAX_LENGTH: Final = 150

_ARTIFACT = re.compile(r"[^/]+/artifacts/(?P<life>[0-9]+)-[0-9a-f]{64}(\.json)?", re.ASCII)
_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
# Leaves room within 255 bytes for the index, the dashes, the digest and the extension.
_ESCAPED_MAX = 200
_DIGEST_LENGTH = 16


def check_task_id(task_id: str) -> str:
    """Return ``task_id`` if it can name a task.

    Raises:
        TaskEngineException: It cannot.
    """
    if not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id):
        raise TaskEngineException(
            f"task id {task_id!r} is refused: 1 to 128 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return task_id


def task_prefix(task_id: str) -> str:
    """What the names of all objects of a task but its lock begin with."""
    return f"{task_id}/"


def manifest_name(task_id: str) -> str:
    """Name of the object that says what the task is."""
    return f"{task_id}/{MANIFEST_NAME}"


def stage_object_name(task_id: str, index: int, stage_name: str) -> str:
    """Name of the object of one stage.

    Stage names are escaped as in URLs; one that would pass the 255 bytes of a file name is cut and
    ends in a digest of the whole.
    """
    return f"{task_id}/stages/{index:03d}-{_escape(stage_name)}.json"


def cancel_object_name(task_id: str) -> str:
    """Name of the object that asks for the task to be canceled."""
    return f"{task_id}/cancel.json"


def check_event_name(event: str) -> str:
    """Return ``event`` if it can name an event.

    Raises:
        TaskEngineException: It cannot.
    """
    if not isinstance(event, str) or not 1 <= len(event) <= EVENT_NAME_MAX_LENGTH:
        raise TaskEngineException(
            f"event name {event!r} is refused: any text of 1 to {EVENT_NAME_MAX_LENGTH} characters"
        )
    return event


def signal_object_name(task_id: str, event: str) -> str:
    """Name of the object of an event that was sent; escaped and shortened like a stage's."""
    return f"{task_id}/signals/{_escape(event)}.json"


def artifact_object_name(task_id: str, base_epoch: int, sha256: str) -> str:
    """Name of an object that holds a large value, or a part of one, by its content.

    It begins with the life of the task, so that whoever still removes an earlier life has no name of
    this one in hand: equal content would otherwise have equal names.
    """
    return f"{task_id}/artifacts/{base_epoch}-{sha256}"


def artifact_index_name(task_id: str, base_epoch: int, sha256: str) -> str:
    """Name of the object that says which parts a large value is made of, by the value's content."""
    return f"{artifact_object_name(task_id, base_epoch, sha256)}.json"


def artifact_life(obj_name: str) -> int | None:
    """The life of the task that an object of an artifact belongs to; None for any other object."""
    found = _ARTIFACT.fullmatch(obj_name)
    return int(found["life"]) if found else None


def lock_object_name(task_id: str) -> str:
    """Name of the bind lock's object."""
    return f"{LOCKS_PREFIX}{task_id}.{LOCK_EXTENSION}"


def probe_object_name() -> str:
    """A name that nobody else has, for finding out what the store does."""
    return f"{PROBE_PREFIX}{uuid4().hex}"


def task_id_of(obj_name: str) -> str | None:
    """The task that a manifest or a lock belongs to; None for any other object."""
    if obj_name.startswith(LOCKS_PREFIX) and obj_name.endswith(f".{LOCK_EXTENSION}"):
        task_id = obj_name[len(LOCKS_PREFIX) : -len(LOCK_EXTENSION) - 1]
    elif obj_name.endswith(f"/{MANIFEST_NAME}"):
        task_id = obj_name[: -len(MANIFEST_NAME) - 1]
    else:
        return None
    return task_id if _TASK_ID.fullmatch(task_id) else None


def _escape(name: str) -> str:
    escaped = quote(name, safe="")
    if len(escaped) > _ESCAPED_MAX:
        digest = sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
        # A cut within an escape would leave half of it.
        stem = re.sub(r"%[0-9A-F]?$", "", escaped[: _ESCAPED_MAX - _DIGEST_LENGTH])
        escaped = f"{stem}-{digest}"
    return escaped
