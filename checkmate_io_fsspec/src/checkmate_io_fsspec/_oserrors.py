"""Errors of the operating system, put into words that say what to do."""

import errno

from checkmate_core.errors import StorageUnavailableException

_HINTS = {
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EACCES: "give this user access to the folder, or use another base URL",
    errno.EPERM: "give this user access to the folder, or use another base URL",
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


def unavailable(what: str, url: str, exc: OSError) -> StorageUnavailableException:
    """What to raise, chained, for ``exc``.

    Args:
        what: The verb of the message: ``read``, ``write``, …
        url: URL of the object or the folder.
        exc: The error of the operating system.
    """
    hint = _HINTS.get(exc.errno or 0, "check the folder and the disk below it")
    code = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
    return StorageUnavailableException(f"cannot {what} {url}: {exc.strerror or exc} ({code}); {hint}.")
