"""What is known of fsspec's filesystems: one table, with a reason for every entry.

Nothing is in it on faith. That of two writers exactly one wins takes an exclusive create of a whole
object and a compare-and-swap, and fsspec has a call for neither: ``open(path, "xb")`` shows readers a
file that is still being filled, and a compare before a rename is two steps. So nobody here declares a
`Capability`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, unquote

from checkmate_core.errors import UnsupportedBackendException

_LONGEST_SILENCE = 60.0


class Write(Enum):
    """How a whole object comes into its place."""

    RENAMED = auto()
    """Written beside it and moved over it: readers and crashes leave the old object or the new one."""
    COMMITTED = auto()
    """The same, by the filesystem's own ``open(…, autocommit=False)``."""
    IN_PLACE = auto()
    """Written where it stands. Whether a reader or a crash can meet half of it is the filesystem's affair."""
    REFUSED = auto()


def _as_it_is(name: str) -> str:
    return name


def _nothing(filesystem: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Traits:
    """What one filesystem does.

    Attributes:
        write: How objects are written.
        reason: Why, in words for a message or for whoever reads this table.
        defaults: Options for a filesystem that would otherwise wait without a bound, or lock readers out.
        escape: The text that stands for a name in its paths.
        unescape: The name again.
        tells_folders: Whether it tells a folder from an object, and what is missing from what fails.
        survives_fork: Whether a forked child can connect anew.
        prepare: Called with every new filesystem.
        close: Called with every one that is given up.
    """

    write: Write
    reason: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    escape: Callable[[str], str] = _as_it_is
    unescape: Callable[[str], str] = _as_it_is
    tells_folders: bool = True
    survives_fork: bool = True
    prepare: Callable[[Any], None] = _nothing
    close: Callable[[Any], None] = _nothing


# What no Windows share takes in a name, and blanks and dots that it would drop from the end of one.
_NOT_ON_SHARES = re.compile(r'[<>:"|?*%]|[ .](?=/|$)')


def _escape_for_shares(name: str) -> str:
    return _NOT_ON_SHARES.sub(lambda found: f"%{ord(found[0]):02X}", name)


def _bound_sftp(filesystem: Any) -> None:
    # Without it a server that vanishes without a word is waited for as long as TCP does: a quarter of an hour.
    filesystem.ftp.get_channel().settimeout(_LONGEST_SILENCE)


def _close_archive(filesystem: Any) -> None:
    # When it is collected it closes its file, too, but by then the connection below may be gone.
    filesystem.of.__exit__(None, None, None)


_SFTP = Traits(
    Write.RENAMED,
    "posix-rename@openssh.com is rename(2) on the server",
    defaults={"timeout": 10.0},
    prepare=_bound_sftp,
)
# Clients share one SMB connection for each server of a process, with a thread that no forked child has.
# And by default whoever opens a file shuts everybody else out until it is closed.
_SMB = Traits(
    Write.COMMITTED,
    "its mv() replaces nothing, its commit is an SMB rename that replaces",
    defaults={"share_access": "rwd", "register_session_retries": 0},
    escape=_escape_for_shares,
    unescape=unquote,
    survives_fork=False,
)
# fsspec's exists() and info() take a server's refusals for a missing file; its cat_file() tells them apart.
_HTTP = Traits(
    Write.REFUSED,
    "a web server's pages can only be read",
    defaults={"encoded": True},
    escape=quote,
    unescape=unquote,
    tells_folders=False,
)
_ARCHIVE = Traits(Write.REFUSED, "an archive can only be read", close=_close_archive)

TRAITS: Final[Mapping[str, Traits]] = MappingProxyType(
    {
        "sftp": _SFTP,
        "ssh": _SFTP,
        "smb": _SMB,
        "hdfs": Traits(Write.IN_PLACE, "HDFS renames over nothing that exists"),
        "http": _HTTP,
        "https": _HTTP,
        "zip": _ARCHIVE,
        "tar": _ARCHIVE,
        "libarchive": _ARCHIVE,
    }
)
UNKNOWN: Final = Traits(Write.IN_PLACE, "nothing is known of its moves")

_CACHES = "it answers from a cache, and a store must say what is there now: leave it out of the URL"
_LOCAL = "local files are served by file:///FOLDER or a plain path, synced and with locks"
_REFUSED = {
    "simplecache": _CACHES,
    "filecache": _CACHES,
    "blockcache": _CACHES,
    "cached": _CACHES,
    "local": _LOCAL,
    "asynclocal": _LOCAL,
}


def traits_of(scheme: str) -> Traits:
    """What is known of the filesystem behind ``scheme``."""
    return TRAITS.get(scheme, UNKNOWN)


def check_chain(location: str, schemes: list[str]) -> None:
    """Refuse what makes no store, before anything is connected.

    Args:
        location: The URL, for messages.
        schemes: Of its links, from the outermost to the innermost.

    Raises:
        UnsupportedBackendException: A link can be no part of a store, or the chain adds nothing.
    """
    for scheme in schemes:
        if scheme in _REFUSED:
            raise UnsupportedBackendException(f"{location} is no store: {scheme}: {_REFUSED[scheme]}")
    if len(schemes) > 1 and "*" in location:
        raise UnsupportedBackendException(f"{location} is no store: '*' names no single folder or archive")
    if schemes == ["dir", "file"]:
        raise UnsupportedBackendException(f"{location} is no store: dir on file: {_LOCAL}")
