"""Errors of the operating system, put into words that say what to do."""

import errno
import os

from checkmate_core.errors import StorageUnavailableException

_HINTS = {
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EROFS: "remount the file system writable, or use another base URL",
    errno.ENAMETOOLONG: "use a shorter base path or shorter names",
    errno.EMFILE: "raise this process's limit of open files",
    errno.ENFILE: "raise the system's limit of open files",
    errno.ENOLCK: "the file system must offer file locks: mount it with them, or use another base URL",
    errno.ENOSYS: "the file system must offer file locks and links: use another base URL",
    errno.ENOTSUP: "the file system must offer file locks and links: use another base URL",
    errno.EISDIR: "a folder stands where the object should be: move it away or use another name",
    errno.ENOTDIR: "a file stands where a folder is needed: move it away or use another name",
    errno.EEXIST: "a file stands where a folder is needed: move it away or use another name",
}
_FOLDER_RIGHTS = {"list": "list and enter it (rx)", "write": "write and enter it (wx)"}
_FOLDER_RIGHTS["remove"] = _FOLDER_RIGHTS["write"]


def unavailable(what: str, url: str, exc: OSError) -> StorageUnavailableException:
    """What to raise, chained, for ``exc``.

    Args:
        what: The verb of the message: ``read``, ``write``, …
        url: URL of the object or the folder.
        exc: The error of the operating system.
    """
    hint = _HINTS.get(exc.errno or 0, "check the folder and the disk below it")
    if isinstance(exc, PermissionError):
        hint = _missing_right(what, exc)
    code = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
    return StorageUnavailableException(f"cannot {what} {url}: {exc.strerror or exc} ({code}); {hint}.")


def _missing_right(what: str, exc: PermissionError) -> str:
    # Of a link or a rename, the second path is the one in the folder of the object.
    path = exc.filename2 or exc.filename
    if not isinstance(path, str):
        return "give this user access to the folder, or use another base URL"
    path = os.path.normpath(path)
    # What lies in a folder that cannot be entered does not seem to exist: so this finds the obstacle.
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    folder = os.path.dirname(path)
    # To remove or replace a file takes a right to its folder, whatever its own are.
    if what in ("write", "remove") and not os.path.isdir(path) and not os.access(folder, os.W_OK | os.X_OK):
        path = folder
    if os.path.isdir(path):
        right = _FOLDER_RIGHTS.get(what, "enter it (x)")
        return f"give {_user()} access to the folder {path}: the right to {right}; or use another base URL"
    right = "read it (r)" if what == "read" else "read and write it (rw)"
    return f"give {_user()} access to the file {path}: the right to {right}; or use another base URL"


def _user() -> str:
    return f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
