"""Processes: a client works on after a fork, and processes exclude each other."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from checkmate_core.errors import VersionConflictException
from checkmate_core.testing.conformance.checks import check_equal
from checkmate_core.testing.conformance.crowd import crowd
from checkmate_core.testing.conformance.declared import needs
from checkmate_core.testing.conformance.forks import Child
from checkmate_core.testing.conformance.subject import Subject
from checkmate_core.types import ABSENT, Capability

CHILDREN: Final = 4
ROUNDS: Final = 20


class ProcessCases:
    """What holds after ``os.fork`` and between processes."""

    def test_use_after_a_fork(self, subject: Subject) -> None:
        subject.io.write("before", b"of the parent")
        child = Child(partial(_use, subject, "child"))
        _use(subject, "parent")
        check_equal(child.result(), "of the parent", "what the child read of before the fork")
        _use(subject, "parent")
        check_equal(subject.raw.get("parent"), b"parent 9", "what the parent wrote after the fork")
        seen = b"child 9" if subject.shared_by_processes else None
        check_equal(subject.raw.get("child"), seen, "what the parent's side sees of the child's write")

    def test_use_after_a_fork_beside_busy_threads(self, subject: Subject) -> None:
        subject.io.write("before", b"of the parent")
        done = threading.Event()

        def stay_busy(number: int) -> None:
            turn = 0
            while turn < 5 or not done.is_set():
                subject.io.write(f"busy/{number}", b"%d" % turn)
                check_equal(subject.io.read(f"busy/{number}").data, b"%d" % turn, "a busy thread's")
                turn += 1

        def fork_twice() -> None:
            try:
                for number in range(2):
                    child = Child(partial(_use, subject, f"child-{number}"))
                    check_equal(child.result(), "of the parent", "what a child read")
            finally:
                done.set()

        with crowd(5) as threads:
            threads.all_of([partial(stay_busy, number) for number in range(4)] + [fork_twice])

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
        subject.io.write("counter", b"0")
        _in_children(lambda _: _count(subject, ROUNDS))
        expected = CHILDREN * ROUNDS if subject.shared_by_processes else 0
        check_equal(subject.raw.get("counter"), b"%d" % expected, "a counter raised by processes")


def _in_children(action: Callable[[int], list[int]]) -> list[list[int]]:
    children = [Child(partial(action, number)) for number in range(CHILDREN)]
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


def _count(subject: Subject, times: int) -> list[int]:
    counted: list[int] = []
    while len(counted) < times:
        stored = subject.io.read("counter")
        raised = int(stored.data) + 1
        try:
            subject.io.write("counter", b"%d" % raised, expect=stored.version)
        except VersionConflictException:
            continue
        counted.append(raised)
    return counted
