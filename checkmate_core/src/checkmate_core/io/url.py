"""Store URLs: `scheme://location?option=value`, or a plain path."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from checkmate_core.errors import UnsupportedBackendException

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SECRET = re.compile(
    r"(^|[^a-z])key([^a-z]|$)|secret|token|passw|credential|connection.?string|signature|^sig$|^sas",
    re.IGNORECASE,
)
# Azure's way to name an account: "abfss://container@account.dfs.core.windows.net/path". No password fits in.
_CONTAINER_IN_ACCOUNT = re.compile(r"[a-z0-9$-]{1,63}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_SCHEMES_OF_ACCOUNTS = frozenset({"az", "abfs", "abfss"})


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL taken apart.

    Attributes:
        scheme: Lower case; ``file`` for a plain path.
        location: The URL without query, or the plain path as it was given. Safe to print.
        options: What stood in the query. None of it is a secret.
    """

    scheme: str
    location: str
    options: dict[str, str]


def parse_store_url(url: str) -> StoreUrl:
    """Take a store URL apart.

    Raises:
        UnsupportedBackendException: A credential stands in the URL, where it would end up in logs
            and shell histories, or the URL has a fragment or a query option twice.
    """
    match = _SCHEME.match(url)
    if match is None:
        return StoreUrl("file", url, {})
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    fix = "Pass credentials as keyword options or through the SDK's usual environment instead."
    if parts.scheme in _SCHEMES_OF_ACCOUNTS and _CONTAINER_IN_ACCOUNT.fullmatch(parts.netloc):
        where = f"{parts.scheme}://{parts.netloc}{parts.path}"
    elif "@" in parts.netloc:
        raise UnsupportedBackendException(f"the URL {where} carries credentials before '@'. {fix}")
    if parts.fragment:
        raise UnsupportedBackendException(f"the URL {where} has a fragment ('#…'), which no store has.")
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET.search(name):
            raise UnsupportedBackendException(f"the URL {where} carries the secret {name!r}. {fix}")
        if name in options:
            raise UnsupportedBackendException(
                f"the URL {where} gives the option {name!r} twice; give it once."
            )
        options[name] = value
    return StoreUrl(match[1].lower(), where, options)
