"""One request to the JSON API of Cloud Storage, with gcsfs's session, credentials and endpoint.

gcsfs's own ``_request`` is not used: it sends up to six times with sleeps of up to 32 s in between,
and keeps of a 404 only the path, so that a missing bucket looks like a missing object.
"""

import asyncio
import io
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from aiohttp import ClientTimeout
from yarl import URL

from checkmate_core.version import __version__

# For the silence of the other side, not for the whole request: a large object may take its time.
_TIMEOUT: Final = ClientTimeout(total=None, sock_connect=2, sock_read=10)
# aiohttp warns of larger bytes, which it writes in one go; a file it reads in a thread, which costs more.
_LARGE: Final = 1 << 20
_USER_AGENT: Final = f"checkmate-io-gcs/{__version__}"

_PERMISSION = re.compile(r"\bstorage\.objects\.(?:get|create|delete|list|update)\b")
_REASON = re.compile(r"[A-Za-z]{1,40}")
_REQUESTER_PAYS = re.compile(r"requester.?pays|user project", re.IGNORECASE)

Missing = Literal["object", "bucket", "unsaid"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer.

    Attributes:
        headers: Its headers; names in any case.
        body: The whole body.
    """

    headers: Mapping[str, str]
    body: bytes


class CredentialsError(Exception):
    """The credentials have run out and cannot be refreshed."""


class RefusedError(Exception):
    """An answer that is no success, without the service's own words: they may repeat a secret.

    Attributes:
        status: The HTTP status.
        reason: The service's word for the error, such as ``rateLimitExceeded``, or empty.
        permission: The permission that the service says is missing, or empty.
        missing: What a 404 says is missing.
        is_anonymous: Whether the request carried no credentials.
    """

    def __init__(self, status: int, body: bytes, *, is_anonymous: bool) -> None:
        reason, message = _told(body)
        self.status = status
        self.reason = "requesterPays" if status == 400 and _REQUESTER_PAYS.search(message) else reason
        self.permission = found[0] if (found := _PERMISSION.search(message)) else ""
        self.missing: Missing = _missing(message)
        self.is_anonymous = is_anonymous
        super().__init__(f"HTTP {status} {self.reason}".rstrip())


async def send(
    filesystem: Any, method: str, path: str, query: Mapping[str, str], upload: "Upload | None" = None
) -> Answer:
    """Send one request, once.

    Args:
        filesystem: A `gcsfs.core.GCSFileSystem`.
        method: The HTTP method.
        path: The path from the endpoint's root, quoted.
        query: What gcsfs adds for buckets whose requester pays comes on top.
        upload: The body.

    Raises:
        RefusedError: The answer is no success.
        CredentialsError: Nothing was sent.
    """
    session = await filesystem._set_session()
    headers = {"User-Agent": _USER_AGENT}
    await _authorize(filesystem, headers)
    options: dict[str, Any] = {}
    if upload:
        headers["Content-Type"] = upload.content_type
        options["data"] = io.BytesIO(upload.body) if len(upload.body) > _LARGE else upload.body
    if "timeout" not in filesystem.session_kwargs:
        options["timeout"] = _TIMEOUT
    parameters = urlencode(filesystem._get_params(query), quote_via=quote)
    # Encoded by us: yarl would decode what need not be encoded, and GCS wants every slash of a name so.
    url = URL(f"{filesystem._location.rstrip('/')}{path}?{parameters}", encoded=True)
    async with session.request(method, url, headers=headers, allow_redirects=False, **options) as reply:
        body = await reply.read()
        if reply.status >= 300:
            raise RefusedError(reply.status, body, is_anonymous=filesystem.credentials.credentials is None)
        return Answer(reply.headers, body)


async def _authorize(filesystem: Any, headers: dict[str, str]) -> None:
    credentials = filesystem.credentials.credentials
    if credentials is None:
        return
    if not credentials.valid:
        # A request of google-auth's own, which blocks: here it would stop every other request.
        try:
            await asyncio.to_thread(filesystem.credentials.maybe_refresh)
        except Exception as exc:
            raise CredentialsError(type(exc).__name__) from exc
    credentials.apply(headers)


class Upload:
    """An object and its name as one ``multipart/related`` body.

    Attributes:
        content_type: The type of the body.
        body: The body.
    """

    def __init__(self, name: str, data: bytes) -> None:
        # Random, so that no data can hold it.
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/related; boundary={boundary}"
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps({'name': name})}"
            f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        self.body = b"".join((head.encode(), data, f"\r\n--{boundary}--".encode()))


def _told(body: bytes) -> tuple[str, str]:
    """The reason and the message of an error; downloads answer in plain text."""
    text = body[:10_000].decode(errors="replace")
    try:
        error = json.loads(text)["error"]
        message = str(error["message"])
        reason = str(error["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        return "", text
    return reason if _REASON.fullmatch(reason) else "", message


def _missing(message: str) -> Missing:
    # The emulator's "Not Found" may mean either; a bucket is there more often than an object.
    if message.startswith("No such object") or message.strip().casefold() == "not found":
        return "object"
    # And a web server that is no GCS must not look like an empty bucket.
    return "bucket" if "bucket" in message and "<" not in message else "unsaid"
