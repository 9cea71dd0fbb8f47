"""`s3://`: objects in a bucket of S3, or of a server that speaks its language."""

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit
from zlib import crc32

from aiobotocore.session import AioSession
from s3fs import S3FileSystem

from checkmate_core.errors import TaskIOException, UnsupportedBackendException
from checkmate_core.types import (
    ABSENT,
    ANY,
    Capability,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)
from checkmate_core.version import __version__
from checkmate_io_fsspec.closing import close_in_place
from checkmate_io_fsspec.remote import RemoteTaskIO
from checkmate_io_s3._direct import DELETE, GET, LIST, PUT, Reply, Requests
from checkmate_io_s3._errors import WITHOUT_CONDITIONAL_DELETE, error_code, failure
from checkmate_io_s3._listing import parse_time

# Legacy buckets may hold capitals and underscores; what the service itself refuses is its to say.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")

_AMAZON = (".amazonaws.com", ".amazonaws.com.cn")

# Three attempts of the SDK and none of s3fs's own, which would multiply them to fifteen: enough for a
# transient 503, and an endpoint that is not there is reported within some seconds.
_CONFIG = {
    "connect_timeout": 2,
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "max_pool_connections": RemoteTaskIO.read_concurrency,
    # Else the SDK composes a long one anew for each request. And the store's log tells who asked.
    "user_agent": f"CheckMate/{__version__}",
}

# The SDK adds a CRC32 to every upload, over TLS as a trailer that only newer servers can read, and others
# answer 400 or 501. Without it nothing is lost: the body's SHA-256 is signed, and the server checks that.
_CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")


class S3TaskIO(RemoteTaskIO):
    """Objects in an S3 bucket, one request per operation. A version is an ETag.

    Options, besides the SDK's usual environment and files:

    * in the URL or as keywords: ``endpoint_url``, ``region``, ``profile``, ``addressing_style``
      (``auto``, ``path`` or ``virtual``), ``conditional_delete`` (true; false for a server that does not
      honour ``If-Match`` on DELETE, where REMOVE_IF is not declared then);
    * as keywords only: ``key``, ``secret``, ``token``, ``anon``, and ``client_kwargs`` and
      ``config_kwargs`` for botocore's client and its ``Config``.
    """

    scheme = "s3"
    url_options: ClassVar[frozenset[str]] = frozenset(
        {"endpoint_url", "region", "profile", "addressing_style", "conditional_delete"}
    )
    known_options: ClassVar[frozenset[str]] = url_options | {
        "key",
        "secret",
        "token",
        "anon",
        "client_kwargs",
        "config_kwargs",
    }

    without_remove_if: ClassVar[str] = WITHOUT_CONDITIONAL_DELETE

    def __init__(self, bucket: str, path: str = "", **options: Any) -> None:
        _check_options(options)
        if options.pop("conditional_delete", True) in (False, "false"):
            self.capabilities = RemoteTaskIO.capabilities - {Capability.REMOVE_IF}
        super().__init__(bucket, path, **options)

    @classmethod
    def _check_location(cls, bucket: str) -> None:
        super()._check_location(bucket)
        if not _BUCKET.fullmatch(bucket):
            raise UnsupportedBackendException(f"{bucket!r} is no bucket name")

    def _make_filesystem(self) -> S3FileSystem:
        options = {name: value for name, value in self._options.items() if value is not None}
        config = _CONFIG | options.pop("config_kwargs", {})
        style = options.pop("addressing_style", None)
        if style:
            config["s3"] = {"addressing_style": style} | config.get("s3", {})
        client = dict(options.pop("client_kwargs", {}))
        if "region" in options:
            client["region_name"] = options.pop("region")
        session = _session(options.pop("profile", None))
        filesystem = S3FileSystem(
            **options,
            session=session,
            client_kwargs=client,
            config_kwargs=config,
            skip_instance_cache=True,
            use_listings_cache=False,
        )
        filesystem.retries = 1
        vars(filesystem)["close_session"] = close_in_place()
        connected: Any = filesystem.connect()
        connected.meta.events.register("before-sign.s3.PutObject", _send_body_at_once)
        if not _is_amazons(connected.meta.endpoint_url):
            chosen = {**config, **session.get_scoped_config()}
            for setting in _CHECKSUMS:
                if setting not in chosen and f"AWS_{setting.upper()}" not in os.environ:
                    setattr(connected.meta.config, setting, "when_required")
        return filesystem

    # The SDK's client is called directly: s3fs drops parameters that an old SDK does not know, and a
    # dropped condition would be an unconditional write. The SDK refuses them.

    async def _foreign_endpoint(self, filesystem: S3FileSystem) -> str | None:
        # The client's own word: the option, the environment or a profile may have set it.
        client: Any = await filesystem.set_session()
        endpoint: str = client.meta.endpoint_url
        return None if _is_amazons(endpoint) else endpoint

    async def _exists(self, filesystem: S3FileSystem, key: str) -> bool:
        # Not HEAD: its 404 has no body and so does not tell a missing bucket from a missing object.
        client = await filesystem.set_session()
        try:
            reply = await client.get_object(Bucket=self.bucket, Key=key, Range="bytes=0-0")
        except Exception as exc:
            code = error_code(exc)
            if code in ("NoSuchKey", "InvalidRange"):
                return code == "InvalidRange"  # an empty object has no first byte
            raise
        async with reply["Body"] as stream:
            # Read to its end, a body leaves its connection usable; a server may have ignored the range.
            if reply.get("ContentLength") == 1:
                await stream.read()
        return True

    async def _read(self, filesystem: S3FileSystem, key: str) -> StoredObject:
        reply = await self._send(filesystem, GET, Key=key)
        return StoredObject(reply["Body"], _version(reply), _age(reply))

    async def _write(self, filesystem: S3FileSystem, key: str, data: bytes, expect: Expect) -> Version:
        more = {"IfNoneMatch": "*"} if expect is ABSENT else _if_match(expect)
        client = await filesystem.set_session()
        if client.meta.config.request_checksum_calculation == "when_supported":
            # Left to itself the SDK sends it over TLS as a trailer, and then signs no digest of the body.
            more["ChecksumCRC32"] = b64encode(crc32(data).to_bytes(4, "big")).decode()
        return _version(await self._send(filesystem, PUT, Key=key, Body=data, **more))

    async def _remove(self, filesystem: S3FileSystem, key: str, expect: RemoveExpect) -> None:
        if expect is not ANY and Capability.REMOVE_IF not in self.capabilities:
            raise UnsupportedBackendException(
                f"cannot remove {self.base_url}/{key.removeprefix(self.prefix)} by its version: the store was "
                "opened with conditional_delete=false"
            )
        try:
            await self._send(filesystem, DELETE, Key=key, **_if_match(expect))
        except Exception as exc:
            # S3 answers 204 for a missing key, some of its imitators 404.
            if expect is not ANY or error_code(exc) != "NoSuchKey":
                raise

    async def _list_page(
        self, filesystem: S3FileSystem, prefix: str, token: str | None
    ) -> tuple[list[ObjectInfo], str | None]:
        more = {} if token is None else {"ContinuationToken": token}
        reply = await self._send(filesystem, LIST, Prefix=prefix, MaxKeys=1000, **more)
        page = [
            ObjectInfo(entry["Key"], _version(entry), entry["Size"], entry["LastModified"])
            for entry in reply.get("Contents", ())
        ]
        return page, reply.get("NextContinuationToken") if reply.get("IsTruncated") else None

    async def _send(self, filesystem: S3FileSystem, operation: str, **params: Any) -> Reply:
        client = await filesystem.set_session()
        requests: Requests | None = vars(filesystem).get("requests")
        if requests is None or requests.client is not client:
            requests = vars(filesystem)["requests"] = Requests(client, self.bucket)
        return await requests.send(operation, **params)

    def _failure(self, exc: Exception, what: str, url: str, expect: Expect) -> TaskIOException:
        known = failure(exc, what, url, self.bucket, self.prefix, expect)
        return known or super()._failure(exc, what, url, expect)


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse what could only fail later, and obscurely. No value is printed: it may be a secret."""
    for name, value in options.items():
        kind: type = str
        if name == "anon" or (name == "conditional_delete" and value not in ("true", "false")):
            kind = bool
        elif name.endswith("_kwargs"):
            kind = dict
        if value is not None and not isinstance(value, kind):
            raise UnsupportedBackendException(
                f"the S3 option {name!r} must be of type {kind.__name__}, not {type(value).__name__}"
            )
    style = options.get("addressing_style")
    if style not in (None, "auto", "path", "virtual"):
        raise UnsupportedBackendException("the S3 option 'addressing_style' must be auto, path or virtual")
    endpoint = options.get("endpoint_url")
    if endpoint is not None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UnsupportedBackendException(
                "the S3 option 'endpoint_url' must be http://HOST or https://HOST, with a port where needed"
            )
        if "@" in parts.netloc or parts.query:
            raise UnsupportedBackendException(
                "the S3 option 'endpoint_url' carries credentials or a query: "
                "pass credentials as the options key and secret, or through the environment"
            )


def _session(profile: str | None) -> Any:
    session = AioSession(profile=profile)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    return session


def _is_amazons(endpoint: str) -> bool:
    return (urlsplit(endpoint).hostname or "").endswith(_AMAZON)


def _send_body_at_once(request: Any, **_: object) -> None:
    # The SDK would ask first whether it may send the body, and wait for the answer without any timeout:
    # a connection that went silent just then would hold the caller for ever.
    del request.headers["Expect"]


def _if_match(expect: Expect) -> dict[str, str]:
    return {} if expect is ANY else {"IfMatch": f'"{expect}"'}


def _version(reply: Mapping[str, Any]) -> Version:
    etag = reply.get("ETag")
    if not etag:
        raise UnsupportedBackendException(
            "the S3 server answered without an ETag, so that it cannot tell versions apart: "
            "use a server that sends ETags"
        )
    # Servers differ in whether they quote it, some even between a write and a listing.
    return Version(etag.strip('"'))


def _age(reply: Mapping[str, Any]) -> float | None:
    try:
        now = parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"])
        return max(0.0, float((now - reply["LastModified"]).total_seconds()))
    except (KeyError, TypeError, ValueError):
        return None
