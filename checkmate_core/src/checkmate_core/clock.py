"""Time as the engine sees it, in one place so that a test can put another in its stead."""

import time
from typing import Final, Protocol


class Clock(Protocol):
    """A source of time. Clocks decide only when something is tried, never who is right."""

    def now(self) -> float:
        """Seconds since the epoch, for people to read."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK: Final[Clock] = SystemClock()
