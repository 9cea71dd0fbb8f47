"""Assertions with messages of their own.

Pytest rewrites no assertion of an installed package, and ``python -O`` drops them all, so a plain
``assert`` would fail without saying why, or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

E = TypeVar("E", bound=BaseException)
_SHOWN = 60


class Caught(Generic[E]):
    """Holds the exception after the ``with`` block of `raises`."""

    error: E


def check(holds: bool, message: str) -> None:
    """Fail the case with ``message`` unless ``holds``."""
    if not holds:
        raise AssertionError(message)


def check_equal(actual: object, expected: object, what: str) -> None:
    """Fail the case unless both are equal, and show both, large ones shortened."""
    check(actual == expected, f"{what}: expected {brief(expected)}, got {brief(actual)}")


@contextmanager
def raises(expected: type[E], what: str) -> Iterator[Caught[E]]:
    """Fail the case unless the block raises ``expected``; ``what`` names what was tried."""
    caught: Caught[E] = Caught()
    try:
        yield caught
    except expected as exc:
        caught.error = exc
    except Exception as exc:
        raise AssertionError(
            f"{what} raised {type(exc).__name__} ({brief(exc)}), not {expected.__name__}"
        ) from exc
    else:
        raise AssertionError(f"{what} did not raise {expected.__name__}")


def brief(value: object) -> str:
    """A short text for a message: a body of megabytes must not drown the reason."""
    if isinstance(value, bytes) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}… ({len(value)} bytes)"
    shown = repr(value)
    return shown if len(shown) <= 20 * _SHOWN else f"{shown[: 20 * _SHOWN]}…"
