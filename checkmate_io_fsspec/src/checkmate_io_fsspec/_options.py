"""Values of storage options, as keywords and as texts of a URL's query."""

from typing import Any

from checkmate_core.errors import UnsupportedBackendException


def positive(name: str, seconds: Any) -> float:
    """A number of seconds above 0.

    Raises:
        UnsupportedBackendException: It is none.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise UnsupportedBackendException(f"{name} must be a number of seconds above 0, not {seconds!r}")
    return float(seconds)


def yes_or_no(name: str, value: Any) -> bool:
    """True or false.

    Raises:
        UnsupportedBackendException: It is neither.
    """
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise UnsupportedBackendException(f"{name} must be true or false, not {value!r}")
