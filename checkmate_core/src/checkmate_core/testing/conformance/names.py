"""Names: what is safe is kept apart, what is not is refused before a request is made."""

from collections.abc import Callable
from typing import Final

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.testing.conformance.checks import check, check_equal, raises
from checkmate_core.testing.conformance.declared import needs
from checkmate_core.testing.conformance.subject import Subject
from checkmate_core.types import ABSENT, Capability

GROUPS_OF_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "unicode": ("ünïcödé/日本語", "emoji-🦊", "caf\u00e9", "cafe\u0301", "ß", "ss", "\u2028line"),
    "spaces": ("a b", "a  b", " a", "a ", "dir /x", " /x", "a+b"),
    "percent": ("x/y", "x%2Fy", "x%2fy", "x%252Fy", "100%", "%", "%zz", "%00", "%20"),
    "URL syntax": ("a?b", "a#b", "a&b=c", "a=b", "a;b", "a:b", "user@host", "http:x", "a,b", "a?"),
    "shell and glob": ("~", "~root/x", "$HOME", "-rf", "*", "a*", "[a]", "{a,b}", "a'b", 'a"b', "`a`"),
    "dots": (".a", "..a", "...", "a.", "a..", "dir/.hidden", ".hidden/x", "a..b", ".x.tmp"),
    "suffixes": ("t.lock", "t.tmp", "_locks/t.lock", ".lock", "t~", "t.json", "t.json.lock", "tmp/t"),
    "case": ("case", "Case", "CASE", "dir-a/x", "Dir-A/x", "DIR-a/x"),
    "long": ("x" * 255, "y" * 254 + "z", "é" * 127, f"{'d' * 200}/{'e' * 200}/{'f' * 200}/x"),
    "numbers": ("0", "00", "000-stage", "1e3", "True", "None", "null"),
}
"""Names that every store keeps apart, by what is special about them."""

REFUSED_NAMES: Final = (
    "",
    "/",
    ".",
    "..",
    "../x",
    "a/..",
    "a/../b",
    "a/./b",
    "./a",
    "a//b",
    "/abs",
    "a/",
    "a\\b",
    "..\\x",
    "nul\x00byte",
    "new\nline",
    "carriage\rreturn",
    "tab\t",
    "escape\x1b",
    "delete\x7f",
    "/".join(["x" * 200] * 6),
    "x" * 256,
    "é" * 128,
    "lone \ud800 surrogate",
)
REFUSED_PREFIXES: Final = ("/", "../", "../x", "./", "a/../", "a//", "/abs", "a\\", "a\x00", "\ud800")


class NameCases:
    """What names a store takes, and which it refuses."""

    def test_unusual_names_are_kept_apart(self, subject: Subject) -> None:
        for kind, names in GROUPS_OF_NAMES.items():
            versions = {name: subject.io.write(name, _body(name)) for name in names}
            check_equal(subject.raw.names(), set(names), f"the names stored ({kind})")
            for name in names:
                check_equal(subject.raw.get(name), _body(name), f"what is stored as {name!r}")
                stored = subject.io.read(name)
                check_equal(stored.data, _body(name), f"what is read of {name!r}")
                check_equal(stored.version, versions[name], f"the version of {name!r}")
                check_equal(subject.io.exists(name), True, f"exists of {name!r}")
            self._check_listed(subject, kind, names)
            for name in names:
                subject.io.remove(name)
            check_equal(subject.raw.names(), set(), f"the names after the removals ({kind})")

    def test_foreign_objects_of_unusual_names(self, subject: Subject) -> None:
        for kind, names in GROUPS_OF_NAMES.items():
            for name in names:
                subject.raw.put(name, _body(name))
            found = subject.io.read_many(names)
            check_equal(
                {name: stored.data for name, stored in found.items()},
                {name: _body(name) for name in names},
                f"what read_many reads ({kind})",
            )
            self._check_listed(subject, kind, names)
            for name in names:
                subject.raw.delete(name)

    @needs(Capability.CREATE, Capability.SWAP)
    def test_unusual_names_are_written_conditionally(self, subject: Subject) -> None:
        for kind, names in GROUPS_OF_NAMES.items():
            for name in names[:4]:
                created = subject.io.write(name, b"created", expect=ABSENT)
                with raises(VersionConflictException, f"a second create of {name!r} ({kind})"):
                    subject.io.write(name, b"again", expect=ABSENT)
                subject.io.write(name, b"swapped", expect=created)
                check_equal(subject.raw.get(name), b"swapped", f"what is stored as {name!r}")
                subject.raw.delete(name)

    def test_every_name_has_a_url_of_its_own(self, subject: Subject) -> None:
        names = [name for group in GROUPS_OF_NAMES.values() for name in group]
        urls = {subject.io.build_url(name) for name in names}
        check_equal(len(urls), len(set(names)), f"how many URLs {len(set(names))} names have")

    def test_unsafe_names_are_refused(self, subject: Subject) -> None:
        subject.raw.put("a/b", b"witness")
        neighbour = subject.raw.beside("2")
        neighbour.put("x", b"witness")
        requests = _requests(subject.io)
        for name in REFUSED_NAMES:
            for what, request in requests.items():
                _check_refused(f"{what} of the unsafe name {name!r}", request, name)
            check_equal(subject.raw.names(), {"a/b"}, f"the objects after the refusal of {name!r}")
        check_equal(subject.raw.get("a/b"), b"witness", "an object after the refusals")
        check_equal(neighbour.names(), {"x"}, "a neighbour's objects after the refusals")

    def test_unsafe_prefixes_are_refused(self, subject: Subject) -> None:
        def request(prefix: str) -> object:
            return list(subject.io.list(prefix))

        for prefix in REFUSED_PREFIXES:
            _check_refused(f"list of the unsafe prefix {prefix!r}", request, prefix)

    def _check_listed(self, subject: Subject, kind: str, names: tuple[str, ...]) -> None:
        listed = sorted(info.name for info in subject.io.list())
        check_equal(listed, sorted(names), f"the names listed ({kind})")
        for name in names:
            expected = sorted(other for other in names if other.startswith(name))
            listed = sorted(info.name for info in subject.io.list(name))
            check_equal(listed, expected, f"the names listed by the prefix {name!r}")


def _requests(io: TaskIO) -> dict[str, Callable[[str], object]]:
    return {
        "write": lambda name: io.write(name, b"evil"),
        "read": io.read,
        "read_many": lambda name: io.read_many(["a/b", name]),
        "exists": io.exists,
        "remove": io.remove,
        "build_url": io.build_url,
    }


def _check_refused(what: str, request: Callable[[str], object], name: str) -> None:
    with raises(TaskIOException, what) as caught:
        request(name)
    answered_by_store = (
        PersistenceDataNotFoundException,
        StorageUnavailableException,
        VersionConflictException,
    )
    check(
        not isinstance(caught.error, answered_by_store),
        f"{what} was a request to the store: {type(caught.error).__name__}",
    )


def _body(name: str) -> bytes:
    return f"the body of {name}".encode()
