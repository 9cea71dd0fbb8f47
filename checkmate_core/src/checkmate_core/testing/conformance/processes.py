"""Processes: a client works on after a fork, and processes exclude each other."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final, TypeVar

from checkmate_core.errors import VersionConflictException
from checkmate_core.testing.conformance.checks import check_equal
from checkmate_core.testing.conformance.counter import COUNTER, raise_counter
from checkmate_core.testing.conformance.crowd import crowd
from checkmate_core.testing.conformance.declared import needs
from checkmate_core.testing.conformance.forks import Child
from checkmate_core.testing.conformance.subject import Subject
from checkmate_core.types import ABSENT, Capability

T = TypeVar("T")

CHILDREN: Final = 4
ROUNDS: Final = 20


class ProcessCases:
    """What holds after ``os.fork`` and between processes."""

    def test_use_after_a_fork(self, subject: Subject) -> None:
        subject.io.write("before", b"of the parent")
        with Child(partial(_use, subject, "child")) as child:
            _use(subject, "parent")
            check_equal(child.result(), "of the parent", "what the child read of before the fork")
        _use(subject, "parent")
        check_equal(subject.raw.get("parent"), b"parent 9", "what the parent wrote after the fork")
        seen = b"child 9" if subject.shared_by_processes else None
        check_equal(subject.raw.get("child"), seen, "what the parent's side sees of the child's write")

    def test_use_after_a_fork_beside_busy_threads(self, subject: Subject) -> None:
        subject.io.write("before", b"of the parent")

        def stay_busy(number: int, turn: int) -> None:
            subject.io.write(f"busy/{number}", b"%d" % turn)
            check_equal(subject.io.read(f"busy/{number}").data, b"%d" % turn, "a busy thread's")

        def fork_twice() -> None:
            for number in range(2):
                with Child(partial(_use, subject, f"child-{number}")) as child:
                    check_equal(child.result(), "of the parent", "what a child read")

        with crowd(5) as threads:
            threads.all_beside([partial(stay_busy, number) for number in range(4)], [fork_twice])

    @needs(Capability.CREATE)
    def test_one_process_wins_each_create(self, subject: Subject) -> None:
        won = _in_children(partial(_create_all, subject))
        winners = [sum(turn in wins for wins in won) for turn in range(ROUNDS)]
        # A store that is no other process's has a winner in each.
        expected = 1 if subject.shared_by_processes else CHILDREN
        check_equal(winners, [expected] * ROUNDS, f"the winners among {CHILDREN} processes")
        if subject.shared_by_processes:
            for turn in range(ROUNDS):
                winner = next(number for number, wins in enumerate(won) if turn in wins)
                stored = subject.raw.get(f"race/{turn}")
                check_equal(stored, b"process %d" % winner, "the body after a race of processes")

    @needs(Capability.SWAP)
    def test_no_update_of_a_counter_is_lost_between_processes(self, subject: Subject) -> None:
        subject.io.write(COUNTER, b"0")
        _in_children(lambda _: raise_counter(subject.io, ROUNDS, ROUNDS * (CHILDREN - 1)))
        expected = CHILDREN * ROUNDS if subject.shared_by_processes else 0
        check_equal(subject.raw.get(COUNTER), b"%d" % expected, "a counter raised by processes")


def _in_children(action: Callable[[int], T]) -> list[T]:
    with ExitStack() as reaped:
        children = [reaped.enter_context(Child(partial(action, number))) for number in range(CHILDREN)]
        return [child.result() for child in children]


def _use(subject: Subject, own: str) -> str:
    for turn in range(10):
        body = f"{own} {turn}".encode()
        version = subject.io.write(own, body)
        stored = subject.io.read(own)
        check_equal((stored.data, stored.version), (body, version), f"what the {own} reads back")
    listed = {info.name for info in subject.io.list()}
    check_equal({"before", own} - listed, set(), f"what the {own} misses in a listing")
    return subject.io.read("before").data.decode()


def _create_all(subject: Subject, number: int) -> list[int]:
    won = []
    for turn in range(ROUNDS):
        try:
            subject.io.write(f"race/{turn}", b"process %d" % number, expect=ABSENT)
        except VersionConflictException:
            continue
        won.append(turn)
    return won
