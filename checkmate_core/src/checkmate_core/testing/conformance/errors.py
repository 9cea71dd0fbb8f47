"""Errors: the tree's own, with the object named and the cause chained."""

from collections.abc import Callable

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    TaskIOException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.testing.conformance.checks import check, check_equal, raises
from checkmate_core.testing.conformance.declared import needs
from checkmate_core.testing.conformance.subject import Subject
from checkmate_core.types import ABSENT, Capability


class ErrorCases:
    """What fails, fails as the protocol says; and what is printed is safe to print."""

    def test_it_is_a_task_io(self, subject: Subject) -> None:
        check(isinstance(subject.io, TaskIO), "the backend lacks a member of the TaskIO protocol")
        check(isinstance(subject.reopen(), TaskIO), "a second client lacks a member of TaskIO")

    def test_read_of_a_missing_object(self, subject: Subject) -> None:
        with raises(PersistenceDataNotFoundException, "read of a missing object") as caught:
            subject.io.read("missing/object")
        _check_names_object(subject, caught.error, "missing/object")
        if subject.chains_causes:
            check(caught.error.__cause__ is not None, "the error of a missing object has no cause")
        else:
            check(caught.error.__cause__ is None, "chains_causes is False, but there is a cause")

    def test_read_of_a_removed_object(self, subject: Subject) -> None:
        subject.raw.put("dir/object", b"body")
        subject.io.read("dir/object")
        subject.raw.delete("dir/object")
        for who, io in (("the same", subject.io), ("a second", subject.reopen())):
            with raises(PersistenceDataNotFoundException, f"read of a removed object by {who} client"):
                io.read("dir/object")

    def test_read_of_a_folder(self, subject: Subject) -> None:
        subject.raw.put("folder/object", b"body")
        with raises(PersistenceDataNotFoundException, "read of a mere folder"):
            subject.io.read("folder")

    def test_objects_below_an_object(self, subject: Subject) -> None:
        """A file system cannot hold them; then it refuses by the tree and harms nothing."""
        subject.raw.put("object", b"body")
        with raises(PersistenceDataNotFoundException, "read of a name below an object"):
            subject.io.read("object/below")
        check_equal(subject.io.exists("object/below"), False, "exists below an object")
        check_equal(list(subject.io.list("object/")), [], "what is listed below an object")
        subject.io.remove("object/below")
        stored = True
        try:
            subject.io.write("object/below", b"below")
        except TaskIOException:
            stored = False
        check_equal(
            subject.raw.names(),
            {"object", "object/below"} if stored else {"object"},
            "the objects after a write below an object",
        )
        check_equal(subject.raw.get("object"), b"body", "the object above")

    def test_a_write_over_a_folder(self, subject: Subject) -> None:
        subject.raw.put("folder/object", b"body")
        stored = True
        try:
            subject.io.write("folder", b"above")
        except TaskIOException:
            stored = False
        check_equal(
            subject.raw.names(),
            {"folder", "folder/object"} if stored else {"folder/object"},
            "the objects after a write over a folder",
        )
        check_equal(subject.raw.get("folder/object"), b"body", "the object below")

    @needs(Capability.CREATE)
    def test_a_refused_create_names_its_object(self, subject: Subject) -> None:
        subject.raw.put("taken", b"body")
        self._check_conflict(subject, lambda: subject.io.write("taken", b"", expect=ABSENT))

    @needs(Capability.SWAP)
    def test_a_refused_swap_names_its_object(self, subject: Subject) -> None:
        stale = subject.io.write("taken", b"first")
        subject.raw.put("taken", b"second")
        self._check_conflict(subject, lambda: subject.io.write("taken", b"", expect=stale))

    @needs(Capability.REMOVE_IF)
    def test_a_refused_removal_names_its_object(self, subject: Subject) -> None:
        stale = subject.io.write("taken", b"first")
        subject.raw.put("taken", b"second")
        self._check_conflict(subject, lambda: subject.io.remove("taken", expect=stale))

    def test_urls_carry_no_query_and_no_secret(self, subject: Subject) -> None:
        base = subject.io.base_url
        check("?" not in base and "@" not in base, f"base_url {base!r} carries a query or a user")
        check("://" in base, f"base_url {base!r} has no scheme")
        check(not base.endswith("/") or base.endswith("://"), f"base_url {base!r} ends in a slash")
        url = subject.io.build_url("dir/object")
        check_equal(url, f"{base.removesuffix('/')}/dir/object", "the URL of an object")
        for text in (base, url, repr(subject.io), str(subject.io)):
            _check_no_secret(subject, text)

    def test_the_scope_of_a_probe_is_safe_to_print(self, subject: Subject) -> None:
        scope = subject.io.probe_scope
        check(scope is None or (isinstance(scope, str) and scope != ""), f"probe_scope is {scope!r}")
        check_equal(subject.reopen().probe_scope, scope, "the probe_scope of a second client")
        check("?" not in (scope or "") and "@" not in (scope or ""), f"{scope!r} carries a query or a user")
        _check_no_secret(subject, scope or "")

    def test_a_second_client_has_the_same_urls(self, subject: Subject) -> None:
        second = subject.reopen()
        check(second is not subject.io, "reopen gives the same client again")
        check_equal(second.base_url, subject.io.base_url, "the base URL of a second client")

    def _check_conflict(self, subject: Subject, request: Callable[[], object]) -> None:
        with raises(VersionConflictException, "a request whose precondition fails") as caught:
            request()
        _check_names_object(subject, caught.error, "taken")


def _check_names_object(subject: Subject, error: Exception, name: str) -> None:
    url = subject.io.build_url(name)
    check(url in str(error), f"the message does not name {url}: {error}")
    _check_no_secret(subject, str(error))


def _check_no_secret(subject: Subject, text: str) -> None:
    for number, secret in enumerate(subject.secrets):
        # The secret itself stays out of this message, too.
        check(secret not in text, f"secret number {number} is shown in {text.replace(secret, '***')!r}")
