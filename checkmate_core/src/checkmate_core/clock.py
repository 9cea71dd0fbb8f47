"""Time as the engine sees it, in one place so that a test can put another in its stead."""

import asyncio
import atexit
import os
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

Tick: TypeAlias = Callable[[], float | None]
"""What is repeated: returns the seconds until it wants to be called again; None ends it."""


class Clock(Protocol):
    """A source of time. Clocks decide only when something is tried, never who is right."""

    def now(self) -> float:
        """Seconds since the epoch, for people to read."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back, and goes on while the machine is suspended."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def asleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        ...

    def repeat(self, tick: Tick, after: float, name: str) -> Callable[[], None]:
        """Call ``tick`` in the background, first after so many seconds, then whenever it says.

        Args:
            tick: Must not raise.
            after: Seconds until the first call.
            name: What the background is called in a list of threads.

        Returns:
            A function that ends it. It does not wait for a call that is under way.
        """
        ...


class SystemClock:
    """The machine's clocks, and a daemon thread for whatever is repeated.

    A repetition ends with the process, at interpreter exit, and in a forked child.
    """

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return _suspend_aware()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def repeat(self, tick: Tick, after: float, name: str) -> Callable[[], None]:
        ended = threading.Event()
        _repetitions.add(ended)

        def run() -> None:
            wait: float | None = after
            try:
                while wait is not None and not ended.wait(wait):
                    wait = tick()
            finally:
                _repetitions.discard(ended)

        threading.Thread(target=run, name=name, daemon=True).start()
        return ended.set


def _choose_suspend_aware() -> Callable[[], float]:
    # On Linux and macOS time.monotonic() stands still while the machine sleeps; a lease does not.
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        number = getattr(time, name, None)
        if number is not None:
            try:
                time.clock_gettime(number)
            except OSError:
                continue
            return lambda: time.clock_gettime(number)
    return time.monotonic


_suspend_aware = _choose_suspend_aware()
_repetitions: set[threading.Event] = set()


@atexit.register
def _end_repetitions() -> None:
    for ended in list(_repetitions):
        ended.set()


# A child has no thread of its parent's, and may have inherited an event that was locked at the fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_repetitions.clear)

SYSTEM_CLOCK: Final[Clock] = SystemClock()
