"""`az://`: objects in a container of Azure Blob Storage, or of a server that speaks its language."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Self

from checkmate_core.errors import TaskIOException, UnsupportedBackendException
from checkmate_core.types import (
    ABSENT,
    ANY,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)
from checkmate_io_azure._account import ACCOUNT, CREDENTIAL_OPTIONS, Connection, connect, is_usable_credential
from checkmate_io_azure._errors import BLOB_NOT_FOUND, CREDENTIALS, failure
from checkmate_io_azure._listing import parse_page
from checkmate_io_azure._requests import RefusedError, send
from checkmate_io_fsspec.remote import RemoteTaskIO

_CONTAINER = re.compile(r"\$root|\$web|[a-z0-9](-?[a-z0-9]){2,62}")
_HOST = re.compile(r"([a-z0-9-]+)((?:\.[a-z0-9-]+)+)")
# Emulators have the account in the path.
_ENDPOINT = re.compile(rf"{_HOST.pattern}(:\d+)?(/{ACCOUNT.pattern})?")

# The clouds of Azure; the third is that of accounts with DNS zones.
_AZURE = (".core.windows.net", ".core.chinacloudapi.cn", ".storage.azure.net", ".core.usgovcloudapi.net")
_PRINCIPAL = frozenset({"tenant_id", "client_id", "client_secret"})


class AzureTaskIO(RemoteTaskIO):
    """Objects in an Azure container, one request per operation. A version is an ETag.

    `az://CONTAINER/PATH`, `abfs://` and `abfss://` name the same store, and so does
    `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`, which names the account too.

    Options:

    * in the URL or as keywords: ``account_name``, and ``account_host`` where it is not
      ``ACCOUNT.blob.core.windows.net``;
    * as keywords only: ``connection_string``, ``account_key``, ``sas_token``, ``credential`` (what the SDK's
      async client takes, such as a credential of azure.identity.aio), ``tenant_id`` with ``client_id`` and
      ``client_secret``, ``anon``, and ``client_kwargs`` for the SDK's client.

    Where no credentials are given, those of the environment are used as adlfs finds them: the connection
    string, the key, the SAS or the service principal in ``AZURE_STORAGE_…``, else the SDK's default
    credential.
    """

    scheme = "az"
    url_options: ClassVar[frozenset[str]] = frozenset({"account_name", "account_host"})
    known_options: ClassVar[frozenset[str]] = url_options | CREDENTIAL_OPTIONS | {"client_kwargs"}

    def __init__(self, bucket: str, path: str = "", **options: Any) -> None:
        _check_options(options)
        super().__init__(bucket, path, **options)

    @classmethod
    def from_base_url(cls, base_url: str, **storage_options: Any) -> Self:
        scheme, colon, rest = base_url.partition("://")
        if scheme.casefold() not in ("az", "abfs", "abfss"):
            return super().from_base_url(base_url, **storage_options)
        authority, slash, path = rest.partition("/")
        container, at, host = authority.partition("@")
        if at:
            _name_account(host, storage_options)
        return super().from_base_url(f"{cls.scheme}{colon}{container}{slash}{path}", **storage_options)

    @classmethod
    def _check_location(cls, bucket: str) -> None:
        super()._check_location(bucket)
        if not _CONTAINER.fullmatch(bucket):
            raise UnsupportedBackendException(f"{bucket!r} is no container name")

    def _make_filesystem(self) -> Connection:
        return connect(self.base_url, self.bucket, self._options)

    async def _foreign_endpoint(self, filesystem: Connection) -> str | None:
        # The client's own word: an option or the environment may have set it.
        container = filesystem.container
        host = container.primary_hostname
        return None if host.endswith(_AZURE) else f"{container.scheme}://{host}"

    async def _exists(self, filesystem: Connection, key: str) -> bool:
        try:
            answer = await send(filesystem.container, "HEAD", key)
        except RefusedError as exc:
            if exc.code == BLOB_NOT_FOUND:
                return False
            raise
        return not _is_directory(answer.headers)

    async def _read(self, filesystem: Connection, key: str) -> StoredObject:
        answer = await send(filesystem.container, "GET", key)
        if _is_directory(answer.headers):
            raise RefusedError(404, BLOB_NOT_FOUND, "nothing")
        return StoredObject(answer.body, _version(answer.headers), _age(answer.headers))

    async def _write(self, filesystem: Connection, key: str, data: bytes, expect: Expect) -> Version:
        condition = {"If-None-Match": "*"} if expect is ABSENT else _if_match(expect)
        headers = {"x-ms-blob-type": "BlockBlob", **condition}
        answer = await send(filesystem.container, "PUT", key, headers=headers, body=data)
        return _version(answer.headers)

    async def _remove(self, filesystem: Connection, key: str, expect: RemoveExpect) -> None:
        try:
            await send(filesystem.container, "DELETE", key, headers=_if_match(expect))
        except RefusedError as exc:
            if expect is not ANY or exc.code != BLOB_NOT_FOUND:
                raise

    async def _list_page(
        self, filesystem: Connection, prefix: str, token: str | None
    ) -> tuple[list[ObjectInfo], str | None]:
        query = {"restype": "container", "comp": "list", "maxresults": "1000", "include": "metadata"}
        query |= {name: value for name, value in (("prefix", prefix), ("marker", token)) if value}
        return parse_page((await send(filesystem.container, "GET", None, query=query)).body)

    def _failure(self, exc: Exception, what: str, url: str, expect: Expect) -> TaskIOException:
        # Where the client could not be made there is no account to speak of.
        connection: Connection | None = self._filesystem
        account = connection.account if connection else ""
        known = failure(exc, what, url, self.bucket, account, expect)
        return known or super()._failure(exc, what, url, expect)


def _name_account(host: str, options: dict[str, Any]) -> None:
    """Take the account out of the host of a URL, where it is what the options call it, if they do."""
    match = _HOST.fullmatch(host.casefold())
    if match is None:
        raise UnsupportedBackendException(
            f"{host!r} is no host of an account: write CONTAINER@ACCOUNT.blob.core.windows.net"
        )
    account, domain = match.groups()
    named = {"account_name": account, "account_host": account + domain.replace(".dfs.", ".blob.", 1)}
    for option, value in named.items():
        if options.setdefault(option, value) not in (value, None):
            raise UnsupportedBackendException(
                f"the URL and the option {option!r} name different accounts: leave one of them out"
            )
        options[option] = value


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse what could only fail later, and obscurely. No value is printed: it may be a secret."""
    kinds: dict[str, type] = {"anon": bool, "client_kwargs": dict, "credential": object}
    for name, value in options.items():
        kind = kinds.get(name, str)
        if value is not None and not isinstance(value, kind):
            raise UnsupportedBackendException(
                f"the Azure option {name!r} must be of type {kind.__name__}, not {type(value).__name__}"
            )
    given = {name for name, value in options.items() if value is not None}
    if not is_usable_credential(options.get("credential")):
        raise UnsupportedBackendException(
            "the Azure option 'credential' must be an asynchronous one: take it from azure.identity.aio"
        )
    if given & _PRINCIPAL and not given >= _PRINCIPAL:
        raise UnsupportedBackendException(
            "the Azure options 'tenant_id', 'client_id' and 'client_secret' belong together: pass all three"
        )
    account, host = options.get("account_name"), options.get("account_host")
    if account is not None and not ACCOUNT.fullmatch(account):
        raise UnsupportedBackendException(
            "the Azure option 'account_name' must be 3 to 24 small letters and digits"
        )
    if host is not None and not _ENDPOINT.fullmatch(host):
        raise UnsupportedBackendException(
            "the Azure option 'account_host' must be a host, with :PORT and, of an emulator, /ACCOUNT"
        )
    if host is not None and account is None:
        raise UnsupportedBackendException(
            f"the Azure option 'account_host' needs 'account_name' beside it: {CREDENTIALS}"
        )


def _if_match(expect: Expect) -> dict[str, str]:
    return {} if expect is ANY else {"If-Match": f'"{expect}"'}


def _is_directory(headers: Mapping[str, str]) -> bool:
    # Where the account has a hierarchical namespace its directories answer as empty objects do.
    marks = (headers.get("x-ms-resource-type", ""), headers.get("x-ms-meta-hdi_isfolder", ""))
    return marks[0] == "directory" or marks[1].casefold() == "true"


def _version(headers: Mapping[str, str]) -> Version:
    etag = headers.get("ETag")
    if not etag:
        raise UnsupportedBackendException(
            "the server answered without an ETag, so that it cannot tell versions apart: "
            "use a server that sends ETags"
        )
    # A listing does not quote it.
    return Version(etag.strip('"'))


def _age(headers: Mapping[str, str]) -> float | None:
    try:
        now = parsedate_to_datetime(headers["Date"])
        return max(0.0, (now - parsedate_to_datetime(headers["Last-Modified"])).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None
