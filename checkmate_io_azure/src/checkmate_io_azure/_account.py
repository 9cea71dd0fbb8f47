"""The way into an account: adlfs finds the credentials, and one client with our settings uses them."""

import asyncio
import inspect
import re
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from adlfs import AzureBlobFileSystem
from azure.storage.blob.aio import ContainerClient

from checkmate_core.errors import StorageUnavailableException, UnsupportedBackendException
from checkmate_io_azure._errors import CREDENTIALS
from checkmate_io_azure._requests import without_queries
from checkmate_io_fsspec.closing import close_in_place

T = TypeVar("T")

CREDENTIAL_OPTIONS: Final = frozenset(
    {
        "connection_string",
        "account_key",
        "sas_token",
        "credential",
        "tenant_id",
        "client_id",
        "client_secret",
        "anon",
    }
)
ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
"""The name of an account."""

_READ_FROM_ENVIRONMENT = CREDENTIAL_OPTIONS - {"credential", "anon"}

# Three attempts, about a second apart: enough for a transient 503, and an endpoint that is not there is
# reported within some seconds. The SDK's own settings take minutes.
_SETTINGS: Final[Mapping[str, Any]] = {
    "retry_total": 2,
    "initial_backoff": 0,
    "increment_base": 1,
    "random_jitter_range": 1,
    "connection_timeout": 2,
    "read_timeout": 10,
    # aiohttp would ask a thread for the proxy, and another for ~/.netrc, before each request: half of all
    # that a request costs here.
    "use_env_settings": False,
}


class Connection:
    """A container's client, open as long as this object lives.

    Attributes:
        loop: The event loop that the client lives in.
        container: The client.
        account: The name of the account, or empty where it is not known.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, container: ContainerClient, credential: Any) -> None:
        self.loop = loop
        self.container = container
        self.account = _name_of(container)
        weakref.finalize(self, close_in_place(), loop, _Open(container, credential))


class _Open:
    """What a connection has open."""

    def __init__(self, container: ContainerClient, credential: Any) -> None:
        self._container = container
        self._credential = credential

    async def __aexit__(self, *_: object) -> None:
        await self._container.close()
        close = getattr(self._credential, "close", None)
        if close is not None:
            await close()


class _OptionsAlone(AzureBlobFileSystem):  # type: ignore[misc]
    """Leaves out the environment's credentials: adlfs prefers some of them to what it is told."""

    _told: Mapping[str, Any]

    def __init__(self, **options: Any) -> None:
        object.__setattr__(self, "_told", options)
        super().__init__(**options)

    def __setattr__(self, name: str, value: object) -> None:
        is_found = name in _READ_FROM_ENVIRONMENT and name not in self._told
        super().__setattr__(name, None if is_found else value)


def connect(base_url: str, name: str, options: Mapping[str, Any]) -> Connection:
    """Make the client of the container ``name``. Sends nothing.

    Raises:
        StorageUnavailableException: No account is named, or the credentials cannot be used.
        UnsupportedBackendException: The credentials are another account's than the named one's.
    """
    given = {option: value for option, value in options.items() if value is not None}
    settings = given.pop("client_kwargs", {})
    filesystem = _usable(base_url, lambda: _filesystem(given))
    service = filesystem.service_client
    _check_account(base_url, given.get("account_name"), _name_of(service))
    container = _usable(
        base_url,
        lambda: ContainerClient(
            service.url,
            name,
            credential=service.credential,
            **{**_SETTINGS, "proxies": _proxies(service.url), **settings},
        ),
    )
    # A credential that the caller made is the caller's to close.
    made_here = None if "credential" in given else filesystem.credential
    return Connection(filesystem.loop, container, made_here)


class _UnusableError(Exception):
    """An error of the SDK about options, without the query of a URL: a SAS may stand there."""


def _usable(base_url: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is about options
        unusable = _UnusableError(f"{type(exc).__name__}: {without_queries(str(exc))}")
    # Raised out here, so that the SDK's own error is not its context.
    raise StorageUnavailableException(
        f"cannot open {base_url}: the account or the credentials cannot be used; {CREDENTIALS}."
    ) from unusable


def _filesystem(options: Mapping[str, Any]) -> Any:
    alone = not CREDENTIAL_OPTIONS.isdisjoint(options)
    made = (_OptionsAlone if alone else AzureBlobFileSystem)(
        **options, skip_instance_cache=True, use_listings_cache=False
    )
    # adlfs would close it when the interpreter ends, in a forked child too, which would wait for ever for
    # the parent's loop; and until then keep it alive. It has opened nothing, and we open none of it.
    for reference in weakref.getweakrefs(made):
        if isinstance(reference.__callback__, weakref.finalize):
            reference.__callback__.detach()
    return made


def _name_of(client: Any) -> str:
    # Taken by the SDK from a URL, which may hold anything.
    name = str(client.account_name or "")
    return name if ACCOUNT.fullmatch(name) else ""


def _check_account(base_url: str, wanted: str | None, found: str) -> None:
    if wanted and found and wanted != found:
        raise UnsupportedBackendException(
            f"{base_url} is to be in the account {wanted!r}, but the connection string is for {found!r}: "
            "pass the one of that account, other credentials, or name no account"
        )


def _proxies(url: str) -> dict[str, str]:
    host = urlsplit(url).hostname or ""
    if proxy_bypass(host):
        return {}
    return {scheme: proxy for scheme, proxy in getproxies().items() if scheme in ("http", "https")}


def is_usable_credential(value: object) -> bool:
    """Whether the SDK's async client takes it; it would await what a synchronous one returns."""
    get_token = getattr(value, "get_token", None)
    return get_token is None or inspect.iscoroutinefunction(get_token)
