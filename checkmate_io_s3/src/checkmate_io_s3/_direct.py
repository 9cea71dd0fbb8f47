"""S3's requests by the SDK's signer and its HTTP session alone, and by all of the SDK where that will not do.

Between a client's method and its HTTP session the SDK spends most of an operation's CPU, in hooks, endpoint rules,
checks of parameters and parsers that a model drives. What they come to is the same in each request of a kind. So
the SDK makes the first of each kind without sending it, and where a request of ours says word for word the same, the
later ones are ours. Whatever the SDK does that we know nothing about (access points, encryption, another
signature) is then a word too many, and these requests stay the SDK's.

Only successes, a missing key and a failed precondition are understood here. Every other answer, and every failure to
get one, is given to the SDK as that of its own first attempt: retries, redirects and errors are the SDK's, and no
request is sent twice for having been sent here.
"""

import asyncio
import hashlib
import zlib
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError

from checkmate_io_s3._listing import parse_page, parse_time

GET, PUT, DELETE, LIST = "get_object", "put_object", "delete_object", "list_objects_v2"

_METHODS: Final = {GET: "GET", PUT: "PUT", DELETE: "DELETE", LIST: "GET"}
_HEADERS: Final = {
    "IfMatch": "If-Match",
    "IfNoneMatch": "If-None-Match",
    "ChecksumCRC32": "x-amz-checksum-crc32",
}
_QUERY: Final = {"Prefix": "prefix", "MaxKeys": "max-keys", "ContinuationToken": "continuation-token"}
# Of the SDK's headers, those that are the same in every request of a kind.
_CONSTANT: Final = ("User-Agent", "x-amz-checksum-mode")
# Those that are another in each,
_VARYING: Final = frozenset({"x-amz-date", "x-amz-security-token"})
# and those that tell attempts apart, which a single one has no use for.
_ATTEMPTS: Final = frozenset({"amz-sdk-invocation-id", "amz-sdk-request"})
# After these the SDK goes elsewhere, or signs otherwise, and remembers it.
_LESSONS: Final = frozenset({301, 302, 307, 308, 400})
# aiohttp warns of more bytes in one piece; the SDK reads them from a stream, in a thread.
_LARGEST: Final = 2**20
_DIGESTS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
}

Reply = dict[str, Any]
"""As the client's methods give it, with bytes for the body."""


@dataclass(slots=True)
class _Request:
    """As much of the SDK's request as its signer and its HTTP session look at."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    context: dict[str, Any] = field(default_factory=dict)
    params: None = None
    stream_output: bool = False


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the SDK decides once for all requests of a kind.

    Attributes:
        url: What comes before the key, or before the query.
        headers: Those that it adds.
        signing: How it signs; None where it does not.
    """

    url: str
    headers: Mapping[str, str]
    signing: Mapping[str, str] | None


class _Unsent(Exception):
    """Stands in for an answer, to get at the request."""

    request: Any = None


# What the SDK is to take for the answer to its next request, within this call.
_answers: ContextVar[tuple[Any, ...]] = ContextVar("_answers", default=())


def _answer(request: Any, **_: object) -> Any:
    answers = _answers.get()
    if not answers:
        return None
    _answers.set(())
    (answer,) = answers
    if isinstance(answer, _Unsent):
        answer.request = request
    if isinstance(answer, Exception):
        raise answer
    return answer


class Requests:
    """The requests of one client for one bucket, in the client's event loop.

    Args:
        client: aiobotocore's.
        bucket: The bucket's name.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self._bucket = bucket
        self._kinds: dict[str, _Kind | None] = {}
        self._learning = asyncio.Lock()
        client.meta.events.register_last("before-send.s3", _answer)

    async def send(self, operation: str, **params: Any) -> Reply:
        """What the client's method ``operation`` would return.

        Raises:
            ClientError: The service refused.
            BotoCoreError: There was no answer, or nothing could be sent.
        """
        request = await self._made(operation, params)
        if request is None:
            return await self._send_by_sdk(operation, params)
        try:
            response = await self.client._endpoint.http_session.send(request)
        except BotoCoreError as exc:
            return await self._send_by_sdk(operation, params, exc)
        reply = _understood(operation, response, await response.content)
        if reply is not None:
            await self._tell(operation, response, reply)
            return reply
        if response.status_code in _LESSONS:
            self._kinds[operation] = None
        return await self._send_by_sdk(operation, params, response)

    async def _send_by_sdk(self, operation: str, params: Mapping[str, Any], *answers: object) -> Reply:
        before = _answers.set(answers)
        try:
            reply: Reply = await getattr(self.client, operation)(Bucket=self._bucket, **params)
            if operation == GET:
                async with reply["Body"] as stream:
                    reply["Body"] = await stream.read()
        finally:
            _answers.reset(before)
        return reply

    async def _tell(self, operation: str, response: Any, reply: Reply) -> None:
        # How often the SDK may ask again is a stock, which failures use up and successes fill.
        name = self.client.meta.method_to_api_mapping[operation]
        model = self.client.meta.service_model.operation_model(name)
        await self.client.meta.events.emit(
            f"after-call.s3.{name}", http_response=response, parsed=reply, model=model, context={}
        )

    async def _made(self, operation: str, params: Mapping[str, Any]) -> _Request | None:
        """The request, or None where the SDK is to make it. What it cannot do it says itself, and better."""
        if len(params.get("Body", b"")) > _LARGEST:
            return None
        try:
            if operation not in self._kinds:
                async with self._learning:
                    if operation not in self._kinds:
                        await self._learn(operation, params)
            kind = self._kinds[operation]
            return None if kind is None else await self._signed(kind, operation, params)
        except Exception:  # noqa: BLE001 - it may come from a hook, from credentials, or from another SDK's insides
            return None

    async def _learn(self, operation: str, params: Mapping[str, Any]) -> None:
        unsent = _Unsent()
        with suppress(_Unsent):
            await self._send_by_sdk(operation, params, unsent)
        made = unsent.request
        # The SDK's to make, unless what follows comes to the same.
        self._kinds[operation] = None
        if (self.client.meta.config.retries or {}).get("mode") == "adaptive":
            # It holds requests back before they are sent.
            return
        signing = None
        if "Authorization" in made.headers:
            context = made.context["signing"]
            signing = {
                "region_name": context["region"],
                "signing_name": context["signing_name"],
                "signature_version": self.client.meta.config.signature_version,
            }
        kind = _Kind(
            made.url.removesuffix(_target(operation, params))
            if operation != LIST
            else made.url.partition("?")[0],
            {name: _text(made.headers[name]) for name in _CONSTANT if name in made.headers},
            signing,
        )
        if _words(await self._signed(kind, operation, params)) == _words(made):
            self._kinds[operation] = kind

    async def _signed(self, kind: _Kind, operation: str, params: Mapping[str, Any]) -> _Request:
        headers = {name: params[key] for key, name in _HEADERS.items() if key in params}
        body = params.get("Body")
        request = _Request(
            _METHODS[operation], kind.url + _target(operation, params), {**headers, **kind.headers}, body
        )
        if kind.signing is not None:
            signer = await self.client._request_signer.get_auth_instance(**kind.signing)
            signer.add_auth(request)
        if request.method != "GET":
            request.headers["Content-Length"] = str(len(body or b""))
        return request


def _target(operation: str, params: Mapping[str, Any]) -> str:
    if operation != LIST:
        return quote(params["Key"], safe="/~")
    query = {name: params[key] for key, name in _QUERY.items() if key in params}
    return "?" + urlencode({"list-type": 2, **query, "encoding-type": "url"}, quote_via=quote, safe="~")


def _words(request: Any) -> object:
    """What a request says that must not differ, be it signed at another time or by renewed credentials."""
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    signed = headers.pop("authorization", "").partition("Signature=")[0]
    url = urlsplit(request.url)
    return (
        request.method,
        url._replace(query=""),
        sorted(parse_qsl(url.query, keep_blank_values=True)),
        {name: name in _VARYING or value for name, value in headers.items() if name not in _ATTEMPTS},
        # Algorithm, region, service, and the names of the headers.
        (signed.partition(" ")[0], *signed.split("/")[-3:]),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _understood(operation: str, response: Any, body: bytes) -> Reply | None:
    """The client's reply to the common answers.

    Raises:
        ClientError: There is no such key, or a precondition failed.
        FlexibleChecksumError: The body is not the one that was stored.
    """
    status, headers = response.status_code, response.headers
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    is_missing = status == 404 and b"<Code>NoSuchKey</Code>" in body
    if is_missing or status == 412:
        code = "NoSuchKey" if is_missing else "PreconditionFailed"
        raise ClientError({"Error": {"Code": code}, "ResponseMetadata": metadata}, operation)
    if status not in (200, 204):
        return None
    if operation == LIST:
        return parse_page(body)
    reply: Reply = {"ETag": headers.get("etag"), "ResponseMetadata": metadata}
    if operation == GET:
        if "last-modified" in headers:
            reply["LastModified"] = parse_time(headers["last-modified"])
        _check(headers, body)
        return reply | {"Body": body}
    # S3 may find out after it has said 200 that it failed, and then says so in a body.
    return None if body else reply


def _check(headers: Mapping[str, str], body: bytes) -> None:
    for name, digest in _DIGESTS.items():
        stored = headers.get(name)
        # With a dash it is made of those of parts.
        if stored and "-" not in stored and b64decode(stored) != digest(body):
            raise FlexibleChecksumError(error_msg=f"the body does not have its {name}")
