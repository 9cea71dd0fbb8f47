"""Listing: everything, once, by plain text."""

from functools import partial

from checkmate_core.testing.conformance.checks import check, check_equal
from checkmate_core.testing.conformance.crowd import crowd
from checkmate_core.testing.conformance.subject import Subject

PAGED = {"exact": 1000, "over": 1001, "rest": 499}
"""How many objects by kind: a listing of all has three pages, one of them ends at a page's end."""


class ListingCases:
    """What ``list`` promises."""

    def test_an_empty_store_lists_nothing(self, subject: Subject) -> None:
        check_equal(_listed(subject), [], "the names of an empty store")
        check_equal(_listed(subject, "no/such/"), [], "the names below a missing prefix")

    def test_a_prefix_is_plain_text(self, subject: Subject) -> None:
        names = ["a", "a.b", "ab", "abc/d", "abd", "b/a", "b/ab/c", "b/abc", "B", "a*b", "a[b]", "a?"]
        # A file system holds no object "a" beside objects "a/…", so "a/" is left to "abc/".
        for name in names:
            subject.raw.put(name, name.encode())
        prefixes = ["", "a", "ab", "abc", "abc/", "abc/d", "b", "b/", "b/a", "b/ab", "b/ab/", "B"]
        for prefix in [*prefixes, "a*", "a[", "a?", "a.", "*", "?", "d", "abc/d/", "c"]:
            expected = sorted(name for name in names if name.startswith(prefix))
            check_equal(_listed(subject, prefix), expected, f"the names that start with {prefix!r}")

    def test_entries_carry_size_time_and_version(self, subject: Subject) -> None:
        bodies = {"empty": b"", "dir/one": b"x", "dir/large": b"x" * 300_000}
        versions = {name: subject.io.write(name, body) for name, body in bodies.items()}
        entries = {info.name: info for info in subject.io.list()}
        check_equal(
            {name: info.size for name, info in entries.items()},
            {name: subject.listed_size(name, body) for name, body in bodies.items()},
            "the sizes of a listing",
        )
        for name, info in entries.items():
            check(info.modified.tzinfo is not None, f"the time of {name} in a listing has no zone")
            check(
                info.version in (None, versions[name]),
                f"the version of {name} in a listing is {info.version}, written {versions[name]}",
            )
        subject.io.write("dir/one", b"22")
        (later,) = subject.io.list("dir/one")
        check_equal(later.size, subject.listed_size("dir/one", b"22"), "the size after an overwrite")
        check(later.modified >= entries["dir/one"].modified, "an overwritten object became older")
        check(later.version != versions["dir/one"], "an overwritten object is listed as before")

    def test_a_listing_is_never_cached(self, subject: Subject) -> None:
        second = subject.reopen()
        subject.raw.put("dir/first", b"body")
        for io in (subject.io, second):
            check_equal([info.name for info in io.list("dir/")], ["dir/first"], "the first listing")
        bodies = {"dir/first": b"a longer body", "dir/second": b"body", "dir/deeper/third": b"body"}
        for name, body in bodies.items():
            subject.raw.put(name, body)
        for who, io in (("the same", subject.io), ("a second", second)):
            check_equal(
                {info.name: info.size for info in io.list("dir/")},
                {name: subject.listed_size(name, body) for name, body in bodies.items()},
                f"what {who} client lists after foreign writes",
            )
        for name in bodies:
            subject.raw.delete(name)
        for who, io in (("the same", subject.io), ("a second", second)):
            check_equal(list(io.list("dir/")), [], f"what {who} client lists after removals")

    def test_many_pages_are_listed_whole(self, subject: Subject) -> None:
        names = [f"many/{kind}-{number:04}" for kind, count in PAGED.items() for number in range(count)]
        with crowd(4) as together:
            together.all_of([partial(subject.raw.put, name, b"x") for name in names])
        for kind, count in PAGED.items():
            found = _listed(subject, f"many/{kind}-")
            expected = [name for name in names if name.startswith(f"many/{kind}-")]
            _check_same_names(found, sorted(expected), f"a listing of {count} of {len(names)}")
        _check_same_names(_listed(subject), sorted(names), f"a listing of {len(names)} objects")

    def test_an_abandoned_listing_does_no_harm(self, subject: Subject) -> None:
        for number in range(5):
            subject.raw.put(f"dir/{number}", b"x")
        for _ in range(3):
            check(next(iter(subject.io.list("dir/"))).name.startswith("dir/"), "the first entry of a listing")
        check_equal(len(_listed(subject)), 5, "how many objects a full listing has after it")

    def test_neighbours_of_the_base_are_not_listed(self, subject: Subject) -> None:
        neighbour = subject.raw.beside("2")
        neighbour.put("x", b"theirs")
        subject.raw.put("y", b"ours")
        for prefix in ("", "y"):
            check_equal(_listed(subject, prefix), ["y"], f"the names that start with {prefix!r}")
        check_equal(_listed(subject, "2"), [], "the names that start with '2'")
        check_equal(subject.io.exists("x"), False, "exists of a neighbour's object")
        check_equal(neighbour.get("x"), b"theirs", "the neighbour's object")

    def test_a_listing_during_writes_does_not_fail(self, subject: Subject) -> None:
        stable = sorted(f"dir/{number % 3}/stable-{number:02}" for number in range(30))
        for name in stable:
            subject.raw.put(name, b"stable")

        def come_and_go(number: int, turn: int) -> None:
            subject.io.write(f"dir/{number}/passing-{turn % 5}", b"passing")
            subject.io.write(stable[turn % len(stable)], b"overwritten")
            subject.io.remove(f"dir/{number}/passing-{turn % 5}")

        def list_again() -> None:
            for _ in range(10):
                found = _listed(subject)
                stayed = [name for name in found if "/passing-" not in name]
                _check_same_names(stayed, stable, "what stays, during writes")
                check_equal(len(found), len(set(found)), "how many names are listed, during writes")

        with crowd(6) as together:
            writers = [partial(come_and_go, number) for number in range(3)]
            together.all_beside(writers, [list_again] * 3)
        check_equal(_listed(subject), stable, "the names after the writes")


def _listed(subject: Subject, prefix: str = "") -> list[str]:
    return sorted(info.name for info in subject.io.list(prefix))


def _check_same_names(found: list[str], expected: list[str], what: str) -> None:
    if found == expected:
        return
    missing = sorted(set(expected) - set(found))
    extra = sorted(set(found) - set(expected))
    twice = sorted({name for name in found if found.count(name) > 1}) if len(found) < 5000 else []
    raise AssertionError(
        f"{what}: {len(missing)} missing {missing[:3]}, {len(extra)} too many {extra[:3]}, "
        f"{len(twice)} listed twice {twice[:3]}"
    )
