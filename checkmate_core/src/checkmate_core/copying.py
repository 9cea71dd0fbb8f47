"""Copying tasks between any two stores."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from checkmate_core.errors import PersistenceDataNotFoundException, StorageUnavailableException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.layout import LOCKS_PREFIX, check_task_id, task_id_of
from checkmate_core.task_copy import CopiedTask, CopyOutcome, TaskCopy
from checkmate_core.transfer import list_all


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What `copy_tasks` did.

    Attributes:
        source: Base URL of the store that was read.
        destination: Base URL of the store that was written to.
        tasks: The tasks that were tried, in the order asked for.
        not_tried: The tasks that were left because a store could not be reached.
    """

    source: str
    destination: str
    tasks: tuple[CopiedTask, ...]
    not_tried: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[CopiedTask, ...]:
        """The tasks that are not, or not surely, in the destination."""
        return tuple(task for task in self.tasks if task.outcome is CopyOutcome.FAILED)

    @property
    def is_complete(self) -> bool:
        """Whether every task that was asked for is in the destination."""
        return not self.failed and not self.not_tried


def copy_tasks(
    source: TaskIO | str,
    destination: TaskIO | str,
    task_ids: Sequence[str] | None = None,
    *,
    even_if_locked: bool = False,
    concurrency: int = 8,
    on_task: Callable[[CopiedTask], object] | None = None,
) -> CopyReport:
    """Copy tasks from one store to another. The source is only read.

    Two copies of a task are two tasks: no fence spans two stores. Let nobody work on the source
    while it is copied, and remove or cancel the task there before it goes on in the destination.
    Cut off anywhere, it is simply called again, and writes only what is missing. The whole task is
    compared by SHA-256: what is written is read back, and what is there already is read.

    A task that fails is reported, and the others go on; but once a store cannot be reached, no
    further task is begun.

    Args:
        source: The store to read, or its URL.
        destination: The store to write to, or its URL.
        task_ids: Which tasks; None for all that there are. Removed ones are no tasks.
        even_if_locked: Copy a task that somebody seems to be working on. What is copied is still one
            state that it had; what its worker does later stays in the source.
        concurrency: How many tasks at once, and how many writes at once.
        on_task: Called in this thread after each task, in the order in which they end.

    Returns:
        What came of each task. A task's error is a `BindException` if it is locked,
        `PersistenceDataNotFoundException` if there is none, `VersionConflictException` if another one
        is in its place in the destination, `CorruptObjectException` if it cannot be read or the
        destination does not keep what was written.

    Raises:
        TaskEngineException: A text is no task id.
        TaskIOException: A URL cannot be opened, or the source cannot be listed.
    """
    source = open_task_io(source) if isinstance(source, str) else source
    destination = open_task_io(destination) if isinstance(destination, str) else destination
    is_selection = task_ids is not None
    ids = list(dict.fromkeys(map(check_task_id, _all_tasks(source) if task_ids is None else task_ids)))
    done: dict[str, CopiedTask] = {}
    gone: set[str] = set()
    with ThreadPoolExecutor(concurrency) as tasks, ThreadPoolExecutor(concurrency) as writes:
        running = [
            tasks.submit(TaskCopy(source, destination, task_id, even_if_locked, writes).run)
            for task_id in ids
        ]
        try:
            for future in as_completed(running):
                if future.cancelled():
                    continue
                task = future.result()
                if isinstance(task.error, PersistenceDataNotFoundException) and not is_selection:
                    gone.add(task.task_id)
                    continue
                done[task.task_id] = task
                if on_task:
                    on_task(task)
                if isinstance(task.error, StorageUnavailableException):
                    _cancel(running)
        finally:
            _cancel(running)
    return CopyReport(
        source.base_url,
        destination.base_url,
        tuple(done[task_id] for task_id in ids if task_id in done),
        tuple(task_id for task_id in ids if task_id not in done and task_id not in gone),
    )


def _all_tasks(io: TaskIO) -> list[str]:
    names = (name for name in list_all(io, "") if not name.startswith(LOCKS_PREFIX))
    return sorted(found for name in names if (found := task_id_of(name)))


def _cancel(futures: Iterable[Future[CopiedTask]]) -> None:
    for future in futures:
        future.cancel()
