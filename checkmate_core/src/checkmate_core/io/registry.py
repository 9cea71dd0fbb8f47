"""URL to backend. A backend is loaded when a URL with its scheme is first opened."""

import os
import threading
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from checkmate_core.errors import UnsupportedBackendException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.url import parse_store_url

ENTRY_POINT_GROUP = "checkmate.task_io"
ANY_SCHEME = "*"
"""Name of the entry point that serves chains, and every scheme that is nobody else's."""

# A scheme of this table never falls through to "*": its own distribution can do what locks need.
_EXTRA_BY_SCHEME = {
    "file": "checkmate-io-fsspec",
    "s3": "checkmate[s3]",
    "s3a": "checkmate[s3]",
    "gs": "checkmate[gcs]",
    "gcs": "checkmate[gcs]",
    "az": "checkmate[azure]",
    "abfs": "checkmate[azure]",
    "abfss": "checkmate[azure]",
}

_clients: dict[tuple[object, ...], TaskIO] = {}
_clients_lock = threading.Lock()
# A lock that another thread held at a fork would stay locked in the child for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_clients_lock=threading.Lock()))


class Backend(Protocol):
    """What an entry point of the group ``checkmate.task_io`` names: a class that opens URLs.

    Attributes:
        url_options: Names that may stand in a URL's query: nothing that is a secret. None: any name
            that does not sound like a secret; the backend finds out which it knows.
    """

    url_options: frozenset[str] | None

    def from_base_url(self, base_url: str, **storage_options: Any) -> TaskIO:
        """Open the store at ``base_url`` (no query) without making a request.

        Raises:
            UnsupportedBackendException: The URL or an option is none that this backend takes.
        """
        ...


def open_task_io(url: str, **storage_options: Any) -> TaskIO:
    """Open the store behind ``url``. Makes no request.

    Clients are cached per process by URL and options, so that asking again is cheap and
    connections stay open.

    Args:
        url: ``scheme://location``, or a plain path for local files. Options that are no secret may
            stand in its query. A chain of fsspec's, such as ``zip://jobs::file:///srv/old.zip``, has none.
        **storage_options: The backend's options; they win over the URL's.

    Raises:
        UnsupportedBackendException: Nobody serves the scheme (the message names what to install),
            the URL carries a credential, or an option is unknown.
    """
    parsed = parse_store_url(url)
    if parsed.is_chain and not _falls_through(parsed.scheme):
        raise UnsupportedBackendException(
            f"{parsed.location} is no store: {parsed.scheme}:// stands alone or at the end of a chain, and "
            f"nothing comes after it. For a folder of that name write ./{parsed.location}"
        )
    backend = _backend(parsed.scheme)
    if backend.url_options is not None and (unknown := parsed.options.keys() - backend.url_options):
        allowed = ", ".join(sorted(backend.url_options)) or "none"
        raise UnsupportedBackendException(
            f"{parsed.location} does not take the URL option {min(unknown)!r} (it takes: {allowed})"
        )
    options = {**parsed.options, **storage_options}
    # repr() also tells unhashable values apart; it stays in this process.
    key = (
        parsed.scheme,
        parsed.location,
        *sorted((k, repr(v)) for k, v in options.items()),
    )
    with _clients_lock:
        if key not in _clients:
            _clients[key] = backend.from_base_url(parsed.location, **options)
        return _clients[key]


def known_schemes() -> list[str]:
    """The URL schemes that installed backends claim; those that ``*`` may serve are not known here."""
    return sorted(_scan().keys() - {ANY_SCHEME})


@cache
def _backend(scheme: str) -> Backend:
    found = _scan().get(ANY_SCHEME if _falls_through(scheme) else scheme)
    if found is None:
        fix = _EXTRA_BY_SCHEME.get(scheme)
        hint = f"pip install '{fix}'" if fix else f"known schemes are {', '.join(known_schemes())}"
        raise UnsupportedBackendException(f"no backend for {scheme}://: {hint}")
    try:
        backend: Backend = found.load()
    except ImportError as exc:
        raise UnsupportedBackendException(
            f"the backend for {scheme}:// ({found.value}) cannot be imported: {exc}; "
            f"pip install --force-reinstall {_EXTRA_BY_SCHEME.get(scheme, 'its distribution')!r}"
        ) from exc
    return backend


def _falls_through(scheme: str) -> bool:
    return scheme not in _EXTRA_BY_SCHEME and scheme not in _scan()


@cache
def _scan() -> dict[str, EntryPoint]:
    # A scan reads the metadata of every installed distribution (5 to 10 ms): once per process.
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
