"""Reading: exact bytes, their own version, never from a cache."""

import time

from checkmate_core.testing.conformance.bodies import BODIES
from checkmate_core.testing.conformance.checks import check, check_equal
from checkmate_core.testing.conformance.declared import needs
from checkmate_core.testing.conformance.subject import Subject
from checkmate_core.types import Capability

MANY = 200


class ReadCases:
    """What ``read``, ``read_many`` and ``exists`` promise."""

    def test_read_returns_the_exact_bytes(self, subject: Subject) -> None:
        for number, (kind, body) in enumerate(BODIES.items()):
            subject.raw.put(f"body-{number}", body)
            stored = subject.io.read(f"body-{number}")
            check_equal(stored.data, body, f"the body of an object ({kind})")
            check(type(stored.data) is bytes, f"a body is {type(stored.data).__name__}, not bytes")

    def test_version_is_a_text_and_stable(self, subject: Subject) -> None:
        subject.raw.put("stable", b"body")
        first = subject.io.read("stable").version
        check(isinstance(first, str) and first != "", f"a version is {first!r}, not a text")
        check_equal(subject.io.read("stable").version, first, "the version read again")
        check_equal(subject.reopen().read("stable").version, first, "the version that a second client reads")

    def test_read_sees_a_write_of_somebody_else(self, subject: Subject) -> None:
        subject.raw.put("shared", b"before")
        before = subject.io.read("shared")
        second = subject.reopen()
        for body in (b"after!", b"a longer body than before", b""):
            subject.raw.put("shared", body)
            for who, io in (("the same", subject.io), ("a second", second)):
                after = io.read("shared")
                check_equal(after.data, body, f"what {who} client reads after a foreign write")
                check(
                    after.version != before.version,
                    f"{who} client reads the old version after a foreign write",
                )

    def test_exists_tells_the_truth(self, subject: Subject) -> None:
        check_equal(subject.io.exists("thing"), False, "exists before the write")
        subject.raw.put("thing", b"")
        check_equal(subject.io.exists("thing"), True, "exists after a foreign write")
        subject.raw.delete("thing")
        check_equal(subject.io.exists("thing"), False, "exists after a foreign removal")
        check_equal(subject.reopen().exists("thing"), False, "exists of a second client")

    def test_a_folder_is_no_object(self, subject: Subject) -> None:
        subject.raw.put("folder/object", b"body")
        check_equal(subject.io.exists("folder"), False, "exists of a mere folder")
        check_equal(subject.io.exists("fold"), False, "exists of the beginning of a name")
        check_equal(subject.io.read_many(["folder"]), {}, "read_many of a mere folder")

    def test_read_many_returns_what_read_returns(self, subject: Subject) -> None:
        names = [f"many/{number:03}" for number in range(MANY)]
        for name in names:
            subject.raw.put(name, name.encode() * 3)
        found = subject.io.read_many(names)
        check_equal(sorted(found), names, f"the names of read_many of {MANY}")
        for name in names:
            check_equal(found[name].data, name.encode() * 3, f"the body of {name} in read_many")
        check_equal(found[names[-1]].version, subject.io.read(names[-1]).version, "a version in read_many")

    def test_read_many_leaves_out_what_is_missing(self, subject: Subject) -> None:
        subject.raw.put("here", b"body")
        found = subject.io.read_many(["gone", "here", "also/gone"])
        check_equal(sorted(found), ["here"], "the names of read_many with two missing")
        check_equal(subject.io.read_many(["gone"]), {}, "read_many of a missing object")

    def test_read_many_of_nothing_and_of_duplicates(self, subject: Subject) -> None:
        check_equal(subject.io.read_many([]), {}, "read_many of nothing")
        subject.raw.put("twice", b"body")
        found = subject.io.read_many(["twice", "twice"])
        check_equal(
            {name: stored.data for name, stored in found.items()},
            {"twice": b"body"},
            "read_many of a name given twice",
        )

    def test_read_many_sees_a_write_of_somebody_else(self, subject: Subject) -> None:
        subject.raw.put("shared", b"before")
        subject.io.read_many(["shared", "later"])
        subject.raw.put("shared", b"after")
        subject.raw.put("later", b"new")
        found = subject.io.read_many(["shared", "later"])
        check_equal(
            {name: stored.data for name, stored in found.items()},
            {"shared": b"after", "later": b"new"},
            "read_many after foreign writes",
        )

    @needs(Capability.STORE_CLOCK)
    def test_age_counts_from_the_last_write(self, subject: Subject) -> None:
        # Bounds hold however slow the machine is: an age can exceed the time that passed here only
        # by the rounding of two time stamps, and a sleep is never shorter than asked for.
        tick = subject.clock_tick
        started = time.monotonic()
        subject.io.write("aging", b"first")
        young = _age(subject)
        _check_age(young, 0.0, time.monotonic() - started + 2 * tick)
        time.sleep(3 * tick + 0.02)
        grown = _age(subject)
        _check_age(grown, 2 * tick, time.monotonic() - started + 2 * tick)
        rewritten = time.monotonic()
        subject.io.write("aging", b"second")
        _check_age(_age(subject), 0.0, time.monotonic() - rewritten + 2 * tick)


def _age(subject: Subject) -> float:
    age = subject.io.read("aging").age
    if age is None:
        raise AssertionError("STORE_CLOCK is declared, but the age of an object is None")
    return age


def _check_age(age: float, least: float, most: float) -> None:
    check(least <= age <= most, f"an age is {age} s where it must be from {least} to {most:.3f} s")
