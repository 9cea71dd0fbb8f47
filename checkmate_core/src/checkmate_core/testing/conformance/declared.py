"""Cases that need a capability, and what they test where it is not declared."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from checkmate_core.errors import UnsupportedBackendException
from checkmate_core.testing.conformance.checks import check_equal, raises
from checkmate_core.testing.conformance.subject import Subject
from checkmate_core.types import ABSENT, Capability

Group = TypeVar("Group")


def needs(
    *capabilities: Capability,
) -> Callable[[Callable[[Group, Subject], None]], Callable[[Group, Subject], None]]:
    """Run the case where all ``capabilities`` are declared; elsewhere test that the store refuses.

    Nothing is skipped: a store that lacks a capability and ignores the precondition is as wrong as
    one that has it and ignores it.
    """

    def decorate(case: Callable[[Group, Subject], None]) -> Callable[[Group, Subject], None]:
        @wraps(case)
        def run(group: Group, subject: Subject) -> None:
            lacking = [each for each in capabilities if each not in subject.capabilities]
            for capability in lacking:
                check_refused(subject, capability)
            if not lacking:
                case(group, subject)

        return run

    return decorate


def check_refused(subject: Subject, capability: Capability) -> None:
    """Fail the case unless the store refuses what needs ``capability``, and changes nothing."""
    what = f"without {capability.name} declared,"
    if capability is Capability.STORE_CLOCK:
        subject.raw.put("undeclared", b"body")
        check_equal(subject.io.read("undeclared").age, None, f"{what} the age of an object")
        return
    subject.raw.put("undeclared", b"before")
    version = subject.io.read("undeclared").version
    if capability is Capability.CREATE:
        with raises(UnsupportedBackendException, f"{what} write(expect=ABSENT)"):
            subject.io.write("undeclared-new", b"after", expect=ABSENT)
    elif capability is Capability.SWAP:
        with raises(UnsupportedBackendException, f"{what} write(expect=version)"):
            subject.io.write("undeclared", b"after", expect=version)
    else:
        with raises(UnsupportedBackendException, f"{what} remove(expect=version)"):
            subject.io.remove("undeclared", expect=version)
    check_equal(subject.raw.names(), {"undeclared"}, f"{what} the objects after the refusal")
    check_equal(subject.raw.get("undeclared"), b"before", f"{what} the body after the refusal")
