"""Object names that no store misreads and that cannot leave the base URL."""

import re
from functools import lru_cache

from checkmate_core.errors import TaskIOException

MAX_NAME_BYTES = 1024
MAX_SEGMENT_BYTES = 255
_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f]")


def check_object_name(obj_name: str) -> str:
    """Return ``obj_name`` if it is safe on every store.

    Safe: relative, segments between single slashes, none of them empty, ``.`` or ``..``, no
    backslash or control character, at most 255 bytes a segment and 1024 in all. The limits are
    those of S3 keys and of common file systems.

    Raises:
        TaskIOException: The name is not safe.
    """
    reason = _fault(obj_name)
    if reason:
        raise TaskIOException(f"object name {obj_name!r} is refused: {reason}")
    return obj_name


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if some safe name could start with it.

    Raises:
        TaskIOException: No safe name starts with it.
    """
    if prefix:
        # A last segment "." or ".." may still grow into a safe one; before a slash it cannot.
        reason = _fault(
            prefix[:-1] if prefix.endswith("/") else f"{prefix}x" if prefix.endswith(".") else prefix
        )
        if reason:
            raise TaskIOException(f"listing prefix {prefix!r} is refused: {reason}")
    return prefix


# An engine names the same few objects again and again.
@lru_cache(maxsize=4096)
def _fault(obj_name: str) -> str | None:
    try:
        size = len(obj_name.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if size > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    if _UNSAFE.search(obj_name):
        return "it holds a backslash or a control character"
    for segment in obj_name.split("/"):
        if segment in ("", ".", ".."):
            return "a segment is empty, '.' or '..'"
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            return f"a segment is longer than {MAX_SEGMENT_BYTES} bytes"
    return None
