"""The suite: all groups in one class, and a way to run it without pytest."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from checkmate_core.testing.conformance.concurrency import ConcurrencyCases
from checkmate_core.testing.conformance.conditional import ConditionalCases
from checkmate_core.testing.conformance.errors import ErrorCases
from checkmate_core.testing.conformance.listing import ListingCases
from checkmate_core.testing.conformance.names import NameCases
from checkmate_core.testing.conformance.processes import ProcessCases
from checkmate_core.testing.conformance.read import ReadCases
from checkmate_core.testing.conformance.subject import Subject
from checkmate_core.testing.conformance.write import WriteCases


class TaskIOConformance(
    ReadCases,
    WriteCases,
    ConditionalCases,
    ListingCases,
    ErrorCases,
    NameCases,
    ConcurrencyCases,
    ProcessCases,
):
    """Every promise of the TaskIO protocol, as test methods.

    A backend is tested by a subclass with one fixture:

        class TestMyTaskIO(TaskIOConformance):
            @pytest.fixture
            def subject(self, tmp_path):
                return Subject(io=MyTaskIO(...), raw=MyRawStore(...), ...)

    Each test gets a fresh, empty `Subject`.
    """


GROUPS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "read": ReadCases,
        "write": WriteCases,
        "conditional": ConditionalCases,
        "listing": ListingCases,
        "errors": ErrorCases,
        "names": NameCases,
        "concurrency": ConcurrencyCases,
        "processes": ProcessCases,
    }
)
"""The groups of `TaskIOConformance` by name."""


@dataclass(frozen=True, slots=True)
class FailedCase:
    """One case that a backend does not pass.

    Attributes:
        group: Name of the group, a key of `GROUPS`.
        case: Name of the test method.
        error: What it raised.
    """

    group: str
    case: str
    error: Exception

    def __str__(self) -> str:
        return f"{self.group}: {self.case}: {self.error}"


def cases(group: str) -> Iterator[str]:
    """The names of the cases of one group, in the order they are written."""
    return (name for name in vars(GROUPS[group]) if name.startswith("test_"))


def run_conformance(new_subject: Callable[[], Subject]) -> list[FailedCase]:
    """Run the whole suite without pytest.

    Args:
        new_subject: Makes a subject on a fresh, empty store for each case.

    Returns:
        The cases that failed: none for a sound backend.
    """
    failed = []
    for group, members in GROUPS.items():
        for case in cases(group):
            try:
                getattr(members(), case)(new_subject())
            except Exception as exc:  # noqa: BLE001 - whatever a case raises is its result
                failed.append(FailedCase(group, case, exc))
    return failed
