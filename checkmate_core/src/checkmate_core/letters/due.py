"""Whether a suspended task may go on: its time has come, its event is there, or it is to be canceled."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import cancel_object_name, signal_object_name
from checkmate_core.letters.mailbox import CancelRequest, Signal, TaskMailbox
from checkmate_core.manifest import Manifest
from checkmate_core.types import StoredObject
from checkmate_core.views import TaskView


def awaited_letters(task: TaskView) -> list[str]:
    """Names of the objects that may end the task's wait; none for a task that is not suspended."""
    if task.suspension is None:
        return []
    event = task.suspension.event
    signals = [signal_object_name(task.task_id, event)] if event else []
    return [cancel_object_name(task.task_id), *signals]


def with_due(
    io: TaskIO, manifest: Manifest, task: TaskView, letters: Mapping[str, StoredObject], now: datetime
) -> TaskView:
    """The task, and whether it is due.

    Args:
        io: The store.
        manifest: The task's.
        task: The task; returned as it is unless it is suspended.
        letters: Those of `awaited_letters` that are there.
        now: The present.

    Raises:
        CorruptObjectException: A letter cannot be read.
        IncompatibleTaskException: A newer CheckMate wrote one.
    """
    suspension = task.suspension
    if suspension is None:
        return task
    mailbox = TaskMailbox(io, task.task_id, manifest.base_epoch)
    is_due = suspension.is_due(now)
    if mailbox.pick(cancel_object_name(task.task_id), CancelRequest, letters):
        is_due = True
    elif suspension.event is not None:
        signal = mailbox.pick(signal_object_name(task.task_id, suspension.event), Signal, letters)
        taken = {write_id for stage in task.stages for write_id in stage.notes.events.values()}
        is_due = is_due or (signal is not None and signal.write_id not in taken)
    return replace(task, is_due=is_due)
