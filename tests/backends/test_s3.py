"""What is particular to `s3://`: requests, answers, credentials."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import pytest

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.registry import open_task_io
from checkmate_core.types import ABSENT, Version
from checkmate_io_s3.s3 import S3TaskIO
from tests.backends.s3_servers import Answering, Moto, answering, moto

KEY = "AKIASECRETKEY"
SECRET = "verysecretsecret"
TOKEN = "verysecrettoken"

Operation = Callable[[S3TaskIO], Any]
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


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    with moto() as running:
        running.make_bucket("tasks")
        yield running


@pytest.fixture
def store(server: Moto) -> S3TaskIO:
    return opened(server.endpoint, f"s3://tasks/{uuid4()}")


@pytest.fixture
def told() -> Iterator[Answering]:
    with answering() as running:
        yield running


def opened(endpoint: str, url: str = "s3://tasks/jobs", **options: Any) -> S3TaskIO:
    once = {
        "config_kwargs": {"retries": {"total_max_attempts": 1}},
        "key": KEY,
        "secret": SECRET,
        "token": TOKEN,
    }
    return S3TaskIO.from_base_url(url, endpoint_url=endpoint, region="us-east-1", **(once | options))


# URLs and options


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///jobs",
        "s3://a",
        "s3://b ucket/x",
        "s3://tasks//x",
        "s3://tasks/a/../b",
        "s3://tasks/\\",
    ],
)
def test_a_url_without_a_usable_bucket_or_path_is_refused(url: str) -> None:
    with pytest.raises(UnsupportedBackendException, match="s3://BUCKET/PATH"):
        open_task_io(url)


def test_options_may_stand_in_the_url_and_are_not_shown(server: Moto) -> None:
    store = open_task_io(
        f"s3://tasks/a b/?endpoint_url={server.endpoint}&region=us-east-1&addressing_style=path",
        key=KEY,
        secret=SECRET,
    )
    assert store.base_url == "s3://tasks/a b"
    assert store.build_url("t/ü") == "s3://tasks/a b/t/ü"
    server.requests.clear()
    store.write("t/x", b"1")
    assert server.requests == ["PUT /tasks/a b/t/x"]
    store.remove("t/x")


def test_a_bucket_itself_may_be_the_base(server: Moto) -> None:
    server.make_bucket("whole-bucket")
    store = opened(server.endpoint, "s3://whole-bucket/")
    assert store.base_url == "s3://whole-bucket"
    store.write("x", b"1")
    server.put("whole-bucket", "not//an/object", b"")
    assert [info.name for info in store.list()] == ["x"]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"acl": "public"}, "does not take the option 'acl'.*endpoint_url.*secret"),
        ({"anon": "yes"}, "'anon' must be of type bool"),
        ({"client_kwargs": []}, "'client_kwargs' must be of type dict"),
        ({"secret": b"verysecretsecret"}, "'secret' must be of type str"),
        ({"addressing_style": "odd"}, "auto, path or virtual"),
        ({"endpoint_url": "localhost:9000"}, "http://HOST"),
        ({"endpoint_url": "http://me:verysecretsecret@host"}, "credentials"),
    ],
)
def test_wrong_options_are_refused_at_opening(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(UnsupportedBackendException, match=hint) as caught:
        S3TaskIO.from_base_url("s3://tasks/jobs", **options)
    assert SECRET not in str(caught.value)


def test_a_secret_does_not_belong_in_the_url() -> None:
    for name in ("key", "secret", "token", "client_kwargs"):
        with pytest.raises(UnsupportedBackendException) as caught:
            open_task_io(f"s3://tasks/jobs?{name}={SECRET}")
        assert SECRET not in str(caught.value)


# Requests


def test_every_operation_is_one_request(server: Moto, store: S3TaskIO) -> None:
    def requests(operation: Callable[[], Any]) -> list[str]:
        server.requests.clear()
        with suppress(VersionConflictException, PersistenceDataNotFoundException):
            operation()
        return [request.partition(" ")[0] for request in server.requests]

    stale = Version("0" * 32)
    assert requests(lambda: store.exists("x")) == ["GET"]
    assert requests(lambda: store.read("x")) == ["GET"]
    assert requests(lambda: store.write("x", b"1", expect=stale)) == ["PUT"]
    assert requests(lambda: store.write("x", b"1", expect=ABSENT)) == ["PUT"]
    assert requests(lambda: store.write("x", b"1", expect=ABSENT)) == ["PUT"]
    assert requests(lambda: store.write("x", b"1", expect=stale)) == ["PUT"]
    assert requests(lambda: store.write("x", b"2", expect=store.write("x", b"3"))) == ["PUT", "PUT"]
    assert requests(lambda: store.exists("x")) == ["GET"]
    assert requests(lambda: store.read_many(["x", "y", "z"])) == ["GET"] * 3
    assert requests(lambda: list(store.list())) == ["GET"]
    assert requests(lambda: store.remove("x", expect=stale)) == ["DELETE"]
    assert requests(lambda: store.remove("x")) == ["DELETE"]
    assert requests(lambda: store.remove("x")) == ["DELETE"]
    assert requests(lambda: store.read_many([])) == []


def test_an_empty_object_exists(store: S3TaskIO) -> None:
    store.write("x", b"")
    assert store.exists("x")
    assert store.read("x").data == b""


def test_a_listing_asks_for_a_page_when_it_is_needed(server: Moto, store: S3TaskIO) -> None:
    for n in range(2001):
        server.put("tasks", f"{store.prefix}t/{n:04d}", b"1")
    server.requests.clear()
    listing = store.list("t/")
    assert server.requests == []
    names = [next(listing).name for _ in range(1000)]
    assert len(server.requests) == 1
    names += [info.name for info in listing]
    assert len(server.requests) == 3
    assert names == [f"t/{n:04d}" for n in range(2001)]
    assert [info.name for info in store.list("t/2")] == ["t/2000"]


def test_no_cache_answers_for_the_store(server: Moto, store: S3TaskIO) -> None:
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


def test_versions_agree_between_write_read_and_list(store: S3TaskIO) -> None:
    version = store.write("x", b"1", expect=ABSENT)
    assert store.read("x").version == version
    assert [info.version for info in store.list()] == [version]


def test_age_is_by_the_stores_clock(told: Answering) -> None:
    # Long ago by this host's clock; the store's own is what counts.
    now = datetime(2001, 1, 1, 12, tzinfo=UTC)
    told.will(200, "<1>", Date=_http(now), Last_Modified=_http(now - timedelta(seconds=90)))
    told.will(200, "<2>", Date=_http(now), Last_Modified=_http(now + timedelta(seconds=90)))
    told.will(200, "<3>", Last_Modified=_http(now))
    told.will(200, "<4>", Date=_http(now))
    told.will(200, "<5>", Date="soon", Last_Modified=_http(now))
    for _, _, headers in told.answers:
        headers["ETag"] = '"v"'
    store = opened(told.endpoint)
    assert [store.read("x").age for _ in range(5)] == [90.0, 0.0, None, None, None]


def _http(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


# Endpoints


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"region": "eu-west-1"},
        {"region": "cn-north-1"},
        {"endpoint_url": "https://vpce-1.s3.eu-west-1.vpce.amazonaws.com"},
    ],
)
def test_amazons_own_endpoint_needs_no_probe(options: dict[str, str]) -> None:
    assert S3TaskIO.from_base_url("s3://tasks/jobs", **options).probe_scope is None


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:9000", "minio", "s3.amazonaws.com.example.org", "notamazonaws.com", "amazonaws.com.example"],
)
def test_any_other_endpoint_does_wherever_it_is_set(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, url = f"http://{host}", "s3://tasks/jobs"
    option = S3TaskIO.from_base_url(url, endpoint_url=endpoint)
    client = S3TaskIO.from_base_url(url, client_kwargs={"endpoint_url": endpoint})
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{KEY}:{SECRET}@{host}")
    environment = S3TaskIO.from_base_url(url)
    assert option.probe_scope == client.probe_scope == environment.probe_scope == f"{endpoint} tasks"


# Answers


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "AccessDenied", "grant these credentials s3:"),
        (403, "InvalidAccessKeyId", "access key is unknown"),
        (403, "SignatureDoesNotMatch", "secret does not belong"),
        (400, "ExpiredToken", "token has run out"),
        (403, "RequestTimeTooSkewed", "clock"),
        (403, None, "AccessDenied"),
        (404, "NoSuchBucket", "no bucket 'tasks'. Create it"),
        (404, "<html>no S3 here</html>", "endpoint_url"),
        (409, "ConditionalRequestConflict", "send it again"),
        (409, "OperationAborted", "send it again"),
        (500, "InternalError", "status"),
        (503, "SlowDown", "fewer requests"),
        (503, None, "fewer requests"),
        (507, "XMinioStorageFull", "disk is full"),
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
        assert "s3://tasks/jobs" in message
        assert caught.value.__cause__ is not None
        assert not any(secret in message for secret in (KEY, SECRET, TOKEN, told.endpoint))


OBJECTS = "arn:aws:s3:::tasks/jobs/*"


@pytest.mark.parametrize("code", ["AccessDenied", None])
@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        *[(name, f"s3:GetObject on {OBJECTS}") for name in ("exists", "read", "read_many")],
        *[(name, "s3:ListBucket on arn:aws:s3:::tasks") for name in ("exists", "read", "read_many", "list")],
        *[(name, f"s3:PutObject on {OBJECTS}") for name in ("write", "create", "swap")],
        *[(name, f"s3:DeleteObject on {OBJECTS}") for name in ("remove", "remove_if")],
    ],
)
def test_a_forbidden_operation_names_the_permission_that_it_lacks(
    told: Answering, operation: str, permission: str, code: str | None
) -> None:
    told.will(403, code)
    with pytest.raises(StorageUnavailableException) as caught:
        OPERATIONS[operation](opened(told.endpoint))
    message = str(caught.value)
    assert permission in message
    named = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"} & {*message.split()}
    assert len(named) == (operation != "list"), message


@pytest.mark.parametrize("code", ["PreconditionFailed", None, "<html>"])
def test_a_failed_precondition_is_a_conflict(told: Answering, code: str | None) -> None:
    told.will(412, code)
    store = opened(told.endpoint)
    for name in CONDITIONAL:
        with pytest.raises(VersionConflictException, match="s3://tasks/jobs/t/x") as caught:
            OPERATIONS[name](store)
        assert caught.value.__cause__ is not None


def test_a_missing_key_means_what_the_operation_makes_of_it(told: Answering) -> None:
    told.will(404, "NoSuchKey")
    store = opened(told.endpoint)
    assert store.exists("t/x") is False
    assert store.read_many(["t/x"]) == {}
    store.remove("t/x")
    with pytest.raises(PersistenceDataNotFoundException, match="s3://tasks/jobs/t/x"):
        store.read("t/x")
    for name in ("swap", "remove_if"):
        with pytest.raises(VersionConflictException):
            OPERATIONS[name](store)
    with pytest.raises(StorageUnavailableException):
        OPERATIONS["create"](store)


def test_a_server_without_conditional_requests_is_refused(told: Answering) -> None:
    told.will(501, "NotImplemented")
    store = opened(told.endpoint)
    for name in CONDITIONAL:
        with pytest.raises(UnsupportedBackendException, match="conditional"):
            OPERATIONS[name](store)


def test_a_server_without_etags_is_refused(told: Answering) -> None:
    told.will(200)
    with pytest.raises(UnsupportedBackendException, match="ETag"):
        opened(told.endpoint).write("t/x", b"1")


def test_etags_are_versions_however_they_are_quoted(told: Answering) -> None:
    told.will(200, ETag="abc")
    told.will(200, ETag='"abc"')
    store = opened(told.endpoint)
    assert store.write("t/x", b"1") == store.write("t/x", b"1") == "abc"


def test_a_transient_503_is_survived(told: Answering) -> None:
    told.will(503, "SlowDown")
    told.will(200, "<body>", ETag='"v"')
    store = opened(told.endpoint, config_kwargs={})
    assert store.read("t/x").data == b"<body>"
    assert len(told.requests) == 2


def test_an_overloaded_service_is_asked_three_times(told: Answering) -> None:
    told.will(503, "SlowDown")
    with pytest.raises(StorageUnavailableException):
        opened(told.endpoint, config_kwargs={}).write("t/x", b"1")
    assert len(told.requests) == 3


def test_one_failed_read_of_many_fails_them_all_and_leaves_none_running(told: Answering) -> None:
    told.will(404, "NoSuchKey")
    told.will(403, "AccessDenied")
    with pytest.raises(StorageUnavailableException, match="s3://tasks/jobs/t"):
        opened(told.endpoint).read_many([f"t/{n}" for n in range(100)])


# Nobody answers


def test_a_refused_connection_is_unavailability() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        store = opened(f"http://127.0.0.1:{closed.getsockname()[1]}")
        for operation in OPERATIONS.values():
            with pytest.raises(StorageUnavailableException, match="endpoint_url") as caught:
                operation(store)
            assert "s3://tasks/jobs" in str(caught.value)


def test_a_silent_endpoint_is_given_up(server: Moto) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = opened(
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            config_kwargs={"read_timeout": 0.1, "retries": {"total_max_attempts": 2}},
        )
        with pytest.raises(StorageUnavailableException, match="did not answer"):
            store.read("t/x")
    settings = opened(server.endpoint, config_kwargs={})._make_filesystem()
    # What bounds the wait: no attempts of s3fs on top of the SDK's, and short timeouts.
    config = settings.s3.meta.config
    assert settings.retries == 1
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
    assert (config.connect_timeout, config.read_timeout) == (2, 10)


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
            opened(f"http://127.0.0.1:{listening.getsockname()[1]}").read("t/x")
        thread.join()
    assert caught.value.__cause__ is not None


# Credentials


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.mark.usefixtures("no_credentials")
def test_missing_credentials_say_where_to_put_them(server: Moto) -> None:
    store = opened(server.endpoint, key=None, secret=None, token=None)
    with pytest.raises(StorageUnavailableException, match="AWS_ACCESS_KEY_ID"):
        store.read("t/x")


@pytest.mark.usefixtures("no_credentials")
def test_an_unknown_profile_is_named_as_the_cause(server: Moto) -> None:
    store = opened(server.endpoint, key=None, secret=None, token=None, profile="nobody")
    with pytest.raises(StorageUnavailableException, match="profile"):
        store.read("t/x")


@pytest.mark.usefixtures("no_credentials")
def test_an_anonymous_client_needs_none_and_signs_nothing(told: Answering) -> None:
    told.will(200, "<body>", ETag='"v"')
    store = opened(told.endpoint, key=None, secret=None, token=None, anon=True)
    assert store.read("x").data == b"<body>"
    assert told.signatures == [""]


def test_a_secret_is_nowhere_to_be_seen(told: Answering) -> None:
    told.will(403, "InvalidAccessKeyId")
    store = opened(told.endpoint)
    shown = [repr(store), str(store), store.base_url, store.build_url("x")]
    for operation in OPERATIONS.values():
        with pytest.raises(TaskIOException) as caught:
            operation(store)
        shown += [str(caught.value), repr(caught.value)]
    for text in shown:
        assert not any(secret in text for secret in (KEY, SECRET, TOKEN))
