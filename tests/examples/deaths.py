"""A process that dies by SIGKILL at a chosen write to the store, and another one that goes on.

For scripts, not for tests: it forks, which a process with threads must not.
"""

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from typing import TypeVar

from checkmate import TaskIO, open_task_io
from checkmate_core.testing import CountingTaskIO
from checkmate_core.types import ANY, Expect, RemoveExpect, Version

T = TypeVar("T")
FAULT = 99


class MortalTaskIO(CountingTaskIO):
    """Kills its process at one of its writes and removes, before or after it is applied."""

    def __init__(self, io: TaskIO, number: int, *, applied: bool) -> None:
        super().__init__(io)
        self._left = number
        self._applied = applied

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return self._mortally(lambda: super(MortalTaskIO, self).write(obj_name, data, expect=expect))

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self._mortally(lambda: super(MortalTaskIO, self).remove(obj_name, expect=expect))

    def _mortally(self, request: Callable[[], T]) -> T:
        self._left -= 1
        if self._left == 0:
            if self._applied:
                request()
            os.kill(os.getpid(), signal.SIGKILL)
        return request()


def in_child(run: Callable[[], int]) -> int:
    """What it returns in a process of its own; negative: the signal that killed it; FAULT: it raised."""
    pid = os.fork()
    if pid == 0:
        status = FAULT
        try:
            status = run()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def every_death(
    url: str,
    prefix: str,
    run: Callable[[TaskIO, str], int],
    prepare: Callable[[str], object] = lambda _: None,
) -> Iterator[tuple[str, int]]:
    """Run a task for each of its writes, dying there, before it is applied and after.

    Args:
        url: The store.
        prefix: Of the tasks' ids.
        run: Runs the task of an id, and says how it ended.
        prepare: Called with each id before.

    Yields:
        The id, and how it ended in the process that went on.
    """
    open_task_io(url)  # loaded once, and not in every child
    for applied in (False, True):
        for number in count(1):
            task_id = f"{prefix}-{'after' if applied else 'before'}-{number}"
            prepare(task_id)
            died = in_child(lambda: run(MortalTaskIO(open_task_io(url), number, applied=applied), task_id))  # noqa: B023
            if died != -signal.SIGKILL:
                yield task_id, died
                break
            yield task_id, in_child(lambda: run(open_task_io(url), task_id))  # noqa: B023
