"""Letters to a task, from whoever knows its name: signals and cancel requests. They need no lock."""

from typing import Any

from checkmate_core.clock import SYSTEM_CLOCK, Clock
from checkmate_core.errors import InvalidTransitionException, PersistenceDataNotFoundException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.journal import TaskJournal
from checkmate_core.layout import check_task_id
from checkmate_core.letters.mailbox import TaskMailbox


def send_signal(
    io: TaskIO,
    task_id: str,
    event: str,
    data: Any = None,
    *,
    replace: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Send an event to a task. See `CheckMateEngine.signal`."""
    _mailbox(io, task_id, clock, "take no event").send(event, data, replace=replace)


def request_cancel(io: TaskIO, task_id: str, reason: str = "", *, clock: Clock = SYSTEM_CLOCK) -> None:
    """Ask whoever executes the task, now or next, to cancel it.

    Raises:
        PersistenceDataNotFoundException: There is no such task.
        InvalidTransitionException: The task is finished.
        TaskIOException: The store failed.
    """
    _mailbox(io, task_id, clock, "not be canceled").request_cancel(reason)


def _mailbox(io: TaskIO, task_id: str, clock: Clock, what: str) -> TaskMailbox:
    manifest = TaskJournal(io, check_task_id(task_id), is_fenced=False).read_manifest()
    if manifest is None or manifest.removed is not None:
        raise PersistenceDataNotFoundException(
            f"there is no task {task_id} in {io.base_url}; `checkmate ls` lists those that there are"
        )
    if manifest.ended is not None:
        raise InvalidTransitionException(f"task {task_id} is {manifest.ended_as}, so it can {what} any more")
    return TaskMailbox(io, task_id, manifest.base_epoch, clock=clock)
