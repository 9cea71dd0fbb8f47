"""Actions in forked child processes, with their results."""

import json
import os
import select
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

# Far beyond what any case takes: it only turns a deadlock into a failure.
HANG = 120.0


class Child:
    """One forked child that runs one action.

    Args:
        action: Its result must be JSON.
    """

    def __init__(self, action: Callable[[], Any]) -> None:
        self._results, write_end = os.pipe()
        with warnings.catch_warnings():
            # From 3.12 on a fork beside threads warns. Users do fork; that is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _run_and_exit(action, write_end)
        os.close(write_end)

    def result(self) -> Any:
        """Wait for the child and return its action's result.

        Raises:
            AssertionError: The action failed, or the child hung or died.
        """
        try:
            answer = self._answer()
        finally:
            os.close(self._results)
            os.waitpid(self._pid, 0)
        if not answer:
            raise AssertionError("a forked child died without an answer")
        outcome = json.loads(answer)
        if "error" in outcome:
            raise AssertionError(f"in a forked child:\n{outcome['error']}")
        return outcome["value"]

    def _answer(self) -> bytes:
        answer = b""
        while True:
            readable, _, _ = select.select([self._results], [], [], HANG)
            if not readable:
                os.kill(self._pid, signal.SIGKILL)
                raise AssertionError(f"a forked child hung for {HANG:.0f} s")
            part = os.read(self._results, 65536)
            if not part:
                return answer
            answer += part


def _run_and_exit(action: Callable[[], Any], write_end: int) -> None:
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
