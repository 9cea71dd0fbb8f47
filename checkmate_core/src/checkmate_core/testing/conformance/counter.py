"""A counter raised by read and swap: the plainest thing that lost updates show in."""

from checkmate_core.errors import VersionConflictException
from checkmate_core.io.protocol import TaskIO

COUNTER = "counter"


def raise_counter(io: TaskIO, times: int, others: int) -> None:
    """Raise the counter object ``times`` times.

    Args:
        io: The client to use.
        times: How often.
        others: How often everybody else raises it. A swap fails only over somebody else's that
            succeeded, so this is also the largest possible number of conflicts.
    """
    conflicts = 0
    for _ in range(times):
        while True:
            stored = io.read(COUNTER)
            try:
                io.write(COUNTER, b"%d" % (int(stored.data) + 1), expect=stored.version)
            except VersionConflictException as exc:
                conflicts += 1
                if conflicts > others:
                    raise AssertionError(
                        "a swap over the version just read conflicts though nobody wrote since"
                    ) from exc
                continue
            break
