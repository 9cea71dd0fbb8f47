"""Threads: of many contenders one wins, and no reader sees half a body.

Half of the contenders use a second client, so that a lock inside one client cannot stand in for
the store. What the races prove of the store itself, the subject says in ``races``.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from checkmate_core.errors import VersionConflictException
from checkmate_core.testing.conformance.bodies import MEBIBYTE
from checkmate_core.testing.conformance.checks import brief, check, check_equal
from checkmate_core.testing.conformance.counter import COUNTER, raise_counter
from checkmate_core.testing.conformance.crowd import Crowd, crowd
from checkmate_core.testing.conformance.declared import needs
from checkmate_core.testing.conformance.subject import Subject
from checkmate_core.types import ABSENT, Capability, Version

T = TypeVar("T")

CONTENDERS: Final = 32
ROUNDS: Final = 20


class ConcurrencyCases:
    """What holds when many threads use one store at once."""

    @needs(Capability.CREATE)
    def test_one_create_wins_each_race(self, subject: Subject) -> None:
        clients = [subject.io, subject.reopen()]
        with crowd(CONTENDERS) as contenders:
            for turn in range(ROUNDS):
                name = f"race/{turn}"
                bodies = _bodies(turn)
                winner, version = _only_winner(
                    contenders,
                    [
                        partial(clients[number % 2].write, name, body, expect=ABSENT)
                        for number, body in enumerate(bodies)
                    ],
                )
                _check_stored(subject, name, bodies[winner], version)

    @needs(Capability.SWAP)
    def test_one_swap_wins_each_race(self, subject: Subject) -> None:
        clients = [subject.io, subject.reopen()]
        seen = subject.io.write("race", b"start")
        with crowd(CONTENDERS) as contenders:
            for turn in range(ROUNDS):
                bodies = _bodies(turn)
                winner, version = _only_winner(
                    contenders,
                    [
                        partial(clients[number % 2].write, "race", body, expect=seen)
                        for number, body in enumerate(bodies)
                    ],
                )
                _check_stored(subject, "race", bodies[winner], version)
                seen = version

    @needs(Capability.REMOVE_IF, Capability.SWAP)
    def test_one_swap_or_removal_wins_each_race(self, subject: Subject) -> None:
        clients = [subject.io, subject.reopen()]
        with crowd(CONTENDERS) as contenders:
            for turn in range(ROUNDS // 4):
                seen = subject.io.write("race", b"start of %d" % turn)
                bodies = _bodies(turn)
                swaps: list[Callable[[], Version | None]] = [
                    partial(clients[number % 2].write, "race", body, expect=seen)
                    for number, body in enumerate(bodies[::2])
                ]
                removals: list[Callable[[], Version | None]] = [
                    partial(clients[number % 2].remove, "race", expect=seen)
                    for number in range(CONTENDERS - len(swaps))
                ]
                winner, version = _only_winner(contenders, swaps + removals)
                if version is None:
                    check_equal(subject.raw.get("race"), None, "the object after a won removal")
                else:
                    _check_stored(subject, "race", bodies[::2][winner], version)

    @needs(Capability.SWAP)
    def test_no_update_of_a_counter_is_lost(self, subject: Subject) -> None:
        subject.raw.put(COUNTER, b"0")
        clients = [subject.io, subject.reopen()]
        with crowd(8) as workers:
            workers.all_of([partial(raise_counter, clients[each % 2], 5, 35) for each in range(8)])
        check_equal(subject.raw.get(COUNTER), b"40", "a counter that was raised 40 times")

    def test_mixed_reads_and_writes(self, subject: Subject) -> None:
        shared = {b"shared %d" % number for number in range(CONTENDERS)}
        subject.raw.put("dir/shared", min(shared))

        def work(number: int) -> None:
            own = f"dir/own-{number}"
            for turn in range(3):
                body = b"%d:%d" % (number, turn)
                version = subject.io.write(own, body)
                stored = subject.io.read(own)
                check_equal(stored.data, body, f"what the only writer of {own} reads")
                check_equal(stored.version, version, f"the version the only writer of {own} reads")
                subject.io.write("dir/shared", b"shared %d" % number)
                seen = subject.io.read("dir/shared").data
                check(seen in shared, f"a shared object holds {brief(seen)}, which nobody wrote")
                found = subject.io.read_many([own, "dir/shared", "dir/missing"])
                check_equal(found[own].data, body, f"what read_many reads of {own}")
                check_equal(sorted(found), sorted([own, "dir/shared"]), "the names of read_many")

        with crowd(CONTENDERS) as workers:
            workers.all_of([partial(work, number) for number in range(CONTENDERS)])

    def test_each_of_many_writers_gets_its_own_version(self, subject: Subject) -> None:
        def write_often(number: int) -> list[tuple[bytes, Version]]:
            bodies = [b"write %d of %d" % (turn, number) for turn in range(10)]
            return [(body, subject.io.write("contested", body)) for body in bodies]

        with crowd(8) as writers:
            answers = writers.all_of([partial(write_often, number) for number in range(8)])
        versions = {version: body for each in answers for body, version in each}
        check_equal(len(versions), 80, "how many versions 80 different bodies have")
        stored = subject.io.read("contested")
        check_equal(versions.get(stored.version), stored.data, "the body of the last version")

    def test_readers_never_see_half_a_body(self, subject: Subject) -> None:
        bodies = {b"a" * MEBIBYTE: set[Version](), b"b" * (2 * MEBIBYTE + 1): set[Version]()}
        for body, versions in bodies.items():
            versions.add(subject.io.write("large", body))
        seen: list[tuple[bytes, Version]] = []

        def alternate(turn: int) -> None:
            body = list(bodies)[turn % 2]
            bodies[body].add(subject.io.write("large", body))

        def read_whole() -> None:
            for _ in range(10):
                stored = subject.io.read("large")
                check(stored.data in bodies, f"a reader saw half a body: {brief(stored.data)}")
                seen.append((stored.data[:1], stored.version))

        with crowd(4) as together:
            together.all_beside([alternate], [read_whole] * 3)
        written = {body[:1]: versions for body, versions in bodies.items()}
        for first, version in seen:
            check(version in written[first], "a reader got a body with the version of another one")

    def test_writes_and_removals_in_one_folder(self, subject: Subject) -> None:
        def come_and_go(number: int) -> None:
            for turn in range(15):
                name = f"folder/{turn % 2}/{number}"
                subject.io.write(name, b"body")
                check_equal(subject.io.read(name).data, b"body", f"what its writer reads of {name}")
                subject.io.remove(name)

        with crowd(8) as workers:
            workers.all_of([partial(come_and_go, number) for number in range(8)])
        check_equal(subject.raw.names(), set(), "the objects after all were removed")

    def test_use_inside_a_running_event_loop(self, subject: Subject) -> None:
        async def use() -> bytes:
            subject.io.write("async", b"body")
            return subject.io.read("async").data

        check_equal(asyncio.run(use()), b"body", "what is read inside an event loop")


def _bodies(turn: int) -> list[bytes]:
    return [b"turn %d of contender %d" % (turn, number) for number in range(CONTENDERS)]


def _only_winner(contenders: Crowd, requests: Sequence[Callable[[], T]]) -> tuple[int, T]:
    outcomes = contenders.race(requests)
    errors = [outcome.exception() for outcome in outcomes]
    for error in errors:
        if error is not None and not isinstance(error, VersionConflictException):
            raise AssertionError(
                f"a contender failed by {type(error).__name__}, not by a conflict: {error}"
            ) from error
    winners = [number for number, error in enumerate(errors) if error is None]
    check(len(winners) == 1, f"of {len(requests)} contenders {len(winners)} won, not one")
    return winners[0], outcomes[winners[0]].result()


def _check_stored(subject: Subject, name: str, body: bytes, version: Version) -> None:
    check_equal(subject.raw.get(name), body, "the body that is stored after a race")
    stored = subject.io.read(name)
    check_equal(stored.data, body, "the body that is read after a race")
    check_equal(stored.version, version, "the version that the winner was answered")
