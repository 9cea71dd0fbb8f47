"""Preconditions: create, swap and conditional remove."""

from checkmate_core.errors import VersionConflictException
from checkmate_core.testing.conformance.bodies import MEBIBYTE
from checkmate_core.testing.conformance.checks import check, check_equal, raises
from checkmate_core.testing.conformance.declared import needs
from checkmate_core.testing.conformance.subject import Subject
from checkmate_core.types import ABSENT, Capability


class ConditionalCases:
    """What ``expect`` promises to the writer and to everybody else."""

    def test_capabilities_are_as_declared(self, subject: Subject) -> None:
        check(isinstance(subject.io.capabilities, frozenset), "capabilities are no frozenset")
        check_equal(
            sorted(each.name for each in subject.io.capabilities),
            sorted(each.name for each in subject.capabilities),
            "the capabilities of the backend",
        )

    @needs(Capability.CREATE)
    def test_create_of_a_new_object(self, subject: Subject) -> None:
        version = subject.io.write("dir/new", b"body", expect=ABSENT)
        check_equal(subject.raw.get("dir/new"), b"body", "the body of a created object")
        check_equal(subject.io.read("dir/new").version, version, "the version of a created object")

    @needs(Capability.CREATE)
    def test_create_over_an_object_conflicts(self, subject: Subject) -> None:
        second = subject.reopen()
        for stored, ours in ((b"theirs", b"ours"), (b"equal", b"equal"), (b"", b"ours")):
            subject.raw.put("taken", stored)
            version = subject.io.read("taken").version
            for who, io in (("the same", subject.io), ("a second", second)):
                with raises(VersionConflictException, f"create over an object by {who} client"):
                    io.write("taken", ours, expect=ABSENT)
                check_equal(subject.raw.get("taken"), stored, "the body after a refused create")
                check_equal(subject.io.read("taken").version, version, "its version")

    @needs(Capability.CREATE)
    def test_create_after_a_removal(self, subject: Subject) -> None:
        subject.io.write("again", b"first", expect=ABSENT)
        subject.io.remove("again")
        version = subject.io.write("again", b"second", expect=ABSENT)
        check_equal(subject.raw.get("again"), b"second", "the body of the second create")
        check_equal(subject.io.read("again").version, version, "the version of the second create")

    @needs(Capability.SWAP)
    def test_a_chain_of_swaps(self, subject: Subject) -> None:
        version = subject.io.write("chain", b"0")
        for number in range(1, 6):
            body = str(number).encode() * number
            version = subject.io.write("chain", body, expect=version)
            check_equal(subject.raw.get("chain"), body, f"the body after swap {number}")
            check_equal(subject.io.read("chain").version, version, f"the version of {number}")

    @needs(Capability.SWAP)
    def test_swap_over_a_version_that_was_read(self, subject: Subject) -> None:
        subject.raw.put("foreign", b"theirs")
        version = subject.reopen().read("foreign").version
        subject.io.write("foreign", b"ours", expect=version)
        check_equal(subject.raw.get("foreign"), b"ours", "the body after a swap")

    @needs(Capability.CREATE, Capability.SWAP)
    def test_create_and_swap_of_large_bodies(self, subject: Subject) -> None:
        large = [bytes([number]) * (5 * MEBIBYTE + number) for number in range(3)]
        created = subject.io.write("large", large[0], expect=ABSENT)
        with raises(VersionConflictException, "create over a large object"):
            subject.io.write("large", large[1], expect=ABSENT)
        swapped = subject.io.write("large", large[1], expect=created)
        with raises(VersionConflictException, "a stale swap of a large body"):
            subject.io.write("large", large[2], expect=created)
        stored = subject.io.read("large")
        check_equal(stored.data, large[1], "a large body after a swap")
        check_equal(stored.version, swapped, "the version of a large body")

    @needs(Capability.SWAP)
    def test_swap_over_a_stale_version_conflicts(self, subject: Subject) -> None:
        stale = subject.io.write("moved", b"first")
        subject.raw.put("moved", b"theirs")
        current = subject.io.read("moved").version
        with raises(VersionConflictException, "swap over a stale version"):
            subject.io.write("moved", b"ours", expect=stale)
        check_equal(subject.raw.get("moved"), b"theirs", "the body after a refused swap")
        check_equal(subject.io.read("moved").version, current, "the version after a refused swap")

    @needs(Capability.SWAP)
    def test_swap_of_a_missing_object_conflicts(self, subject: Subject) -> None:
        version = subject.io.write("gone", b"body")
        subject.raw.delete("gone")
        with raises(VersionConflictException, "swap over a removed object"):
            subject.io.write("gone", b"ours", expect=version)
        with raises(VersionConflictException, "swap over an object that never was"):
            subject.io.write("never/was", b"ours", expect=version)
        check_equal(subject.raw.names(), set(), "the objects after refused swaps")

    @needs(Capability.SWAP)
    def test_swap_by_the_version_of_another_object_conflicts(self, subject: Subject) -> None:
        subject.io.write("mine", b"mine")
        other = subject.io.write("other", b"other")
        with raises(VersionConflictException, "swap by the version of another object"):
            subject.io.write("mine", b"ours", expect=other)
        check_equal(subject.raw.get("mine"), b"mine", "the body after a refused swap")

    @needs(Capability.SWAP)
    def test_identical_bodies_are_swapped_apart(self, subject: Subject) -> None:
        first = subject.io.write("twin/a", b"same")
        subject.io.write("twin/b", b"same")
        subject.io.write("twin/a", b"changed", expect=first)
        check_equal(subject.raw.get("twin/a"), b"changed", "the swapped twin")
        check_equal(subject.raw.get("twin/b"), b"same", "the other twin")

    @needs(Capability.SWAP)
    def test_swap_to_the_same_bytes(self, subject: Subject) -> None:
        version = subject.io.write("same", b"body")
        again = subject.io.write("same", b"body", expect=version)
        check_equal(subject.io.read("same").version, again, "the version after an equal swap")
        subject.io.write("same", b"other", expect=again)
        check_equal(subject.raw.get("same"), b"other", "the body after the next swap")

    @needs(Capability.REMOVE_IF)
    def test_remove_of_the_version_that_is_there(self, subject: Subject) -> None:
        version = subject.io.write("dir/mine", b"body")
        subject.io.remove("dir/mine", expect=version)
        check_equal(subject.raw.get("dir/mine"), None, "an object removed by its version")

    @needs(Capability.REMOVE_IF)
    def test_remove_of_a_stale_version_conflicts(self, subject: Subject) -> None:
        stale = subject.io.write("moved", b"first")
        subject.raw.put("moved", b"theirs")
        with raises(VersionConflictException, "remove of a stale version"):
            subject.io.remove("moved", expect=stale)
        check_equal(subject.raw.get("moved"), b"theirs", "the body after a refused removal")

    @needs(Capability.REMOVE_IF)
    def test_remove_of_a_missing_version_conflicts(self, subject: Subject) -> None:
        version = subject.io.write("gone", b"body")
        subject.raw.delete("gone")
        with raises(VersionConflictException, "remove by version of a missing object"):
            subject.io.remove("gone", expect=version)
        with raises(VersionConflictException, "remove by version of what never was"):
            subject.io.remove("never/was", expect=version)
