"""Pace: when a long stage saves, so that saving costs little of the work."""

from typing import Final

from checkmate_core.clock import Clock

SHARE: Final = 0.02
"""Part of the time of the work that saves may take."""

LEAST_PAUSE: Final = 1.0
"""Seconds between two saves at least: a request costs money, too."""


class Pace:
    """Lets a save through once the work since the beginning has paid for it.

    All saves together, and the one that is asked about, stay below `SHARE` of the time in between. What
    one costs is known from those before it; of the first, from the write that began the attempt.
    """

    def __init__(self, clock: Clock, cost: float) -> None:
        """Begin now.

        Args:
            clock: Where time comes from.
            cost: Seconds that a save is expected to take.
        """
        self._clock = clock
        self._begin = self._last = clock.monotonic()
        self._spent = 0.0
        self._cost = cost

    def is_due(self) -> bool:
        """Whether a save can be afforded now."""
        now = self._clock.monotonic()
        worked = now - self._begin - self._spent
        return now - self._last >= LEAST_PAUSE and self._spent + self._cost <= SHARE * worked

    def saved(self, cost: float) -> None:
        """A save has just ended, and took so many seconds."""
        self._spent += cost
        # A slow one may be an exception, a quick one after it as well.
        self._cost = max(cost, (self._cost + cost) / 2)
        self._last = self._clock.monotonic()
