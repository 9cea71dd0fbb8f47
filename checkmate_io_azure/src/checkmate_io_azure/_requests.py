"""One request to the Blob service, through the SDK's pipeline: it signs, sends and tries again.

The SDK's own operations are not used: its download asks for a range, which costs an empty blob a second
request, and each operation makes a client with a pipeline of its own, which costs more than all that
goes over the wire.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from aiohttp import ClientConnectorDNSError, ClientSSLError
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.rest import HttpRequest
from azure.storage.blob.aio import ContainerClient

# aiohttp warns of larger bytes, which it writes in one go; a file it reads in a thread, which costs more.
_LARGE: Final = 1 << 20
_CODE = re.compile(r"[A-Za-z]{1,80}")
_QUERY = re.compile(r"\?[^\s'\"<>()]*")

SignedBy = Literal["the account key", "a SAS", "a token", "nothing"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer.

    Attributes:
        headers: Its headers; names in any case.
        body: The whole body.
    """

    headers: Mapping[str, str]
    body: bytes


class RefusedError(Exception):
    """An answer that is no success, without the service's own words: they may repeat a signature.

    Attributes:
        status: The HTTP status.
        code: The service's error code, such as ``ConditionNotMet``; empty where a server sends none.
        signed_by: What the request was authorised with.
    """

    def __init__(self, status: int, code: str, signed_by: SignedBy) -> None:
        self.status = status
        self.code = code
        self.signed_by = signed_by
        super().__init__(f"HTTP {status} {code}".rstrip())


class UnansweredError(Exception):
    """No answer came. Made anew of the SDK's error, which may hold the URL that a SAS stands in.

    Attributes:
        is_nameless: Whether the host has no address.
        is_untrusted: Whether it was the certificate.
    """

    def __init__(self, exc: AzureError) -> None:
        inner = exc.inner_exception
        self.is_nameless = isinstance(inner, ClientConnectorDNSError)
        self.is_untrusted = isinstance(inner, ClientSSLError)
        name = type(inner or exc).__name__
        super().__init__(f"{name}: {without_queries(str(exc))}")


async def send(
    container: ContainerClient,
    method: str,
    key: str | None,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    query: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request about a blob, or about the container where ``key`` is None.

    Raises:
        RefusedError: The answer is no success.
        UnansweredError: There was none.
        ClientAuthenticationError: There is nothing usable to authorise the request with.
    """
    request = HttpRequest(
        method,
        _url(container, key, query or {}),
        headers={"x-ms-version": container.api_version, **_described(body), **(headers or {})},
        content=io.BytesIO(body) if body and len(body) > _LARGE else body,
    )
    # Private, but the one way to the SDK's signing, proxies and retries that costs one request.
    pipeline: Any = container._pipeline
    try:
        reply = (await pipeline.run(request, stream=True)).http_response
        data: bytes = await reply.read()
    except ClientAuthenticationError:
        raise
    except AzureError as exc:
        unanswered = UnansweredError(exc)
    else:
        if reply.status_code >= 300:
            raise RefusedError(reply.status_code, _code(reply.headers), _signed_by(reply.request))
        return Answer(reply.headers, data)
    # Raised out here, so that the SDK's own error is not its context.
    raise unanswered


def without_queries(text: str) -> str:
    """The text with what follows a question mark left out, up to the end of a URL."""
    return _QUERY.sub("?…", text)


def _url(container: ContainerClient, key: str | None, query: Mapping[str, str]) -> str:
    # The client's URL has the SAS, if that is how it was opened.
    base, _, sas = container.url.partition("?")
    path = "" if key is None else f"/{quote(key, safe='~/')}"
    queries = "&".join(filter(None, [urlencode(query, quote_via=quote), sas]))
    return f"{base}{path}?{queries}" if queries else f"{base}{path}"


def _described(body: bytes | None) -> dict[str, str]:
    if body is None:
        return {}
    # Both are signed, so that they cannot be left to the HTTP client.
    return {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}


def _code(headers: Mapping[str, str]) -> str:
    code = headers.get("x-ms-error-code", "")
    return code if _CODE.fullmatch(code) else ""


def _signed_by(request: Any) -> SignedBy:
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    if scheme in ("SharedKey", "SharedKeyLite"):
        return "the account key"
    if scheme:
        return "a token"
    return "a SAS" if "sig=" in request.url else "nothing"
