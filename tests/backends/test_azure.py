"""What is particular to `az://`: URLs, requests, answers, credentials."""

import gc
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import product
from typing import Any
from urllib.parse import parse_qs, unquote
from uuid import uuid4
from xml.sax.saxutils import escape

import pytest
from azure.storage.blob import (
    AccountSasPermissions,
    ContainerClient,
    ResourceTypes,
    generate_account_sas,
)

from checkmate.testing._azure import ACCOUNT, KEY
from checkmate.testing._loopback import bypass_proxies
from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.registry import open_task_io
from checkmate_core.types import ABSENT, Version
from checkmate_io_azure.azure import AzureTaskIO
from tests.backends.azure_servers import (
    Answering,
    Recorded,
    Secure,
    Token,
    answering,
    connection_string,
    recorded,
    secure_azurite,
)
from tests.backends.processes import script

SIGNATURE = "verysecretsignature%3D"
SAS = f"sv=2024-08-04&ss=b&srt=co&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&sig={SIGNATURE}"
ONCE = {"client_kwargs": {"retry_total": 0}}

Operation = Callable[[AzureTaskIO], Any]
OPERATIONS: dict[str, Operation] = {
    "exists": lambda s: s.exists("t/x"),
    "read": lambda s: s.read("t/x"),
    "read_many": lambda s: s.read_many(["t/x", "t/y"]),
    "list": lambda s: list(s.list()),
    "write": lambda s: s.write("t/x", b"1"),
    "create": lambda s: s.write("t/x", b"1", expect=ABSENT),
    "swap": lambda s: s.write("t/x", b"1", expect=Version("v")),
    "remove": lambda s: s.remove("t/x"),
    "remove_if": lambda s: s.remove("t/x", expect=Version("v")),
}
CONDITIONAL = ("create", "swap", "remove_if")


@pytest.fixture(autouse=True)
def _no_azure_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("CONNECTION_STRING", "ACCOUNT_NAME", "ACCOUNT_KEY", "SAS_TOKEN", "ANON"),
        *("CLIENT_ID", "CLIENT_SECRET", "TENANT_ID"),
    ):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    # No other credential of the default chain is tried: some of them would ask the network.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    bypass_proxies(monkeypatch)


@pytest.fixture(scope="module")
def server(checkmate_azure_server: str) -> Iterator[Recorded]:
    with recorded(checkmate_azure_server) as running:
        make_container(running.endpoint, "tasks")
        yield running


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    with secure_azurite(tmp_path_factory.mktemp("secure")) as running:
        with ContainerClient(
            f"https://{running.host}", "tasks", credential=KEY, connection_verify=running.authority
        ) as container:
            container.create_container()
        yield running


@pytest.fixture
def store(server: Recorded) -> AzureTaskIO:
    return opened(server.endpoint, f"az://tasks/{uuid4()}")


@pytest.fixture
def told() -> Iterator[Answering]:
    with answering() as running:
        yield running


def make_container(endpoint: str, name: str) -> None:
    with ContainerClient.from_connection_string(connection_string(endpoint), name) as container:
        if not container.exists():
            container.create_container()


def opened(endpoint: str, url: str = "az://tasks/jobs", **options: Any) -> AzureTaskIO:
    return AzureTaskIO.from_base_url(
        url, **({"connection_string": connection_string(endpoint)} | ONCE | options)
    )


def opened_by_sas(endpoint: str, **options: Any) -> AzureTaskIO:
    return opened(
        endpoint,
        connection_string=connection_string(
            endpoint, AccountName=ACCOUNT, SharedAccessSignature=SAS, BlobEndpoint=endpoint
        ),
        **options,
    )


# URLs and options


@pytest.mark.parametrize(
    "url",
    [
        "az://",
        "az:///jobs",
        "az://ab",
        "az://Tasks/x",
        "az://a--b/x",
        "az://ta sks/x",
        "az://tasks//x",
        "abfs://tasks/a/../b",
        "abfss://tasks/\\",
    ],
)
def test_a_url_without_a_usable_container_or_path_is_refused(url: str) -> None:
    with pytest.raises(UnsupportedBackendException, match="az://BUCKET/PATH"):
        open_task_io(url)


@pytest.mark.parametrize(
    "url",
    [
        "az://tasks/a b",
        "AZ://tasks/a b/",
        "abfs://tasks/a b",
        "abfss://tasks@account.dfs.core.windows.net/a b",
        "abfs://tasks@account.dfs.core.windows.net/a b/",
        "az://tasks@account.blob.core.windows.net/a b",
        "az://tasks@account.blob.core.chinacloudapi.cn/a b?account_name=account",
    ],
)
def test_every_form_of_a_url_has_the_same_canonical_one(url: str) -> None:
    store = open_task_io(url)
    assert store.base_url == "az://tasks/a b"
    assert store.build_url("t/ü") == "az://tasks/a b/t/ü"


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        (f"az://tasks:{KEY[:20]}@account.blob.core.windows.net/x", "credentials before '@'"),
        (f"az://tasks@{KEY[:20]}@account.blob.core.windows.net/x", "credentials before '@'"),
        (f"s3://{KEY[:20]}@bucket.example/x", "credentials before '@'"),
        ("az://tasks@account/x", "credentials before '@'"),
        ("az://tasks@account.blob.core.windows.net/x?account_name=other", "different accounts"),
        (f"az://tasks/x?{SAS}", "'sig'|does not take the URL option"),
        (f"az://tasks/x?sig={SIGNATURE}", "secret 'sig'"),
        *[
            (f"az://tasks/x?{name}={KEY[:20]}", name)
            for name in ("account_key", "sas_token", "credential", "client_secret", "connection_string")
        ],
        ("az://tasks/x?anon=true", "does not take the URL option 'anon'"),
    ],
)
def test_a_secret_does_not_belong_in_the_url(url: str, hint: str) -> None:
    with pytest.raises(UnsupportedBackendException, match=hint) as caught:
        open_task_io(url)
    assert KEY[:20] not in str(caught.value)
    assert SIGNATURE not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"acl": "public"}, "does not take the option 'acl'.*account_name.*sas_token"),
        ({"anon": "yes"}, "'anon' must be of type bool"),
        ({"client_kwargs": []}, "'client_kwargs' must be of type dict"),
        ({"account_key": KEY.encode()}, "'account_key' must be of type str"),
        ({"account_name": "Not An Account"}, "small letters"),
        ({"account_host": "account.blob.core.windows.net"}, "needs 'account_name'"),
        ({"account_name": "account", "account_host": f"me:{KEY[:20]}@host"}, "must be a host"),
        ({"tenant_id": "t", "client_id": "c"}, "belong together"),
    ],
)
def test_wrong_options_are_refused_at_opening(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(UnsupportedBackendException, match=hint) as caught:
        AzureTaskIO.from_base_url("az://tasks/jobs", **options)
    assert KEY[:20] not in str(caught.value)


def test_a_synchronous_credential_is_refused_at_opening() -> None:
    from azure.identity import DefaultAzureCredential

    with pytest.raises(UnsupportedBackendException, match=r"azure\.identity\.aio"):
        AzureTaskIO.from_base_url("az://tasks/jobs", credential=DefaultAzureCredential())


# Requests


def test_every_operation_is_one_request(server: Recorded, store: AzureTaskIO) -> None:
    def requests(operation: Callable[[], Any]) -> list[str]:
        server.requests.clear()
        with suppress(VersionConflictException, PersistenceDataNotFoundException):
            operation()
        return [request.method for request in server.requests]

    stale = Version("0x1")
    assert requests(lambda: store.exists("x")) == ["HEAD"]
    assert requests(lambda: store.read("x")) == ["GET"]
    assert requests(lambda: store.write("x", b"1", expect=stale)) == ["PUT"]
    assert requests(lambda: store.write("x", b"1", expect=ABSENT)) == ["PUT"]
    assert requests(lambda: store.write("x", b"1", expect=ABSENT)) == ["PUT"]
    assert requests(lambda: store.write("x", b"1", expect=stale)) == ["PUT"]
    assert requests(lambda: store.write("x", b"2", expect=store.write("x", b"3"))) == ["PUT", "PUT"]
    assert requests(lambda: store.exists("x")) == ["HEAD"]
    assert requests(lambda: store.read("x")) == ["GET"]
    assert requests(lambda: store.read_many(["x", "y", "z"])) == ["GET"] * 3
    assert requests(lambda: list(store.list())) == ["GET"]
    assert requests(lambda: store.remove("x", expect=stale)) == ["DELETE"]
    assert requests(lambda: store.remove("x")) == ["DELETE"]
    assert requests(lambda: store.remove("x")) == ["DELETE"]
    assert requests(lambda: store.read_many([])) == []


def test_a_condition_is_sent_with_the_request_itself(server: Recorded, store: AzureTaskIO) -> None:
    server.requests.clear()
    created = store.write("x", b"1", expect=ABSENT)
    swapped = store.write("x", b"2", expect=created)
    store.write("y", b"3")
    store.remove("x", expect=swapped)
    store.remove("y")
    sent = [
        (request.method, request.headers.get("if-none-match"), request.headers.get("if-match"))
        for request in server.requests
    ]
    assert sent == [
        ("PUT", "*", None),
        ("PUT", None, f'"{created}"'),
        ("PUT", None, None),
        ("DELETE", None, f'"{swapped}"'),
        ("DELETE", None, None),
    ]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 9 << 20])
def test_a_body_of_any_size_is_one_request_each_way(server: Recorded, store: AzureTaskIO, size: int) -> None:
    body = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    server.requests.clear()
    version = store.write("x", body[:size])
    stored = store.read("x")
    assert (stored.data, stored.version) == (body[:size], version)
    assert [request.method for request in server.requests] == ["PUT", "GET"]
    assert "range" not in " ".join(server.requests[1].headers)
    assert store.exists("x")


def test_a_listing_asks_for_a_page_when_it_is_needed(told: Answering) -> None:
    pages = [range(1000), range(1000, 2000), range(2000, 2001)]
    for number, page in enumerate(pages):
        told.will(200, body=_page(page, marker=f"&{number}" if number < 2 else ""))
    listing = opened(told.endpoint).list("t/")
    assert told.requests == []
    names = [next(listing).name for _ in range(1000)]
    assert len(told.requests) == 1
    names += [info.name for info in listing]
    assert names == [f"t/{n:04d}" for n in range(2001)]
    queries = [parse_qs(request.target.partition("?")[2]) for request in told.requests]
    assert [query.get("marker") for query in queries] == [None, ["&0"], ["&1"]]
    assert [(query["prefix"], query["maxresults"]) for query in queries] == [(["jobs/t/"], ["1000"])] * 3


def _page(numbers: range, marker: str) -> bytes:
    blobs = "".join(
        f"<Blob><Name>jobs/t/{n:04d}</Name><Properties><Last-Modified>Tue, 24 Nov 2026 15:00:00 GMT"
        "</Last-Modified><Etag>0x1</Etag><Content-Length>1</Content-Length></Properties></Blob>"
        for n in numbers
    )
    next_marker = f"<NextMarker>{escape(marker)}</NextMarker>"
    return f"<EnumerationResults><Blobs>{blobs}</Blobs>{next_marker}</EnumerationResults>".encode()


def test_no_cache_answers_for_the_store(server: Recorded, store: AzureTaskIO) -> None:
    other = opened(server.endpoint, store.base_url)
    assert list(store.list()) == []
    assert not store.exists("x")
    other.write("x", b"1")
    assert store.exists("x")
    assert [info.size for info in store.list()] == [1]
    version = other.write("x", b"22")
    assert [(info.size, info.version) for info in store.list()] == [(2, version)]
    other.remove("x")
    assert not store.exists("x")
    assert list(store.list()) == []


def test_a_container_itself_may_be_the_base(server: Recorded) -> None:
    make_container(server.endpoint, "whole-container")
    store = opened(server.endpoint, "az://whole-container/")
    assert store.base_url == "az://whole-container"
    store.write("x", b"1")
    assert [info.name for info in store.list()] == ["x"]


def test_age_is_by_the_stores_clock(told: Answering) -> None:
    # Long ago by this host's clock; the store's own is what counts.
    now = datetime(2001, 1, 1, 12, tzinfo=UTC)
    told.will(200, ETag='"v"', Date=_http(now), Last_Modified=_http(now - timedelta(seconds=90)))
    told.will(200, ETag='"v"', Date=_http(now), Last_Modified=_http(now + timedelta(seconds=90)))
    told.will(200, ETag='"v"', Last_Modified=_http(now))
    told.will(200, ETag='"v"', Date=_http(now))
    told.will(200, ETag='"v"', Date="soon", Last_Modified=_http(now))
    store = opened(told.endpoint)
    assert [store.read("x").age for _ in range(5)] == [90.0, 0.0, None, None, None]


def _http(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


LISTING = b"""<?xml version="1.0" encoding="utf-8"?>
<EnumerationResults><Blobs>
<Blob><Name>jobs/dir</Name><Properties><Last-Modified>Tue, 24 Nov 2026 15:00:00 GMT</Last-Modified>
<Etag>"0x1"</Etag><Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties></Blob>
<Blob><Name>jobs/old</Name><Properties><Last-Modified>Tue, 24 Nov 2026 15:00:00 GMT</Last-Modified>
<Etag>0x2</Etag><Content-Length>0</Content-Length></Properties>
<Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob>
<Blob><Name>jobs/dir/x</Name><Properties><Last-Modified>Tue, 24 Nov 2026 15:00:00 GMT</Last-Modified>
<Etag>0x3</Etag><Content-Length>5</Content-Length><ResourceType>file</ResourceType></Properties></Blob>
<Blob><Name Encoded="true">jobs/%EF%BF%BE</Name><Properties>
<Last-Modified>Tue, 24 Nov 2026 15:00:00 GMT</Last-Modified>
<Etag>"0x4"</Etag><Content-Length>6</Content-Length></Properties></Blob>
</Blobs><NextMarker /></EnumerationResults>"""


def test_directories_of_a_hierarchical_namespace_are_no_objects(told: Answering) -> None:
    store = opened(told.endpoint)
    told.will(200, body=LISTING)
    assert [(info.name, info.version, info.size) for info in store.list()] == [
        ("dir/x", "0x3", 5),
        ("\ufffe", "0x4", 6),
    ]
    for name, value in (("x-ms-resource-type", "directory"), ("x-ms-meta-hdi_isfolder", "True")):
        told.answers.clear()
        told.will(200, None, None, ETag='"v"', **{name: value})
        assert not store.exists("dir")
        assert store.read_many(["dir"]) == {}
        with pytest.raises(PersistenceDataNotFoundException):
            store.read("dir")


def test_a_listing_that_is_none_is_refused(told: Answering) -> None:
    told.will(200, body=b"<html>no Blob service here")
    with pytest.raises(UnsupportedBackendException, match="no listing"):
        list(opened(told.endpoint).list())


# Endpoints


@pytest.mark.parametrize(
    "url",
    [
        "az://tasks?account_name=account",
        "abfss://tasks@account.dfs.core.windows.net",
        "az://tasks@account.blob.core.chinacloudapi.cn",
        "az://tasks@account.blob.core.usgovcloudapi.net",
        "az://tasks@account.z01.blob.storage.azure.net",
    ],
)
def test_azures_own_endpoints_need_no_probe(url: str) -> None:
    assert open_task_io(url, anon=True).probe_scope is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1:10000", "azurite", "blob.core.windows.net.example.org", "core.windows.net.example"]
)
def test_any_other_endpoint_does_wherever_it_is_set(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://{host}/{ACCOUNT}"
    option = opened(endpoint)
    sas = opened_by_sas(endpoint)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(endpoint))
    environment = AzureTaskIO.from_base_url("az://tasks/jobs")
    assert option.probe_scope == sas.probe_scope == environment.probe_scope == f"{endpoint} tasks"


def test_a_proxy_of_the_environment_is_used(told: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", told.endpoint.rpartition("/")[0])
    told.will(200, ETag='"v"')
    opened(f"http://blobs.example/{ACCOUNT}").read("x")
    assert [request.target for request in told.requests] == [f"http://blobs.example/{ACCOUNT}/tasks/jobs/x"]


# Answers


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "AuthenticationFailed", "the account key belongs to the account 'devstoreaccount1'"),
        (403, "AuthorizationFailure", "network rules of the account 'devstoreaccount1'"),
        (403, "KeyBasedAuthenticationNotPermitted", "use a token"),
        (403, "AccountIsDisabled", "disabled"),
        (404, "ContainerNotFound", "no container 'tasks' in the account 'devstoreaccount1'. Create it"),
        (404, None, "it does not say what is missing"),
        (409, "ContainerBeingDeleted", "being deleted"),
        (409, "PublicAccessNotPermitted", "no anonymous requests"),
        (409, "SnapshotsPresent", "snapshots"),
        (412, "LeaseIdMissing", "Azure lease"),
        (413, "RequestBodyTooLarge", "5000 MiB"),
        (429, None, "fewer requests"),
        (500, "InternalError", "status"),
        (503, "ServerBusy", "fewer requests"),
        (503, None, "fewer requests"),
    ],
)
def test_a_refusal_is_unavailability_with_the_fix(
    told: Answering, status: int, code: str | None, hint: str
) -> None:
    told.will(status, code)
    store = opened(told.endpoint)
    for operation in OPERATIONS.values():
        with pytest.raises(StorageUnavailableException) as caught:
            operation(store)
        message = str(caught.value)
        assert hint in message
        assert "az://tasks/jobs" in message
        assert caught.value.__cause__ is not None
        assert told.endpoint not in message


BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
RIGHTS = {
    **dict.fromkeys(("exists", "read", "read_many"), ("read", "r (read)")),
    "list": ("read", "l (list)"),
    **dict.fromkeys(("write", "create", "swap"), ("write", "c (create) and w (write)")),
    **dict.fromkeys(("remove", "remove_if"), ("delete", "d (delete)")),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", ["AuthorizationPermissionMismatch", "AuthorizationFailure", None])
def test_a_forbidden_operation_names_the_right_that_it_lacks(
    told: Answering, operation: str, code: str | None
) -> None:
    told.will(403, code)
    action, permission = RIGHTS[operation]
    with pytest.raises(StorageUnavailableException) as by_sas:
        OPERATIONS[operation](opened_by_sas(told.endpoint))
    assert f"a SAS with the permission {permission} on container 'tasks'" in str(by_sas.value)
    anonymous = connection_string(told.endpoint, AccountName=ACCOUNT, BlobEndpoint=told.endpoint)
    with pytest.raises(StorageUnavailableException) as unsigned:
        OPERATIONS[operation](opened(told.endpoint, connection_string=anonymous))
    assert f"anonymous, and needs {BLOBS}/{action} on container 'tasks'" in str(unsigned.value)


@pytest.mark.parametrize("code", ["ConditionNotMet", None, "TargetConditionNotMet"])
def test_a_failed_precondition_is_a_conflict(told: Answering, code: str | None) -> None:
    told.will(412, code)
    store = opened(told.endpoint)
    for name in CONDITIONAL:
        with pytest.raises(VersionConflictException, match="az://tasks/jobs/t/x") as caught:
            OPERATIONS[name](store)
        assert caught.value.__cause__ is not None


def test_only_a_create_meets_a_blob_that_exists(told: Answering) -> None:
    told.will(409, "BlobAlreadyExists")
    store = opened(told.endpoint)
    with pytest.raises(VersionConflictException):
        OPERATIONS["create"](store)
    for name in OPERATIONS.keys() - {"create"}:
        with pytest.raises(StorageUnavailableException):
            OPERATIONS[name](store)


def test_a_missing_blob_means_what_the_operation_makes_of_it(told: Answering) -> None:
    told.will(404, "BlobNotFound")
    store = opened(told.endpoint)
    assert store.exists("t/x") is False
    assert store.read_many(["t/x"]) == {}
    store.remove("t/x")
    with pytest.raises(PersistenceDataNotFoundException, match="az://tasks/jobs/t/x"):
        store.read("t/x")
    for name in ("swap", "remove_if"):
        with pytest.raises(VersionConflictException):
            OPERATIONS[name](store)
    for name in ("create", "write", "list"):
        with pytest.raises(StorageUnavailableException):
            OPERATIONS[name](store)


def test_a_blob_that_is_leased_by_somebody_is_no_conflict(server: Recorded, store: AzureTaskIO) -> None:
    version = store.write("x", b"1")
    with ContainerClient.from_connection_string(connection_string(server.endpoint), "tasks") as container:
        lease = container.get_blob_client(f"{store.prefix}x").acquire_lease()
        for request in (lambda: store.write("x", b"2", expect=version), lambda: store.remove("x")):
            with pytest.raises(StorageUnavailableException, match="Azure lease"):
                request()
        lease.release()
    assert store.read("x").data == b"1"


def test_a_server_without_conditional_requests_is_refused(told: Answering) -> None:
    told.will(501, "NotImplemented")
    store = opened(told.endpoint)
    for name in CONDITIONAL:
        with pytest.raises(UnsupportedBackendException, match="conditional"):
            OPERATIONS[name](store)


def test_a_server_without_etags_is_refused(told: Answering) -> None:
    told.will(201)
    with pytest.raises(UnsupportedBackendException, match="ETag"):
        opened(told.endpoint).write("t/x", b"1")


def test_etags_are_versions_however_they_are_quoted(told: Answering) -> None:
    told.will(201, ETag="abc")
    told.will(201, ETag='"abc"')
    store = opened(told.endpoint)
    assert store.write("t/x", b"1") == store.write("t/x", b"1") == "abc"


def test_a_transient_503_is_survived(told: Answering) -> None:
    told.will(503, "ServerBusy")
    told.will(200, body=b"body", ETag='"v"')
    assert opened(told.endpoint, client_kwargs={}).read("t/x").data == b"body"
    assert len(told.requests) == 2


def test_an_overloaded_service_is_asked_three_times(told: Answering) -> None:
    told.will(503, "ServerBusy")
    body = b"x" * (2 << 20)
    with pytest.raises(StorageUnavailableException):
        opened(told.endpoint, client_kwargs={}).write("t/x", body)
    # Each time the whole of it, though it is read from a file.
    assert [request.headers["content-length"] for request in told.requests] == [str(len(body))] * 3


def test_one_failed_read_of_many_fails_them_all_and_leaves_none_running(told: Answering) -> None:
    told.will(404, "BlobNotFound")
    told.will(403, "AuthorizationFailure")
    with pytest.raises(StorageUnavailableException, match="az://tasks/jobs/t"):
        opened(told.endpoint).read_many([f"t/{n}" for n in range(100)])


# Nobody answers


def closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
    return port


def test_a_refused_connection_is_unavailability() -> None:
    store = opened(f"http://127.0.0.1:{closed_port()}/{ACCOUNT}")
    for operation in OPERATIONS.values():
        with pytest.raises(StorageUnavailableException, match="did not answer") as caught:
            operation(store)
        assert "az://tasks/jobs" in str(caught.value)


def test_a_silent_endpoint_is_given_up(server: Recorded) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = opened(
            f"http://127.0.0.1:{silent.getsockname()[1]}/{ACCOUNT}",
            client_kwargs={"read_timeout": 0.1, "retry_total": 1},
        )
        with pytest.raises(StorageUnavailableException, match="did not answer"):
            store.read("t/x")
    # What bounds the wait by default: three attempts, two seconds apart at most, and short timeouts.
    config: Any = opened(server.endpoint, client_kwargs={})._make_filesystem().container._config
    timeouts = config.transport.connection_config
    assert (timeouts.timeout, timeouts.read_timeout) == (2, 10)
    assert config.retry_policy.total_retries == 2
    waits = [config.retry_policy.get_backoff_time({"count": n}) for n in (1, 2) for _ in range(100)]
    assert max(waits) <= 2


def test_an_account_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_address(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    store = open_task_io("az://tasks/jobs?account_name=nobody", account_key=KEY, **ONCE)
    with pytest.raises(StorageUnavailableException, match="no host for the account 'nobody'"):
        store.read("x")


def test_a_connection_cut_in_the_body_is_unavailability() -> None:
    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "v"\r\nContent-Length: 1000\r\n\r\nhalf')

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with pytest.raises(StorageUnavailableException) as caught:
            opened(f"http://127.0.0.1:{listening.getsockname()[1]}/{ACCOUNT}").read("t/x")
        thread.join()
    assert caught.value.__cause__ is not None


# Credentials


def by_options(secure: Secure, **options: Any) -> AzureTaskIO:
    return AzureTaskIO.from_base_url(
        "az://tasks/jobs",
        account_name=ACCOUNT,
        account_host=secure.host,
        **{"client_kwargs": {"connection_verify": secure.authority, "retry_total": 0}, **options},
    )


def sas(**permissions: bool) -> str:
    token: str = generate_account_sas(
        ACCOUNT,
        KEY,
        ResourceTypes(object=True, container=True),
        AccountSasPermissions(**permissions),
        datetime.now(UTC) + timedelta(hours=1),
    )
    return token


ALL = {"read": True, "write": True, "delete": True, "list": True, "create": True, "add": True}
WAYS_IN: dict[str, Callable[[], dict[str, Any]]] = {
    "key": lambda: {"account_key": KEY},
    "SAS": lambda: {"sas_token": sas(**ALL)},
    "SAS with a question mark": lambda: {"sas_token": f"?{sas(**ALL)}"},
    "credential": lambda: {"credential": Token()},
    "credential that is a key": lambda: {"credential": KEY},
}


@pytest.mark.parametrize("way", WAYS_IN)
def test_every_kind_of_credential_opens_the_store(secure: Secure, way: str) -> None:
    name = uuid4().hex
    with_it = by_options(secure, **WAYS_IN[way]())
    version = with_it.write(name, b"1", expect=ABSENT)
    assert with_it.read(name).version == version
    assert [info.name for info in with_it.list(name)] == [name]
    with_it.remove(name, expect=version)
    assert not with_it.exists(name)


def test_the_default_credential_is_asked_where_there_is_no_other(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Token] = []

    def default(**_: Any) -> Token:
        made.append(Token())
        return made[0]

    monkeypatch.setattr("azure.identity.aio.DefaultAzureCredential", default)
    store = by_options(secure)
    store.write("by-default", b"1")
    assert len(made) == 1
    store._filesystem = None
    gc.collect()
    assert made[0].is_closed


def test_a_credential_of_the_caller_is_not_closed(secure: Secure) -> None:
    token = Token()
    store = by_options(secure, credential=token)
    store.write("by-token", b"1")
    store._filesystem = None
    gc.collect()
    assert not token.is_closed


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CONNECTION_STRING", connection_string("http://127.0.0.1:9/devstoreaccount1")),
        ("ACCOUNT_KEY", "bm90IHRoZSBrZXk="),
        ("SAS_TOKEN", SAS),
    ],
)
@pytest.mark.parametrize("way", WAYS_IN)
def test_an_option_wins_over_the_environment(
    secure: Secure, monkeypatch: pytest.MonkeyPatch, way: str, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"AZURE_STORAGE_{variable}", value)
    by_options(secure, **WAYS_IN[way]()).write("x", b"1")


def test_the_environment_is_read_where_there_is_no_option(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", sas(**ALL))
    by_options(secure).write("x", b"1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    by_options(secure).write("x", b"1")


def test_an_anonymous_client_signs_nothing(secure: Secure) -> None:
    with pytest.raises(StorageUnavailableException, match="the request was anonymous"):
        by_options(secure, anon=True).read("x")


def test_a_sas_that_lacks_a_permission_is_told_which(secure: Secure) -> None:
    store = by_options(secure, sas_token=sas(read=True))
    for name, operation in OPERATIONS.items():
        if name not in ("exists", "read", "read_many"):
            with pytest.raises(StorageUnavailableException) as caught:
                operation(store)
            assert f"a SAS with the permission {RIGHTS[name][1]} on" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"account_key": "bm90IHRoZSBrZXk="}, "the account key belongs to the account|network rules"),
        ({"account_key": "abc"}, "no usable Azure credentials"),
        ({}, "no usable Azure credentials were found.*AZURE_STORAGE_CONNECTION_STRING"),
    ],
)
def test_credentials_that_are_no_good_say_what_to_do(
    secure: Secure, options: dict[str, str], hint: str
) -> None:
    with pytest.raises(StorageUnavailableException, match=hint):
        by_options(secure, **options).read("x")


def test_an_untrusted_certificate_is_named_as_the_cause(secure: Secure) -> None:
    with pytest.raises(StorageUnavailableException, match="certificate is not trusted"):
        by_options(secure, account_key=KEY, **ONCE).read("x")


@pytest.mark.parametrize("options", [{}, {"connection_string": "no; connection=string"}])
def test_without_an_account_nothing_is_opened(options: dict[str, str]) -> None:
    store = AzureTaskIO.from_base_url("az://tasks/jobs", **options)
    for operation in OPERATIONS.values():
        with pytest.raises(StorageUnavailableException, match="AZURE_STORAGE_ACCOUNT_NAME"):
            operation(store)
    with pytest.raises(StorageUnavailableException, match="AZURE_STORAGE_ACCOUNT_NAME"):
        _ = store.probe_scope


def test_a_url_of_one_account_is_not_opened_with_the_connection_string_of_another(
    server: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(server.endpoint))
    store = open_task_io("abfss://tasks@another.dfs.core.windows.net/jobs")
    with pytest.raises(UnsupportedBackendException, match=r"'another'.*for 'devstoreaccount1'"):
        store.read("x")
    AzureTaskIO.from_base_url(f"az://tasks@{ACCOUNT}.blob.core.windows.net/jobs").write("x", b"1")


def test_a_secret_is_nowhere_to_be_seen(
    told: Answering, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    silent = socket.create_server(("127.0.0.1", 0))
    # Its queue is full, so that connecting takes too long: aiohttp then tells the whole URL.
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    queued = [socket.socket() for _ in range(3)]
    for connection in queued:
        connection.setblocking(False)
        connection.connect_ex(full.getsockname())
    ports = closed_port(), silent.getsockname()[1], full.getsockname()[1]
    endpoints = [told.endpoint, *(f"http://127.0.0.1:{port}/{ACCOUNT}" for port in ports)]
    told.will(403, "AuthenticationFailed")
    shown: list[str] = []
    hurry = {"retry_total": 0, "read_timeout": 0.05, "connection_timeout": 0.05, "logging_enable": True}
    with ExitStack() as sockets:
        for opened_socket in (silent, full, *queued):
            sockets.enter_context(opened_socket)
        for way, endpoint in product((opened, opened_by_sas), endpoints):
            store = way(endpoint, client_kwargs=hurry)
            shown += [repr(store), str(store), store.base_url, store.build_url("x"), str(store.probe_scope)]
            for operation in OPERATIONS.values():
                with pytest.raises(TaskIOException) as caught:
                    operation(store)
                shown += traceback.format_exception(caught.value, chain=True)
                shown += [repr(error) for error in _chain(caught.value)]
    assert any("did not answer" in text for text in shown)
    assert any("Connection timeout to host" in text for text in shown)
    shown += [record.getMessage() for record in caplog.records]
    shown += [str(record.__dict__) for record in caplog.records]
    shown += capfd.readouterr()
    assert len(caplog.records) > 10, "the SDK's log was seen"
    signed = [request.headers.get("authorization", "").rpartition(":")[2] for request in told.requests]
    secrets = {KEY, SIGNATURE, unquote(SIGNATURE), *signed} - {""}
    assert len(secrets) > 5
    for text in shown:
        for secret in secrets:
            assert secret not in text


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_a_malformed_secret_is_not_shown_either(server: Recorded) -> None:
    for bad in (
        KEY,
        f"AccountKey={KEY}",
        f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=http://[::1",
        f"BlobEndpoint=http://127.0.0.1:port/{ACCOUNT}?{SAS}",
        f"BlobEndpoint=?{SAS}",
    ):
        with pytest.raises(TaskIOException) as caught:
            opened(server.endpoint, connection_string=bad).read("x")
        for text in traceback.format_exception(caught.value):
            assert KEY not in text
            assert SIGNATURE not in text


def test_what_is_stored_holds_no_secret(server: Recorded, store: AzureTaskIO) -> None:
    store.write("x", b"1")
    with ContainerClient.from_connection_string(connection_string(server.endpoint), "tasks") as container:
        properties = container.get_blob_client(f"{store.prefix}x").get_blob_properties()
        assert properties.metadata == {}
        assert KEY not in str(dict(properties))


# The ends of clients


def test_the_default_credential_ends_in_silence() -> None:
    source = """
import logging, os
from checkmate_core.errors import StorageUnavailableException
from checkmate_io_azure.azure import AzureTaskIO
# Without a handler of the test's, what the SDK logs of it would go to stderr.
logging.disable()
os.environ["AZURE_TOKEN_CREDENTIALS"] = "EnvironmentCredential"
try: AzureTaskIO.from_base_url("az://tasks/jobs", account_name="nobody").read("x")
except StorageUnavailableException: pass
else: raise AssertionError
"""
    with script(source) as other:
        assert other.end() == ""
