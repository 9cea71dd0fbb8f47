"""Writing and removing without a precondition."""

from checkmate_core.testing.conformance.bodies import BODIES
from checkmate_core.testing.conformance.checks import check, check_equal
from checkmate_core.testing.conformance.subject import Subject


class WriteCases:
    """What ``write`` and ``remove`` promise when they expect nothing."""

    def test_write_stores_the_exact_bytes(self, subject: Subject) -> None:
        for number, (kind, body) in enumerate(BODIES.items()):
            name = f"body-{number}"
            subject.io.write(name, body)
            check_equal(subject.raw.get(name), body, f"the stored body ({kind})")

    def test_write_answers_with_the_version_of_its_own_bytes(self, subject: Subject) -> None:
        second = subject.reopen()
        for number, (kind, body) in enumerate(BODIES.items()):
            written = subject.io.write(f"body-{number}", body)
            check(isinstance(written, str) and written != "", f"write answered {written!r}")
            stored = subject.io.read(f"body-{number}")
            check_equal(stored.version, written, f"the version read after a write ({kind})")
            again = second.read(f"body-{number}")
            check_equal(again.version, written, f"the version a second client reads ({kind})")

    def test_overwriting_changes_body_and_version(self, subject: Subject) -> None:
        versions = []
        for body in (b"a long first body", b"short", b"short too", b"the fourth of all bodies"):
            versions.append(subject.io.write("object", body))
            check_equal(subject.raw.get("object"), body, "the body after an overwrite")
            check_equal(subject.io.read("object").version, versions[-1], "the version after it")
        check_equal(len(set(versions)), len(versions), "how many versions four bodies have")

    def test_a_write_touches_its_own_object_only(self, subject: Subject) -> None:
        subject.raw.put("dir/neighbour", b"neighbour")
        subject.io.write("dir/neighbour2", b"new")
        subject.io.write("dir/deep/er/object", b"deep")
        subject.io.remove("dir/neighbour2")
        check_equal(subject.raw.names(), {"dir/neighbour", "dir/deep/er/object"}, "the objects of the store")
        check_equal(subject.raw.get("dir/neighbour"), b"neighbour", "the body of a neighbour")

    def test_a_write_is_seen_at_once(self, subject: Subject) -> None:
        second = subject.reopen()
        check_equal(subject.io.exists("dir/new"), False, "exists before the write")
        check_equal(second.exists("dir/new"), False, "exists of a second client before the write")
        subject.io.write("dir/new", b"body")
        for who, io in (("the same", subject.io), ("a second", second)):
            check_equal(io.exists("dir/new"), True, f"exists of {who} client after the write")
            listed = [info.name for info in io.list("dir/")]
            check_equal(listed, ["dir/new"], f"what {who} client lists after the write")
            check_equal(io.read("dir/new").data, b"body", f"what {who} client reads")

    def test_identical_bodies_are_two_objects(self, subject: Subject) -> None:
        subject.io.write("twin/a", b"same body")
        subject.io.write("twin/b", b"same body")
        subject.io.remove("twin/a")
        check_equal(subject.raw.names(), {"twin/b"}, "the objects after one twin was removed")
        check_equal(subject.io.read("twin/b").data, b"same body", "the body of the other twin")

    def test_remove_takes_the_object_away(self, subject: Subject) -> None:
        subject.raw.put("dir/object", b"body")
        second = subject.reopen()
        check_equal(second.exists("dir/object"), True, "exists before the removal")
        subject.io.remove("dir/object")
        check_equal(subject.raw.get("dir/object"), None, "the body of a removed object")
        for who, io in (("the same", subject.io), ("a second", second)):
            check_equal(io.exists("dir/object"), False, f"exists of {who} client after removal")
            check_equal(list(io.list("dir/")), [], f"what {who} client lists after removal")

    def test_remove_of_a_missing_object_is_no_error(self, subject: Subject) -> None:
        subject.io.remove("never/was")
        subject.raw.put("was", b"body")
        subject.io.remove("was")
        subject.io.remove("was")
        check_equal(subject.raw.names(), set(), "the objects after the removals")

    def test_remove_of_a_folder_keeps_what_is_below(self, subject: Subject) -> None:
        subject.raw.put("folder/object", b"body")
        subject.io.remove("folder")
        check_equal(subject.raw.get("folder/object"), b"body", "an object below a removed name")

    def test_a_removed_name_can_be_written_again(self, subject: Subject) -> None:
        for body in (b"first life", b"second life"):
            subject.io.write("dir/object", body)
            check_equal(subject.io.read("dir/object").data, body, "the body of this life")
            subject.io.remove("dir/object")
