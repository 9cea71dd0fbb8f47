"""Actions in forked child processes, with their results."""

import json
import os
import select
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Generic, Self, TypeVar

T = TypeVar("T")

# Far beyond what any case takes: it only turns a deadlock into a failure.
HANG = 120.0


class Child(Generic[T]):
    """One forked child that runs one action; it is gone after the ``with`` block.

    Args:
        action: Its result must be JSON.
    """

    def __init__(self, action: Callable[[], T]) -> None:
        self._results, write_end = os.pipe()
        with warnings.catch_warnings():
            # From 3.12 on a fork beside threads warns. Users do fork; that is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _run_and_exit(action, write_end)
        os.close(write_end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Not reaped yet, so the number is still this child's; one that has ended takes no harm.
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._results)

    def result(self) -> T:
        """Wait for the action's result.

        Raises:
            AssertionError: The action failed, or the child hung or died.
        """
        answer = self._answer()
        if not answer:
            raise AssertionError("a forked child died without an answer")
        outcome = json.loads(answer)
        if "error" in outcome:
            raise AssertionError(f"in a forked child:\n{outcome['error']}")
        value: T = outcome["value"]
        return value

    def _answer(self) -> bytes:
        answer = b""
        while True:
            readable, _, _ = select.select([self._results], [], [], HANG)
            if not readable:
                raise AssertionError(f"a forked child hung for {HANG:.0f} s")
            part = os.read(self._results, 65536)
            if not part:
                return answer
            answer += part


def _run_and_exit(action: Callable[[], object], write_end: int) -> None:
    # Whatever happens, the child must not return into the test runner that it is a copy of.
    try:
        try:
            outcome = {"value": action()}
        except BaseException:  # noqa: BLE001 - told to the parent
            outcome = {"error": traceback.format_exc()}
        with os.fdopen(write_end, "wb") as results:
            results.write(json.dumps(outcome).encode())
    finally:
        os._exit(0)
