"""How long requests take, and how far the store's clock is from this host's."""

import time
from collections.abc import Callable
from datetime import datetime
from itertools import repeat
from statistics import median
from typing import Final

from checkmate_core.doctor.findings import ClockDifference, Latency
from checkmate_core.io.protocol import TaskIO
from checkmate_core.probe import ProbeWriter
from checkmate_core.types import ABSENT

REQUESTS: Final = 20


def measure_latencies(io: TaskIO) -> tuple[Latency, Latency]:
    """Time reads and swaps of one small object.

    Raises:
        TaskIOException: The store failed.
    """
    with ProbeWriter(io) as probe:
        name = probe.new_name()
        version = probe.write(name, expect=ABSENT)

        def swap() -> None:
            nonlocal version
            version = probe.write(name, expect=version)

        return _time("read", lambda: io.read(name)), _time("swap", swap)


def measure_clock(io: TaskIO) -> ClockDifference | None:
    """Compare the time that a listing gives for an object with when it was written by this host's clock.

    None if the listing does not have the object.

    Raises:
        TaskIOException: The store failed.
    """
    with ProbeWriter(io) as probe:
        name = probe.new_name()
        sent = time.time()
        probe.write(name, expect=ABSENT)
        answered = time.time()
        for info in io.list(name):
            if info.name == name:
                return _difference(info.modified, sent, answered)
    return None


def _time(operation: str, request: Callable[[], object]) -> Latency:
    taken = []
    for _ in repeat(None, REQUESTS):
        before = time.perf_counter()
        request()
        taken.append((time.perf_counter() - before) * 1000)
    return Latency(operation, REQUESTS, round(median(taken), 3), round(max(taken), 3))


def _difference(modified: datetime, sent: float, answered: float) -> ClockDifference:
    # S3 and HTTP tell whole seconds, some servers milliseconds; both cut the rest off.
    microseconds = modified.microsecond
    resolution = 1e-6 if microseconds % 1000 else 1e-3 if microseconds else 1.0
    earliest = modified.timestamp() - answered
    latest = modified.timestamp() + resolution - sent
    return ClockDifference(
        seconds=round((earliest + latest) / 2, 3),
        uncertainty=round((latest - earliest) / 2, 3),
        resolution=resolution,
    )
