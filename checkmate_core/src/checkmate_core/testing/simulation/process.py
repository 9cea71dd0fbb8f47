"""A simulated process: what freezes and dies as one, with a clock of its own."""

from collections.abc import Callable
from typing import Final

from checkmate_core.clock import Tick
from checkmate_core.testing.simulation.scheduler import Actor, Scheduler

WALL_TIME: Final = 1_800_000_000.0
"""The virtual clock's zero, in seconds since the epoch."""


class Process:
    """One incarnation of a worker, from its start to its end or crash.

    Attributes:
        label: Who it is in a trace.
        main: Its main thread; an interrupt reaches no other.
        clock: Its clock.
        frozen_until: Until this virtual time none of its threads runs.
        is_dead: None of its threads ever sends anything again. What is on its way still arrives.
    """

    def __init__(self, label: str, scheduler: Scheduler, *, rate: float = 1.0, offset: float = 0.0) -> None:
        self.label = label
        self.main: Actor | None = None
        self.clock = VirtualClock(self, scheduler, rate, offset)
        self.frozen_until = 0.0
        self.is_dead = False
        self._scheduler = scheduler

    @property
    def true_time(self) -> float:
        """Seconds since the epoch, whatever its own clock says."""
        return WALL_TIME + self._scheduler.time


class VirtualClock:
    """A process's clock: wrong by ``offset``, and faster than virtual time by the factor ``rate``."""

    def __init__(self, process: Process, scheduler: Scheduler, rate: float, offset: float) -> None:
        self._process = process
        self._scheduler = scheduler
        self._rate = rate
        self._offset = offset
        self.after_sleep: Callable[[], object] = lambda: None

    def now(self) -> float:
        return WALL_TIME + self.monotonic()

    def monotonic(self) -> float:
        return self._offset + self._rate * self._scheduler.time

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(max(0.0, seconds) / self._rate)
        self.after_sleep()

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def repeat(self, tick: Tick, after: float, name: str) -> Callable[[], None]:
        is_ended = False

        def end() -> None:
            nonlocal is_ended
            is_ended = True

        def run() -> None:
            wait: float | None = 0.0
            while not is_ended and (wait := tick()) is not None:
                self._scheduler.sleep(wait / self._rate)

        def begin() -> None:
            if not is_ended and not self._process.is_dead:
                self._scheduler.spawn(name, self._process, run)

        self._scheduler.after(after / self._rate, begin)
        return end
