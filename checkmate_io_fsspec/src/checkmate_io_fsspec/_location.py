"""Which folder a base URL or a plain path means."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from checkmate_core.errors import UnsupportedBackendException


def folder_of(base_url: str) -> str:
    """The folder that a ``file:`` URL or a plain path names.

    Raises:
        UnsupportedBackendException: It names none, or one of another host.
    """
    if not base_url.casefold().startswith("file:"):
        if not base_url:
            raise UnsupportedBackendException("the base URL is empty: give a folder, such as ./tasks")
        return base_url
    parts = urlsplit(base_url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        here = parts.netloc + parts.path
        raise UnsupportedBackendException(
            f"{base_url} names no absolute path on this host: write file:///{here.lstrip('/')} with three "
            f"slashes for an absolute path, or just {here or 'tasks'} for a relative one"
        )
    if "?" in base_url or "#" in base_url:
        raise UnsupportedBackendException(
            f"{parts.scheme}://{parts.path} has a query or a fragment, which files have not: write ? as %3F and # as %23"
        )
    return unquote(parts.path, errors="surrogateescape")


def base_path(path: str) -> str:
    """Absolute form of a folder as the user wrote it; a ``ValueError`` if none can have that name."""
    if "\0" in path:
        raise ValueError("a path holds no NUL")
    absolute = os.path.abspath(Path(path).expanduser())
    # POSIX keeps two leading slashes apart; no system that this runs on means anything by them.
    return absolute if os.name == "nt" else "/" + absolute.lstrip("/")
