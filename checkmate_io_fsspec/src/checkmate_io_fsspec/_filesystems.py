"""What is known of fsspec's filesystems: one table, with a reason for every entry.

Nothing is in it on faith. That of two writers exactly one wins takes an exclusive create of a whole
object and a compare-and-swap, and fsspec has a call for neither: ``open(path, "xb")`` shows readers a
file that is still being filled, and a compare before a rename is two steps. So nobody here declares a
`Capability`.
"""

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


@dataclass(frozen=True, slots=True)
class Traits:
    """What one filesystem does.

    Attributes:
        write: How objects are written.
        reason: Why, in words for a message or for whoever reads this table.
        defaults: Options for a filesystem that would otherwise wait without a bound.
        quotes_names: Whether names are percent-encoded in its paths.
        prepare: Called with every new filesystem.
    """

    write: Write
    reason: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    quotes_names: bool = False
    prepare: Callable[[Any], None] = lambda filesystem: None

    def escape(self, name: str) -> str:
        """A name as its paths show it."""
        return quote(name) if self.quotes_names else name

    def unescape(self, name: str) -> str:
        """The name that a path shows."""
        return unquote(name) if self.quotes_names else name


def _bound_sftp(filesystem: Any) -> None:
    # Without it a server that vanishes without a word is waited for as long as TCP does: a quarter of an hour.
    filesystem.ftp.get_channel().settimeout(_LONGEST_SILENCE)


_SFTP = Traits(
    Write.RENAMED,
    "posix-rename@openssh.com is rename(2) on the server",
    defaults={"timeout": 10.0},
    prepare=_bound_sftp,
)
_HTTP = Traits(Write.REFUSED, "a web server's pages can only be read", {"encoded": True}, quotes_names=True)
_ARCHIVE = Traits(Write.REFUSED, "an archive can only be read")

TRAITS: Final[Mapping[str, Traits]] = MappingProxyType(
    {
        "sftp": _SFTP,
        "ssh": _SFTP,
        "smb": Traits(
            Write.COMMITTED, "its mv() replaces nothing, its commit is an SMB rename that replaces"
        ),
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
