"""One object on one fsspec filesystem: what is there, how it is put there, what an error says."""

import errno
import posixpath
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from checkmate_core.errors import TaskIOException

_MISSING = {errno.ENOENT, errno.ENOTDIR}
# The server's word about one object, after which the connection is as good as before.
_ANSWERS = _MISSING | {errno.EACCES, errno.EPERM, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
# Other writers may make the folders of a path while we do; each such loss ends one level deeper.
_PLACE_ATTEMPTS = 10
# Each entry that goes between its naming and the look at it costs one.
_LIST_ATTEMPTS = 20
LONG_AGO: Final = datetime.fromtimestamp(0, UTC)
"""When an object was written of which its filesystem does not tell."""


def in_folder(filesystem: Any, path: str, act: Callable[[], object]) -> None:
    """Do what needs the folder of ``path``, and make the folder where it turns out to be missing."""
    folder = posixpath.dirname(path)
    for _ in range(_PLACE_ATTEMPTS - 1):
        try:
            act()
        except OSError as exc:
            found = kind(filesystem, folder)
            if found is None:
                _make(filesystem, folder)
            elif found != "directory" or not is_missing(exc):
                raise
        else:
            return
    act()


def place_in_transaction(filesystem: Any, path: str, body: bytes) -> None:
    """Write by the filesystem's own transaction: aside first, and into its place at the commit."""
    with filesystem.transaction:
        filesystem.pipe_file(path, body)


def _make(filesystem: Any, folder: str) -> None:
    try:
        filesystem.makedirs(folder, exist_ok=True)
    except PermissionError:
        raise
    except OSError:
        # Servers have as many words for a folder that another writer has just made. The next attempt tells.
        return


def listing(filesystem: Any, folder: str, *, tells_folders: bool) -> Sequence[dict[str, Any]]:
    """What stands in a folder, or nothing where there is no such folder."""
    # find() and walk() would leave out without a word what they are not allowed to list.
    for attempt in range(_LIST_ATTEMPTS):
        filesystem.invalidate_cache()
        try:
            found: Sequence[dict[str, Any]] = filesystem.ls(folder, detail=True)
        except OSError as exc:
            if is_missing(exc) if not tells_folders else kind(filesystem, folder) != "directory":
                break
            # Some look at every entry in turn, and fail for one that was removed meanwhile.
            if not is_missing(exc) or attempt == _LIST_ATTEMPTS - 1:
                raise
        else:
            return found
    return []


def kind(filesystem: Any, path: str) -> str | None:
    """``file``, ``directory`` or another word of fsspec's; None where there is nothing."""
    # exists() and isdir() say no where they should say that they could not find out.
    filesystem.invalidate_cache()
    try:
        return str(filesystem.info(path)["type"])
    except OSError as exc:
        if is_missing(exc):
            return None
        raise


def is_missing(exc: BaseException) -> bool:
    """Whether it says that there is no such object or folder."""
    return isinstance(exc, FileNotFoundError | NotADirectoryError) or (
        isinstance(exc, OSError) and exc.errno in _MISSING
    )


def is_answer(exc: BaseException) -> bool:
    """Whether it is the server's word, so that the connection is sound."""
    return isinstance(exc, TaskIOException | NotImplementedError) or (
        isinstance(exc, OSError) and (exc.errno in _ANSWERS or is_missing(exc))
    )


def in_words(exc: Exception) -> str:
    """What went wrong, without what an SDK may have put into its message."""
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, OSError):
        text = exc.strerror or next((each for each in exc.args if isinstance(each, str)), "")
        code = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
        return f"{text} ({code})" if text else code
    status = getattr(exc, "status", None)
    return f"{type(exc).__name__} {status}" if isinstance(status, int) else type(exc).__name__


def modified(entry: dict[str, Any]) -> datetime:
    """When the object of a listing's entry was written, or `LONG_AGO`."""
    # Each filesystem has its own name for it, and some do not tell at all.
    for name in ("mtime", "LastModified", "last_modified", "modified", "updated"):
        value = entry.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            with suppress(ValueError):
                parsed = datetime.fromisoformat(value)
                return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return LONG_AGO
