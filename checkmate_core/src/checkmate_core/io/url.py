"""Store URLs: `scheme://location?option=value`, a chain of them, or a plain path."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from checkmate_core.errors import UnsupportedBackendException

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# fsspec's way to put one filesystem upon another: "zip://folder::sftp://host/archive.zip", "dir::file:///x".
_LINK = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]+(?:://|::))")
# Not a secret, but where to find one.
_VARIABLE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")
# A path may hold "?", yet whoever writes this means the option, and must not get a store without it.
_SEALING = re.compile(r"\?(.*&)?(key|compress|allow_plain)=")
_CHAINED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)::")
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
        scheme: Lower case; ``file`` for a plain path; of a chain that of the outermost link.
        location: The URL without query, or the plain path as it was given. Safe to print.
        options: What stood in the query. None of it is a secret.
        is_chain: Whether it is a chain, whose links are held together by ``::``.
    """

    scheme: str
    location: str
    options: dict[str, str]
    is_chain: bool = False


def parse_store_url(url: str) -> StoreUrl:
    """Take a store URL apart.

    Raises:
        UnsupportedBackendException: A credential stands in the URL, where it would end up in logs
            and shell histories, or the URL has a fragment or a query option twice, or a plain path
            seems to ask for a sealed store.
    """
    links = _LINK.split(url)
    if len(links) > 1 or _CHAINED.match(url):
        return _parse_chain(links)
    match = _SCHEME.match(url)
    if match is None:
        if _SEALING.search(url):
            raise UnsupportedBackendException(
                f"{url.partition('?')[0]} is a plain path, which has no options: '?' would belong to its name, and "
                "nothing there would be sealed. Write file:///… with these options, or give them as keywords"
            )
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
        if _SECRET.search(name) and not (name == "key" and _VARIABLE.fullmatch(value)):
            named = " (key=env:NAME names an environment variable that holds it)" if name == "key" else ""
            raise UnsupportedBackendException(f"the URL {where} carries the secret {name!r}{named}. {fix}")
        if name in options:
            raise UnsupportedBackendException(
                f"the URL {where} gives the option {name!r} twice; give it once."
            )
        options[name] = value
    return StoreUrl(match[1].lower(), where, options)


def _parse_chain(links: list[str]) -> StoreUrl:
    parsed = [parse_store_url(link) if _SCHEME.match(link) else None for link in links]
    location = "::".join(link.location if link else text for link, text in zip(parsed, links, strict=True))
    if any(link and link.options for link in parsed):
        raise UnsupportedBackendException(
            f"the chained URL {location} has a query: give the options of a link as a keyword of its scheme, such "
            "as sftp={'port': 2222}"
        )
    outermost = parsed[0].scheme if parsed[0] else links[0].partition("::")[0].lower()
    return StoreUrl(outermost, location, {}, is_chain=True)
