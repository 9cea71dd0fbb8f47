"""Races for one object: the store must have one winner, whatever the doors that the contenders use."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from typing import Final, TypeAlias

from checkmate_core.doctor.findings import Race
from checkmate_core.errors import PersistenceDataNotFoundException, TaskIOException, VersionConflictException
from checkmate_core.io.cas import CasWriter
from checkmate_core.io.protocol import TaskIO
from checkmate_core.probe import ProbeWriter, new_body
from checkmate_core.types import ABSENT, Expect

CONTENDERS: Final = 32

# Only turns a thread that cannot be started into an error.
_PATIENCE = 60.0

Start: TypeAlias = Callable[[Sequence[Callable[[], None]]], None]


@dataclass(slots=True)
class _Outcome:
    """What the contenders of one round were told: the bodies of those who won, and who lost, and errors."""

    won: list[bytes] = field(default_factory=list)
    lost: list[bytes] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def faults(self, found: Iterable[bytes | None]) -> Iterator[str]:
        for body in found:
            if body in self.lost:
                yield "the write of a contender that was told that it had lost was applied"
            elif self.won and body not in self.won:
                yield "a read afterwards did not give what the winner had written"


def run_races(doors: Sequence[TaskIO], rounds: int) -> tuple[Race, Race]:
    """Race for the creation of an object, and for a swap of one; so many rounds of each.

    A contender resolves its write as an engine does, so that a lost response is no second winner.

    Raises:
        TaskIOException: The store failed outside of the races.
    """
    # The threads end before the objects are removed, or a late writer would bring one back.
    with ProbeWriter(doors[0]) as probe, _starting_together() as start:

        def create() -> tuple[str, Expect]:
            return probe.new_name(), ABSENT

        def swap() -> tuple[str, Expect]:
            name = probe.new_name()
            return name, probe.write(name, expect=ABSENT)

        return (
            _run("create", rounds, doors, create, start, probe),
            _run("swap", rounds, doors, swap, start, probe),
        )


def _run(
    kind: str,
    rounds: int,
    doors: Sequence[TaskIO],
    prepare: Callable[[], tuple[str, Expect]],
    start: Start,
    probe: ProbeWriter,
) -> Race:
    winners: list[int] = []
    # For their order, and each text once.
    faults: dict[str, None] = {}
    errors: dict[str, None] = {}
    for _ in range(rounds):
        name, expect = prepare()
        outcome = _hold(start, doors, name, expect)
        winners.append(len(outcome.won))
        faults.update(dict.fromkeys(outcome.faults(_read(io, name) for io in doors)))
        errors.update(dict.fromkeys(outcome.errors))
        probe.clean()
    return Race(kind, CONTENDERS, tuple(winners), tuple(faults), tuple(errors))


def _hold(start: Start, doors: Sequence[TaskIO], name: str, expect: Expect) -> _Outcome:
    outcome = _Outcome()

    def contend(io: TaskIO) -> None:
        data, write_id = new_body()
        try:
            CasWriter(io).write(name, data, write_id, expect=expect)
        except VersionConflictException:
            outcome.lost.append(data)
        except TaskIOException as exc:
            outcome.errors.append(str(exc))
        else:
            outcome.won.append(data)

    start([partial(contend, io) for io in islice(cycle(doors), CONTENDERS)])
    return outcome


def _read(io: TaskIO, name: str) -> bytes | None:
    try:
        return io.read(name).data
    except PersistenceDataNotFoundException:
        return None


@contextmanager
def _starting_together() -> Iterator[Start]:
    """Runs all actions at one moment, each in a thread of its own, and waits for them."""
    with ThreadPoolExecutor(CONTENDERS) as pool:

        def start(actions: Sequence[Callable[[], None]]) -> None:
            line = threading.Barrier(len(actions))

            def run(action: Callable[[], None]) -> None:
                line.wait(_PATIENCE)
                action()

            list(pool.map(run, actions))

        yield start
