"""`gs://`: objects in a bucket of Google Cloud Storage, or of a server that speaks its JSON API."""

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, ClassVar, Self
from urllib.parse import quote

from gcsfs.core import GCSFileSystem

from checkmate_core.errors import (
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.types import (
    ABSENT,
    ANY,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)
from checkmate_io_fsspec.closing import close_in_place
from checkmate_io_fsspec.remote import RemoteTaskIO
from checkmate_io_gcs._errors import CREDENTIALS, failure
from checkmate_io_gcs._options import check_options, for_gcsfs, is_googles
from checkmate_io_gcs._requests import Answer, RefusedError, Upload, send
from checkmate_io_gcs._retries import Sleep, persist

# Names with dots are domains; what the service itself refuses is its to say.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]")
_GENERATION = re.compile(r"[1-9][0-9]*")


class GCSTaskIO(RemoteTaskIO):
    """Objects in a bucket of Google Cloud Storage, one request per operation. A version is a generation.

    `gs://` and `gcs://` name the same store. A server that allows about one write of an object a second
    (429) is waited for, up to 15 s.

    Options, besides the usual environment and files of Google's libraries:

    * in the URL or as keywords: ``endpoint_url``, ``project``;
    * as keywords only: ``token`` (what gcsfs takes: ``google_default``, ``cloud``, ``cache``, ``anon``, the
      path of a key file, its content as a dict, an access token, a credentials object of google-auth),
      ``requester_pays`` (True, or the project that pays), ``session_kwargs`` for aiohttp's session.

    No credentials are looked for where the endpoint is none of Google's: it is asked anonymously unless
    ``token`` is given.
    """

    scheme = "gs"
    url_options: ClassVar[frozenset[str]] = frozenset({"endpoint_url", "project"})
    known_options: ClassVar[frozenset[str]] = url_options | {"token", "requester_pays", "session_kwargs"}

    def __init__(self, bucket: str, path: str = "", **options: Any) -> None:
        check_options(options)
        super().__init__(bucket, path, **options)
        self._sleep: Sleep = asyncio.sleep
        self._objects = f"/storage/v1/b/{quote(bucket, safe='')}/o"

    @classmethod
    def from_base_url(cls, base_url: str, **storage_options: Any) -> Self:
        scheme, colon, rest = base_url.partition("://")
        if scheme.casefold() == "gcs":
            base_url = f"{cls.scheme}{colon}{rest}"
        return super().from_base_url(base_url, **storage_options)

    @classmethod
    def _check_location(cls, bucket: str) -> None:
        super()._check_location(bucket)
        if not _BUCKET.fullmatch(bucket):
            raise UnsupportedBackendException(f"{bucket!r} is no bucket name")

    def _make_filesystem(self) -> GCSFileSystem:
        try:
            filesystem = GCSFileSystem(**for_gcsfs(self._options), skip_instance_cache=True)
        except Exception as exc:
            raise StorageUnavailableException(
                f"cannot open {self.base_url}: its credentials cannot be used ({type(exc).__name__}); "
                f"{CREDENTIALS}."
            ) from exc
        vars(filesystem)["close_session"] = close_in_place()
        return filesystem

    async def _foreign_endpoint(self, filesystem: GCSFileSystem) -> str | None:
        # The client's own word: the option or the environment may have set it.
        endpoint: str = filesystem._location
        return None if is_googles(endpoint) else endpoint

    async def _exists(self, filesystem: GCSFileSystem, key: str) -> bool:
        try:
            await self._send(filesystem, "GET", self._object(key), fields="generation")
        except RefusedError as exc:
            if exc.status == 404 and exc.missing == "object":
                return False
            raise
        return True

    async def _read(self, filesystem: GCSFileSystem, key: str) -> StoredObject:
        answer = await self._send(filesystem, "GET", f"/download{self._object(key)}", alt="media")
        return StoredObject(
            answer.body, _version(answer.headers.get("x-goog-generation")), _age(answer.headers)
        )

    async def _write(self, filesystem: GCSFileSystem, key: str, data: bytes, expect: Expect) -> Version:
        # As multipart and not as media, where the name would stand in the URL: the emulator overlooks
        # conditions of the latter.
        answer = await self._send(
            filesystem,
            "POST",
            f"/upload{self._objects}",
            Upload(key, data),
            uploadType="multipart",
            fields="generation",
            **self._condition(key, expect),
        )
        return _version(_parsed(answer).get("generation"))

    async def _remove(self, filesystem: GCSFileSystem, key: str, expect: RemoveExpect) -> None:
        try:
            await self._send(filesystem, "DELETE", self._object(key), **self._condition(key, expect))
        except RefusedError as exc:
            if expect is not ANY or exc.status != 404 or exc.missing != "object":
                raise

    async def _list_page(
        self, filesystem: GCSFileSystem, prefix: str, token: str | None
    ) -> tuple[list[ObjectInfo], str | None]:
        more = {} if token is None else {"pageToken": token}
        fields = "items(name,generation,size,updated),nextPageToken"
        answer = await self._send(
            filesystem, "GET", self._objects, prefix=prefix, maxResults="1000", fields=fields, **more
        )
        listed = _parsed(answer)
        page = [
            ObjectInfo(
                entry["name"],
                _version(entry.get("generation")),
                int(entry["size"]),
                datetime.fromisoformat(entry["updated"]),
            )
            for entry in listed.get("items", ())
        ]
        return page, listed.get("nextPageToken") or None

    def _object(self, key: str) -> str:
        return f"{self._objects}/{quote(key, safe='')}"

    def _condition(self, key: str, expect: Expect) -> dict[str, str]:
        if expect is ANY:
            return {}
        if expect is ABSENT:
            return {"ifGenerationMatch": "0"}
        # Generation 0 would mean "absent", and no other text can be the version of an object here.
        if not _GENERATION.fullmatch(expect):
            raise VersionConflictException(
                f"{self.scheme}://{self.bucket}/{key} has another version than expected: "
                f"{expect!r} is no generation"
            )
        return {"ifGenerationMatch": expect}

    async def _send(
        self,
        filesystem: GCSFileSystem,
        method: str,
        path: str,
        upload: Upload | None = None,
        /,
        **query: str,
    ) -> Answer:
        return await persist(partial(send, filesystem, method, path, query, upload), self._sleep)

    def _failure(self, exc: Exception, what: str, url: str, expect: Expect) -> TaskIOException:
        known = failure(exc, what, url, self.bucket, expect)
        return known or super()._failure(exc, what, url, expect)


def _parsed(answer: Answer) -> dict[str, Any]:
    try:
        parsed = json.loads(answer.body)
    except ValueError as exc:
        raise UnsupportedBackendException(
            "the GCS server answered without JSON: check that endpoint_url is a GCS endpoint"
        ) from exc
    return parsed if isinstance(parsed, dict) else {}


def _version(generation: str | None) -> Version:
    if not generation:
        raise UnsupportedBackendException(
            "the GCS server answered without a generation, so that it cannot tell versions apart: "
            "use a server that sends generations"
        )
    return Version(str(generation))


def _age(headers: Mapping[str, str]) -> float | None:
    try:
        now = parsedate_to_datetime(headers["Date"])
        return max(0.0, (now - parsedate_to_datetime(headers["Last-Modified"])).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None
