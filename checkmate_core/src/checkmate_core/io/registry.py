"""URL to backend, and to the layers over it. Each is loaded when a URL first asks for it."""

import hashlib
import os
import threading
from collections.abc import Mapping, Set
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from checkmate_core.errors import UnsupportedBackendException
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.url import StoreUrl, parse_store_url

ENTRY_POINT_GROUP = "checkmate.task_io"
LAYER_GROUP = "checkmate.task_io_layer"
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

# By the name of the option that asks for it.
_EXTRA_BY_LAYER: dict[str, str] = dict.fromkeys(("allow_plain", "compress", "key"), "checkmate[sealed]")

# By scheme, location and a digest of the options, which may be secrets and must not lie about in clear.
_clients: dict[tuple[str, str, bytes], TaskIO] = {}
_digest_key = os.urandom(32)
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


class Layer(Protocol):
    """What an entry point of the group ``checkmate.task_io_layer`` names: a class that wraps stores.

    Each of its entry points is named as an option that asks for it, of any backend's URLs.

    Attributes:
        url_options: Those that may stand in a URL's query.
    """

    url_options: frozenset[str]

    def over(self, io: TaskIO, **options: Any) -> TaskIO:
        """The store ``io`` seen through this layer. Equal arguments give one client, and no request is made.

        Raises:
            UnsupportedBackendException: An option has a value that this layer does not take.
        """
        ...


def open_task_io(url: str, **storage_options: Any) -> TaskIO:
    """Open the store behind ``url``. Makes no request.

    Clients are cached per process by URL and options, so that asking again is cheap and
    connections stay open.

    Args:
        url: ``scheme://location``, or a plain path for local files. Options that are no secret may
            stand in its query. A chain of fsspec's, such as ``zip://jobs::file:///srv/old.zip``, has none.
        **storage_options: The options of the backend and of layers over it; they win over the URL's.

    Raises:
        UnsupportedBackendException: Nobody serves the scheme or a layer's option (the message names
            what to install), the URL carries a credential, or an option is unknown.
    """
    parsed = parse_store_url(url)
    if parsed.is_chain and not _falls_through(parsed.scheme):
        raise UnsupportedBackendException(
            f"{parsed.location} is no store: {parsed.scheme}:// stands alone or at the end of a chain, and "
            f"nothing comes after it. For a folder of that name write ./{parsed.location}"
        )
    backend = _backend(parsed.scheme)
    options = {**parsed.options, **storage_options}
    asked = {name: value for name, value in options.items() if _asks_for_layer(name, value)}
    _check_url_options(parsed, backend.url_options, parsed.options.keys() - asked.keys())
    layers: dict[str, dict[str, Any]] = {}
    for name in sorted(asked):
        layers.setdefault(_layer_point(parsed.location, name).value, {})[name] = options.pop(name)
    key = (parsed.scheme, parsed.location, _digest(options))
    with _clients_lock:
        if key not in _clients:
            _clients[key] = backend.from_base_url(parsed.location, **options)
        io = _clients[key]
    for of_layer in layers.values():
        layer = _layer(next(iter(of_layer)))
        _check_url_options(parsed, layer.url_options, parsed.options.keys() & of_layer.keys())
        io = layer.over(io, **of_layer)
    return io


def known_schemes() -> list[str]:
    """The URL schemes that installed backends claim; those that ``*`` may serve are not known here."""
    return sorted(_scan().keys() - {ANY_SCHEME})


def _check_url_options(parsed: StoreUrl, allowed: frozenset[str] | None, given: Set[str]) -> None:
    if allowed is not None and (unknown := given - allowed):
        names = ", ".join(sorted(allowed)) or "none"
        raise UnsupportedBackendException(
            f"{parsed.location} does not take the URL option {min(unknown)!r} (it takes: {names})"
        )


def _asks_for_layer(name: str, value: object) -> bool:
    # Two names were backends' options before: S3's ``key`` is the id of an access key, and SFTP has a switch
    # ``compress``. What only they can mean stays theirs.
    is_access_key_id = name == "key" and isinstance(value, str) and not value.startswith("env:")
    is_switch = name == "compress" and value in (True, False, "true", "false")
    is_backends = value is None or is_access_key_id or is_switch
    return not is_backends and (name in _EXTRA_BY_LAYER or name in _scan_layers())


def _digest(options: Mapping[str, Any]) -> bytes:
    # repr() also tells unhashable values apart.
    texts = sorted((name, repr(value)) for name, value in options.items())
    return hashlib.blake2b(repr(texts).encode(errors="surrogatepass"), key=_digest_key).digest()


def _layer_point(location: str, option: str) -> EntryPoint:
    found = _scan_layers().get(option)
    if found is None:
        raise UnsupportedBackendException(
            f"nothing is installed that serves the option {option!r} of {location}: "
            f"pip install '{_EXTRA_BY_LAYER[option]}'"
        )
    return found


@cache
def _layer(option: str) -> Layer:
    found = _scan_layers()[option]
    try:
        layer: Layer = found.load()
    except ImportError as exc:
        raise UnsupportedBackendException(
            f"what serves the option {option!r} ({found.value}) cannot be imported: {exc}; "
            f"pip install --force-reinstall {_EXTRA_BY_LAYER.get(option, 'its distribution')!r}"
        ) from exc
    return layer


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


def _scan() -> dict[str, EntryPoint]:
    return _scan_all()[ENTRY_POINT_GROUP]


def _scan_layers() -> dict[str, EntryPoint]:
    return _scan_all()[LAYER_GROUP]


@cache
def _scan_all() -> dict[str, dict[str, EntryPoint]]:
    # A scan reads the metadata of every installed distribution (5 to 10 ms): once per process.
    found = entry_points()
    groups = (ENTRY_POINT_GROUP, LAYER_GROUP)
    return {group: {point.name: point for point in found.select(group=group)} for group in groups}
