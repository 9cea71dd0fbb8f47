"""What a URL of fsspec's means: which filesystems, with which options, and where the objects are."""

import os
import re
from contextlib import suppress
from typing import Any

from fsspec import available_protocols, get_filesystem_class
from fsspec.core import url_to_fs

from checkmate_core.errors import TaskIOException, UnsupportedBackendException
from checkmate_core.io.names import check_object_name
from checkmate_core.io.registry import known_schemes
from checkmate_io_fsspec._filesystems import Traits, check_chain, traits_of

_NUMBERS = re.compile("port$|timeout$|retries$|size$|replication$")

# The process that first connected, by scheme.
_connected_in: dict[str, int] = {}


class Place:
    """Where a store is. Looked up once, without a request; it can be connected again and again.

    Attributes:
        scheme: That of the outermost link.
        root: The path of the base in the filesystem; empty is its root.
    """

    def __init__(self, location: str, options: dict[str, Any]) -> None:
        links = location.split("::")
        schemes = [_scheme(link) for link in links]
        check_chain(location, schemes)
        outermost, *_ = [_filesystem_class(scheme) for scheme in schemes]
        self._location = location
        self.scheme = schemes[0]
        # A folder of a filesystem behaves as that filesystem does.
        self._deciding = next((scheme for scheme in schemes if scheme != "dir"), schemes[0])
        self.root = _root(outermost, links, location)
        # fsspec keeps filesystems for good and for everybody; these here are ours, to be thrown away.
        self._options: dict[str, Any] = {**_typed(options), "skip_instance_cache": True}
        for scheme in schemes[1:]:
            self._options[scheme] = {**self._options.get(scheme, {}), "skip_instance_cache": True}
        innermost = self._options[schemes[-1]] if len(schemes) > 1 else self._options
        for name, value in traits_of(schemes[-1]).defaults.items():
            innermost.setdefault(name, value)

    @property
    def traits(self) -> Traits:
        """What is known of the filesystem."""
        return traits_of(self._deciding)

    def connect(self) -> Any:
        """A new filesystem, that answers from no cache. May be slow.

        Raises:
            UnsupportedBackendException: This process is a forked child, which the filesystem does not bear.
        """
        if (
            not self.traits.survives_fork
            and _connected_in.setdefault(self.scheme, os.getpid()) != os.getpid()
        ):
            raise UnsupportedBackendException(
                f"{self._location} cannot be used in a forked child of a process that used it: {self.scheme}:// "
                "shares connections in a way that no child can. Start worker processes with 'spawn' instead"
            )
        filesystem, _ = url_to_fs(self._location, **self._options)
        links = [filesystem]
        while hasattr(links[-1], "fs") and hasattr(links[-1].fs, "dircache"):
            links.append(links[-1].fs)
        for link in links:
            link.dircache.use_listings_cache = False
        self.traits.prepare(links[-1])
        return filesystem

    def disconnect(self, filesystem: Any) -> None:
        """Close what would fail, late and aloud, if it were merely forgotten."""
        with suppress(Exception):
            self.traits.close(filesystem)


def _scheme(link: str) -> str:
    scheme, separator, _ = link.partition("://")
    if separator:
        return scheme.lower()
    # As fsspec reads a chain: a bare word is a filesystem, anything else a local path.
    return link.lower() if link in available_protocols() else "file"


def _filesystem_class(scheme: str) -> Any:
    if scheme not in available_protocols():
        raise UnsupportedBackendException(
            f"no backend for {scheme}://: CheckMate serves {', '.join(known_schemes())}, and fsspec does not know "
            "the scheme either. If a package brings it, install that"
        )
    try:
        return get_filesystem_class(scheme)
    except ImportError as exc:
        raise UnsupportedBackendException(f"no backend for {scheme}://: {exc}") from exc


def _root(outermost: Any, links: list[str], location: str) -> str:
    if len(links) > 1:
        has_path = bool(links[0].partition("://")[2])
        return outermost._strip_protocol(links[0]).rstrip("/") if has_path else ""
    root = str(outermost._strip_protocol(location)).rstrip("/")
    path = root.partition("://")[2] or root
    if not path.strip("/"):
        raise UnsupportedBackendException(f"{location} names no folder: write {location.rstrip('/')}/FOLDER")
    try:
        check_object_name(path.strip("/"))
    except TaskIOException as exc:
        raise UnsupportedBackendException(f"{location} is no place to store in: {exc}") from exc
    return root


def _typed(options: dict[str, Any]) -> dict[str, Any]:
    # What stood in a URL is text. A number by its looks may be a password, so the name decides.
    return {name: _value(name, value) for name, value in options.items()}


def _value(name: str, value: Any) -> Any:
    if value in ("true", "false"):
        return value == "true"
    if isinstance(value, str) and value.isdecimal() and _NUMBERS.search(name):
        return int(value)
    return value
