"""What is particular to `gs://`: requests, answers, the rate limit, credentials."""

import gc
import json
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import google.auth
import google.auth.credentials
import google.auth.exceptions
import pytest
from aiohttp import ClientSession, ClientTimeout

from checkmate.testing._gcs import fake_gcs_server, make_bucket
from checkmate.testing._gcs_proxy import GcsProxy
from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.cas import CasWriter
from checkmate_core.io.registry import open_task_io
from checkmate_core.types import ABSENT, Version
from checkmate_io_gcs.gcs import GCSTaskIO
from tests.backends.gcs_servers import Answering, answering

TOKEN = "ya29.verysecrettoken"

Operation = Callable[[GCSTaskIO], Any]
OPERATIONS: dict[str, Operation] = {
    "exists": lambda s: s.exists("t/x"),
    "read": lambda s: s.read("t/x"),
    "read_many": lambda s: s.read_many(["t/x", "t/y"]),
    "list": lambda s: list(s.list()),
    "write": lambda s: s.write("t/x", b"1"),
    "create": lambda s: s.write("t/x", b"1", expect=ABSENT),
    "swap": lambda s: s.write("t/x", b"1", expect=Version("7")),
    "remove": lambda s: s.remove("t/x"),
    "remove_if": lambda s: s.remove("t/x", expect=Version("7")),
}
CONDITIONAL = ("create", "swap", "remove_if")
WRITING = ("write", "create", "swap")


@pytest.fixture
def store(checkmate_gcs_url: str) -> GCSTaskIO:
    return opened(*reversed(checkmate_gcs_url.split("?endpoint_url=")))


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Method and path of each request to the emulator."""
    seen: list[str] = []
    monkeypatch.setattr(GcsProxy, "note", lambda _, request: seen.append(request.split(b" HTTP")[0].decode()))
    return seen


@pytest.fixture
def told() -> Iterator[Answering]:
    with answering() as running:
        yield running


def opened(endpoint: str, url: str = "gs://tasks/jobs", **options: Any) -> GCSTaskIO:
    return GCSTaskIO.from_base_url(url, endpoint_url=endpoint, **({"token": TOKEN} | options))


class Clock:
    """Sleeps without waiting."""

    def __init__(self, store: GCSTaskIO) -> None:
        self.slept: list[float] = []
        store._sleep = self.sleep

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def impatient(endpoint: str, **options: Any) -> GCSTaskIO:
    store = opened(endpoint, **options)
    Clock(store)
    return store


# URLs and options


@pytest.mark.parametrize(
    "url",
    [
        "gs://",
        "gs:///jobs",
        "gs://a",
        "gs://b ucket/x",
        "gs://tasks//x",
        "gs://tasks/a/../b",
        "gcs://tasks/\\",
    ],
)
def test_a_url_without_a_usable_bucket_or_path_is_refused(url: str) -> None:
    with pytest.raises(UnsupportedBackendException, match="gs://BUCKET/PATH"):
        open_task_io(url)


def test_both_schemes_name_the_same_store(checkmate_gcs_url: str) -> None:
    one = open_task_io(checkmate_gcs_url)
    other = open_task_io(checkmate_gcs_url.replace("gs://", "gcs://"))
    assert other.base_url == one.base_url
    assert other.build_url("t/ü") == f"{one.base_url}/t/ü"
    one.write("t/x", b"1")
    assert other.read("t/x").data == b"1"


def test_a_bucket_itself_may_be_the_base(checkmate_gcs_server: str) -> None:
    bucket = f"whole-{uuid4().hex}"
    make_bucket(checkmate_gcs_server, bucket)
    store = opened(checkmate_gcs_server, f"gs://{bucket}/")
    assert store.base_url == f"gs://{bucket}"
    store.write("x", b"1")
    ask(
        checkmate_gcs_server,
        "POST",
        f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=not%2F%2Fan",
        b"",
    )
    assert [info.name for info in store.list()] == ["x"]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"acl": "public"}, "does not take the option 'acl'.*endpoint_url.*token"),
        ({"token": 7}, "'token' must be of type str or dict or Credentials, not int"),
        ({"token": "browser"}, "no longer"),
        ({"token": "ya29.verysecrettoken.json"}, "file that is not there"),
        ({"token": "/no/such/key"}, "file that is not there"),
        ({"requester_pays": 1.5}, "'requester_pays' must be of type bool or str"),
        ({"session_kwargs": []}, "'session_kwargs' must be of type dict"),
        ({"project": b"p"}, "'project' must be of type str"),
        ({"endpoint_url": "localhost:9000"}, "http://HOST"),
        ({"endpoint_url": "http://host/storage"}, "http://HOST"),
        ({"endpoint_url": "http://me:ya29.verysecrettoken@host"}, "credentials"),
    ],
)
def test_wrong_options_are_refused_at_opening(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(UnsupportedBackendException, match=hint) as caught:
        GCSTaskIO.from_base_url("gs://tasks/jobs", **options)
    assert TOKEN not in str(caught.value)


def test_a_secret_does_not_belong_in_the_url() -> None:
    with pytest.raises(UnsupportedBackendException) as caught:
        open_task_io(f"gs://tasks/jobs?token={TOKEN}")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "payer"),
    [
        ({}, None),
        ({"requester_pays": "one-project"}, "one-project"),
        ({"requester_pays": True, "project": "a-project"}, "a-project"),
        ({"project": "a-project"}, None),
    ],
)
def test_a_requester_who_pays_is_named_in_each_request(
    told: Answering, options: dict[str, Any], payer: str | None
) -> None:
    told.will_say(200, generation="7")
    store = opened(told.endpoint, **options)
    OPERATIONS["write"](store)
    OPERATIONS["remove"](store)
    OPERATIONS["exists"](store)
    OPERATIONS["list"](store)
    assert [request.query.get("userProject") for request in told.requests] == [payer] * 4


# Requests


@pytest.mark.parametrize(
    ("operation", "condition"),
    [("write", None), ("create", "0"), ("swap", "7"), ("remove", None), ("remove_if", "7")],
)
def test_a_condition_is_in_the_request_that_it_is_for(
    told: Answering, operation: str, condition: str | None
) -> None:
    told.will_say(200, generation="8")
    OPERATIONS[operation](opened(told.endpoint))
    (request,) = told.requests
    assert request.query.get("ifGenerationMatch") == condition
    assert set(request.query) <= {"ifGenerationMatch", "uploadType", "fields"}
    if operation in WRITING:
        assert (request.method, request.path) == ("POST", "/upload/storage/v1/b/tasks/o")
        assert request.query["uploadType"] == "multipart"
        boundary = request.headers["content-type"].removeprefix("multipart/related; boundary=").encode()
        head, name, data, tail = request.body.split(b"--" + boundary)
        assert (head, tail) == (b"", b"--")
        assert json.loads(name.partition(b"\r\n\r\n")[2]) == {"name": "jobs/t/x"}
        assert data.partition(b"\r\n\r\n")[2] == b"1\r\n"
    else:
        assert (request.method, request.path) == ("DELETE", "/storage/v1/b/tasks/o/jobs%2Ft%2Fx")


def test_the_version_is_the_generation_of_the_answer_itself(told: Answering) -> None:
    told.will_say(200, generation="1795534803397648")
    told.will(200, b"body", x_goog_generation="12")
    store = opened(told.endpoint)
    assert store.write("t/x", b"1") == "1795534803397648"
    assert store.read("t/x").version == "12"
    assert told.methods == ["POST", "GET"]


def test_what_is_no_generation_is_no_version_of_an_object(told: Answering) -> None:
    store = opened(told.endpoint)
    # 0 would be taken for "absent", and create the object.
    for version in ("0", "", "00", "abc", "-1", "7&ifGenerationMatch=0", "٣"):
        with pytest.raises(VersionConflictException, match="gs://tasks/jobs/t/x"):
            store.write("t/x", b"1", expect=Version(version))
        with pytest.raises(VersionConflictException, match="gs://tasks/jobs/t/x"):
            store.remove("t/x", expect=Version(version))
    assert told.requests == []


def test_every_operation_is_one_request(store: GCSTaskIO, emulated: list[str]) -> None:
    def requests(operation: Callable[[], Any]) -> list[str]:
        emulated.clear()
        with suppress(VersionConflictException, PersistenceDataNotFoundException):
            operation()
        return [request.partition(" ")[0] for request in emulated]

    stale = Version("1")
    assert requests(lambda: store.exists("x")) == ["GET"]
    assert requests(lambda: store.read("x")) == ["GET"]
    assert requests(lambda: store.write("x", b"1", expect=stale)) == ["POST"]
    assert requests(lambda: store.write("x", b"1", expect=ABSENT)) == ["POST"]
    assert requests(lambda: store.write("x", b"1", expect=ABSENT)) == ["POST"]
    assert requests(lambda: store.write("x", b"1", expect=stale)) == ["POST"]
    assert requests(lambda: store.write("x", b"2", expect=store.write("x", b"3"))) == ["POST", "POST"]
    assert requests(lambda: store.exists("x")) == ["GET"]
    assert requests(lambda: store.read_many(["x", "y", "z"])) == ["GET"] * 3
    assert requests(lambda: list(store.list())) == ["GET"]
    assert requests(lambda: store.remove("x", expect=stale)) == ["DELETE"]
    assert requests(lambda: store.remove("x")) == ["DELETE"]
    assert requests(lambda: store.remove("x")) == ["DELETE"]
    assert requests(lambda: store.read_many([])) == []


def test_a_listing_asks_for_a_page_when_it_is_needed(told: Answering) -> None:
    def page(first: int, count: int) -> list[dict[str, str]]:
        return [
            {
                "name": f"jobs/t/{n:04d}",
                "generation": str(n + 1),
                "size": "1",
                "updated": "2026-11-24T15:40:03.5Z",
            }
            for n in range(first, first + count)
        ]

    told.will_say(200, items=page(0, 1000), nextPageToken="a+/=&")
    told.will_say(200, nextPageToken="b")  # a page may be empty
    told.will_say(200, items=page(1000, 2))
    listing = opened(told.endpoint).list("t/ü&")
    assert told.requests == []
    infos = [next(listing) for _ in range(1000)]
    assert len(told.requests) == 1
    infos += listing
    assert [info.name for info in infos] == [f"t/{n:04d}" for n in range(1002)]
    assert infos[1001].version == "1002"
    assert infos[1001].modified == datetime(2026, 11, 24, 15, 40, 3, 500_000, tzinfo=UTC)
    assert [request.query.get("pageToken") for request in told.requests] == [None, "a+/=&", "b"]
    assert {request.query["prefix"] for request in told.requests} == {"jobs/t/ü&"}
    assert {request.query["maxResults"] for request in told.requests} == {"1000"}


def test_no_cache_answers_for_the_store(store: GCSTaskIO, checkmate_gcs_server: str) -> None:
    other = opened(checkmate_gcs_server, store.base_url)
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


def test_versions_agree_between_write_read_and_list(store: GCSTaskIO) -> None:
    version = store.write("x", b"1", expect=ABSENT)
    assert store.read("x").version == version
    assert [info.version for info in store.list()] == [version]


def test_a_large_body_arrives_whole_and_again_where_the_first_was_lost(told: Answering) -> None:
    told.will(503)
    told.will_say(200, generation="7")
    data = bytes(range(256)) * 8192
    impatient(told.endpoint).write("t/x", data)
    assert len(told.requests) == 2
    assert all(data in request.body for request in told.requests)


def test_age_is_by_the_stores_clock(told: Answering) -> None:
    # Long ago by this host's clock; the store's own is what counts.
    now = datetime(2001, 1, 1, 12, tzinfo=UTC)
    told.will(200, Date=_http(now), Last_Modified=_http(now - timedelta(seconds=90)))
    told.will(200, Date=_http(now), Last_Modified=_http(now + timedelta(seconds=90)))
    told.will(200, Last_Modified=_http(now))
    told.will(200, Date=_http(now))
    told.will(200, Date="soon", Last_Modified=_http(now))
    for _, _, headers in told.answers:
        headers["X-Goog-Generation"] = "7"
    store = opened(told.endpoint)
    assert [store.read("x").age for _ in range(5)] == [90.0, 0.0, None, None, None]


def _http(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


# The emulator: what it gets wrong by itself, by the plainest requests


def ask(endpoint: str, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = HTTPConnection(endpoint.removeprefix("http://"))
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(text) if text.startswith(b"{") else text


def test_the_emulator_alone_ignores_conditions_that_the_fixture_keeps(
    checkmate_gcs_server: str, tmp_path: Path
) -> None:
    """Where this fails, the emulator was mended: then the proxy of the fixture can go."""
    bucket = f"faults-{uuid4().hex}"
    objects = f"/storage/v1/b/{bucket}/o"
    media = f"/upload{objects}?uploadType=media&name=x"
    with fake_gcs_server(tmp_path / "log", "http://127.0.0.1") as port:
        alone = f"http://127.0.0.1:{port}"
        for endpoint in (alone, checkmate_gcs_server):
            make_bucket(endpoint, bucket)
            assert ask(endpoint, "POST", media, b"first")[0] == 200
        assert ask(alone, "DELETE", f"{objects}/x?ifGenerationMatch=1")[0] == 200
        assert ask(alone, "GET", f"{objects}/x")[0] == 404
        assert ask(checkmate_gcs_server, "DELETE", f"{objects}/x?fields=y&ifGenerationMatch=1")[0] == 412
        assert ask(checkmate_gcs_server, "GET", f"{objects}/x")[0] == 200
        # An upload as media would do the same, were it used; as multipart, which is, it is honoured.
        assert ask(alone, "POST", media, b"first")[0] == 200
        assert ask(alone, "POST", f"{media}&ifGenerationMatch=1", b"second")[0] == 200
    found = ask(checkmate_gcs_server, "GET", f"{objects}/x")[1]
    assert (
        ask(checkmate_gcs_server, "DELETE", f"{objects}/x?ifGenerationMatch={found['generation']}")[0] == 200
    )
    assert ask(checkmate_gcs_server, "DELETE", f"{objects}/x?ifGenerationMatch=1")[0] == 404


# Endpoints


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"token": TOKEN},
        {"endpoint_url": "https://storage.mtls.googleapis.com"},
        {"endpoint_url": "https://storage-mine.p.googleapis.com"},
        {"endpoint_url": "https://storage.europe-west3.rep.googleapis.com/"},
    ],
)
def test_googles_own_endpoint_needs_no_probe(options: dict[str, str]) -> None:
    assert GCSTaskIO.from_base_url("gs://tasks/jobs", **options).probe_scope is None


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize(
    "host", ["127.0.0.1:4443", "gcs", "storage.googleapis.com.example.org", "notgoogleapis.com"]
)
def test_any_other_endpoint_does_wherever_it_is_set(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    option = GCSTaskIO.from_base_url("gs://tasks/jobs", endpoint_url=f"http://{host}")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
    environment = GCSTaskIO.from_base_url("gcs://tasks/jobs")
    assert option.probe_scope == environment.probe_scope == f"http://{host} tasks"


def test_an_emulator_of_the_environment_is_used(
    checkmate_gcs_url: str, checkmate_gcs_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", checkmate_gcs_server.removeprefix("http://") + "/")
    store = GCSTaskIO.from_base_url(checkmate_gcs_url.partition("?")[0])
    store.write("x", b"1")
    assert open_task_io(checkmate_gcs_url).read("x").data == b"1"


# Answers


@pytest.mark.parametrize(
    ("status", "reason", "message", "hint"),
    [
        (400, "invalid", "Invalid argument.", "1024 bytes"),
        (
            400,
            "required",
            "Bucket is a requester pays bucket but no user project provided.",
            "requester_pays=True",
        ),
        (401, "authError", "Invalid Credentials", "not valid there"),
        (403, "accountDisabled", "The billing account is disabled", "billing"),
        (403, "insufficientPermissions", "Insufficient Permission", "scope"),
        (403, "retentionPolicyNotMet", "Object is subject to bucket's retention policy", "retention policy"),
        (403, "forbidden", "denied", "grant these credentials storage.objects."),
        (404, "notFound", "The specified bucket does not exist.", "no bucket 'tasks'. Create it"),
        (404, "notFound", "What?", "endpoint_url"),
        (409, "conflict", "The object is being changed", "send it again"),
        (429, "rateLimitExceeded", "The object exceeded the rate limit for object mutation operations", ""),
        (500, "backendError", "Internal", "status"),
        (503, "backendError", "Service Unavailable", "status"),
        (301, "", "Moved", "status"),
    ],
)
def test_a_refusal_is_unavailability_with_the_fix(
    told: Answering, status: int, reason: str, message: str, hint: str
) -> None:
    told.will_refuse(status, reason, f"{message} {TOKEN}")
    store = impatient(told.endpoint)
    for operation in OPERATIONS.values():
        with pytest.raises(StorageUnavailableException) as caught:
            operation(store)
        said = str(caught.value)
        assert hint in said
        assert "gs://tasks/jobs" in said
        assert caught.value.__cause__ is not None
        assert told.endpoint not in said
        assert TOKEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("body", [b"", b"<html>404 Not Found: no bucket here</html>", b"{}", b'{"error": 1}'])
def test_a_web_server_that_is_no_gcs_does_not_look_like_an_empty_bucket(told: Answering, body: bytes) -> None:
    told.will(404, body)
    store = opened(told.endpoint)
    for operation in OPERATIONS.values():
        with pytest.raises(StorageUnavailableException, match="endpoint_url"):
            operation(store)


GET, LIST, CREATE, DELETE = (f"storage.objects.{name}" for name in ("get", "list", "create", "delete"))


@pytest.mark.parametrize(
    ("operation", "permissions"),
    [
        *[(name, {GET, LIST}) for name in ("exists", "read", "read_many")],
        *[(name, {CREATE, DELETE}) for name in WRITING],
        ("list", {LIST}),
        ("remove", {DELETE}),
        ("remove_if", {DELETE}),
    ],
)
def test_a_forbidden_operation_names_the_permission_that_it_lacks(
    told: Answering, operation: str, permissions: set[str]
) -> None:
    def named() -> set[str]:
        with pytest.raises(StorageUnavailableException, match="bucket 'tasks'") as caught:
            OPERATIONS[operation](opened(told.endpoint))
        return set(re.findall(r"storage\.objects\.[a-z]+", str(caught.value)))

    told.will_refuse(403, "forbidden", "denied")
    assert named() == permissions
    for permission in permissions:
        # The service's own word is exact.
        told.answers.clear()
        told.will_refuse(403, "forbidden", f"me@x.iam does not have {permission} access to the bucket")
        assert named() == {permission}
        told.answers.clear()
        told.will(403, f"me@x.iam does not have {permission} access to the object.".encode())
        assert named() == {permission}


def test_an_anonymous_request_that_is_refused_asks_for_credentials(told: Answering) -> None:
    told.will_refuse(401, "required", f"Anonymous caller does not have {GET} access to the object.")
    with pytest.raises(
        StorageUnavailableException, match=f"anonymous.*{GET}.*GOOGLE_APPLICATION_CREDENTIALS"
    ):
        opened(told.endpoint, token="anon").read("t/x")


def test_a_failed_precondition_is_a_conflict(told: Answering) -> None:
    told.will_refuse(412, "conditionNotMet")
    told.will(412, b"<html>")
    store = opened(told.endpoint)
    for name in CONDITIONAL * 2:
        with pytest.raises(VersionConflictException, match="gs://tasks/jobs/t/x") as caught:
            OPERATIONS[name](store)
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("message", ["No such object: tasks/jobs/bucket/x", "Not Found"])
@pytest.mark.parametrize("is_json", [True, False])
def test_a_missing_object_means_what_the_operation_makes_of_it(
    told: Answering, message: str, is_json: bool
) -> None:
    if is_json:
        told.will_refuse(404, "notFound", message)
    else:
        told.will(404, f"{message}\n".encode())
    store = opened(told.endpoint)
    assert store.exists("t/x") is False
    assert store.read_many(["t/x"]) == {}
    store.remove("t/x")
    with pytest.raises(PersistenceDataNotFoundException, match="gs://tasks/jobs/t/x"):
        store.read("t/x")
    for name in ("swap", "remove_if"):
        with pytest.raises(VersionConflictException):
            OPERATIONS[name](store)
    for name in ("create", "write", "list"):
        with pytest.raises(StorageUnavailableException, match="no bucket"):
            OPERATIONS[name](store)


def test_a_bucket_that_is_not_there_is_named(checkmate_gcs_server: str) -> None:
    store = opened(checkmate_gcs_server, "gs://no-such-bucket/jobs")
    for name in ("list", "write", "create"):
        with pytest.raises(StorageUnavailableException, match="no bucket 'no-such-bucket'"):
            OPERATIONS[name](store)


def test_a_server_without_conditional_requests_is_refused(told: Answering) -> None:
    told.will_refuse(501, "notImplemented")
    store = opened(told.endpoint)
    for name in CONDITIONAL:
        with pytest.raises(UnsupportedBackendException, match="conditional"):
            OPERATIONS[name](store)


def test_a_server_without_generations_is_refused(told: Answering) -> None:
    told.will_say(200)
    with pytest.raises(UnsupportedBackendException, match="generation"):
        opened(told.endpoint).write("t/x", b"1")
    with pytest.raises(UnsupportedBackendException, match="generation"):
        opened(told.endpoint).read("t/x")


def test_a_server_without_json_is_refused(told: Answering) -> None:
    told.will(200, b"<html>")
    for name in (*WRITING, "list"):
        with pytest.raises(UnsupportedBackendException, match="endpoint_url"):
            OPERATIONS[name](opened(told.endpoint))


def test_one_failed_read_of_many_fails_them_all_and_leaves_none_running(told: Answering) -> None:
    told.will_refuse(404, "notFound", "No such object: tasks/jobs/t/x")
    told.will_refuse(403, "forbidden")
    with pytest.raises(StorageUnavailableException, match="gs://tasks/jobs/t"):
        opened(told.endpoint).read_many([f"t/{n}" for n in range(100)])


# The rate limit, and other failures that pass


@pytest.mark.parametrize("operation", [*WRITING, "remove", "remove_if"])
def test_the_write_rate_limit_is_waited_out(told: Answering, operation: str) -> None:
    for _ in range(5):
        told.will_refuse(429, "rateLimitExceeded")
    told.will_say(200, generation="8")
    store = opened(told.endpoint)
    clock = Clock(store)
    OPERATIONS[operation](store)
    assert len(told.requests) == 6
    assert len({(request.method, request.path, *request.query.items()) for request in told.requests}) == 1
    # One turn comes each second: five answers of "too soon" are no reason to give up, nor to hammer.
    assert len(clock.slept) == 5
    assert 3 < sum(clock.slept) < 12
    assert clock.slept == sorted(clock.slept)


def test_a_rate_limit_that_does_not_pass_is_given_up_with_the_reason(told: Answering) -> None:
    told.will_refuse(429, "rateLimitExceeded")
    store = opened(told.endpoint)
    clock = Clock(store)
    with pytest.raises(StorageUnavailableException, match=r"about once a second.*longer stages"):
        store.write("t/x", b"1")
    assert 15 <= sum(clock.slept) < 20
    assert len(told.requests) == len(clock.slept) + 1


def test_the_waits_of_two_clients_differ(told: Answering) -> None:
    told.will_refuse(429, "rateLimitExceeded")
    waits = []
    for _ in range(2):
        store = opened(told.endpoint)
        clock = Clock(store)
        with pytest.raises(StorageUnavailableException):
            store.write("t/x", b"1")
        waits.append(clock.slept)
    assert waits[0] != waits[1]


@pytest.mark.parametrize("status", [0, 408, 500, 502, 503, 504])
@pytest.mark.parametrize("operation", ["write", "create", "swap", "read", "list"])
def test_a_failure_that_passes_is_survived(told: Answering, status: int, operation: str) -> None:
    told.will(status)
    told.will(200, b'{"generation": "7"}', X_Goog_Generation="7")
    OPERATIONS[operation](impatient(told.endpoint))
    assert len(told.requests) == 2


@pytest.mark.parametrize("status", [500, 503])
def test_a_service_in_trouble_is_asked_three_times(told: Answering, status: int) -> None:
    told.will(status)
    with pytest.raises(StorageUnavailableException):
        impatient(told.endpoint).write("t/x", b"1")
    assert len(told.requests) == 3


def test_throttling_does_not_use_up_the_attempts_of_other_failures(told: Answering) -> None:
    for status in (429, 503, 429, 429, 503, 429):
        told.will(status)
    told.will_say(200, generation="8")
    assert impatient(told.endpoint).write("t/x", b"1") == "8"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 501])
def test_an_answer_is_not_asked_for_again(told: Answering, status: int) -> None:
    told.will(status)
    with pytest.raises(TaskIOException):
        impatient(told.endpoint).write("t/x", b"1", expect=ABSENT)
    assert len(told.requests) == 1


def test_a_write_that_met_its_own_lost_copy_is_recognised(told: Answering) -> None:
    body = json.dumps({"write_id": "mine"}).encode()
    told.will(503)  # after it was applied
    told.will_refuse(412, "conditionNotMet")
    told.will(200, body, X_Goog_Generation="9")
    store = impatient(told.endpoint)
    assert CasWriter(store).write("t/x", body, "mine", expect=ABSENT) == "9"
    assert told.methods == ["POST", "POST", "GET"]
    with pytest.raises(VersionConflictException):
        CasWriter(_refusing(told)).write("t/x", body, "mine", expect=ABSENT)


def _refusing(told: Answering) -> GCSTaskIO:
    told.answers.clear()
    told.will_refuse(412, "conditionNotMet")
    told.will(200, b'{"write_id": "theirs"}', X_Goog_Generation="9")
    return impatient(told.endpoint)


# Nobody answers


def test_a_refused_connection_is_unavailability() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        store = impatient(f"http://127.0.0.1:{closed.getsockname()[1]}")
        for operation in OPERATIONS.values():
            with pytest.raises(StorageUnavailableException, match="endpoint_url") as caught:
                operation(store)
            assert "gs://tasks/jobs" in str(caught.value)


def test_a_silent_endpoint_is_given_up(told: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = impatient(
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            session_kwargs={"timeout": ClientTimeout(sock_read=0.1)},
        )
        with pytest.raises(StorageUnavailableException, match="did not answer"):
            store.read("t/x")
    # What bounds the wait where the user says nothing.
    seen: list[ClientTimeout] = []
    request = ClientSession.request

    def noted(*args: Any, **options: Any) -> Any:
        seen.append(options["timeout"])
        return request(*args, **options)

    monkeypatch.setattr(ClientSession, "request", noted)
    told.will(200, X_Goog_Generation="7")
    opened(told.endpoint).read("t/x")
    assert [(each.total, each.sock_connect, each.sock_read) for each in seen] == [(None, 2, 10)]


def test_a_connection_cut_in_the_body_is_unavailability() -> None:
    def serve(listening: socket.socket) -> None:
        for _ in range(3):
            connection, _ = listening.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nX-Goog-Generation: 7\r\nContent-Length: 1000\r\n\r\nhalf"
                )

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with pytest.raises(StorageUnavailableException) as caught:
            impatient(f"http://127.0.0.1:{listening.getsockname()[1]}").read("t/x")
        thread.join()
    assert caught.value.__cause__ is not None


# Credentials


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise google.auth.exceptions.DefaultCredentialsError("none here")  # type: ignore[no-untyped-call]

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(google.auth, "default", nowhere)


class Renewed(google.auth.credentials.Credentials):
    """Credentials that have run out."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.failure = failure
        self.refreshed_in: list[str] = []

    def refresh(self, request: object) -> None:
        self.refreshed_in.append(threading.current_thread().name)
        if self.failure:
            raise self.failure
        self.token = TOKEN


def test_credentials_are_sent_and_refreshed_outside_the_event_loop(told: Answering) -> None:
    told.will_say(200, generation="7")
    credentials = Renewed()
    store = opened(told.endpoint, token=credentials)
    store.write("t/x", b"1")
    store.write("t/x", b"1")
    (thread,) = credentials.refreshed_in
    assert thread != "fsspecIO"
    assert thread != threading.current_thread().name
    assert [request.headers["authorization"] for request in told.requests] == [f"Bearer {TOKEN}"] * 2


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (google.auth.exceptions.RefreshError, "expired"),
        (
            google.auth.exceptions.RefreshError,
            "credentials do not contain the necessary fields need to refresh",
        ),
        (google.auth.exceptions.TransportError, "no way"),
    ],
)
def test_credentials_that_cannot_be_refreshed_are_unavailability(
    told: Answering, kind: type[Exception], words: str
) -> None:
    store = opened(told.endpoint, token=Renewed(kind(words)))
    for operation in OPERATIONS.values():
        with pytest.raises(
            StorageUnavailableException, match=r"refreshed.*GOOGLE_APPLICATION_CREDENTIALS"
        ) as caught:
            operation(store)
        assert caught.value.__cause__ is not None
    assert told.requests == []


def test_no_credentials_are_looked_for_or_sent_where_the_endpoint_is_none_of_googles(
    told: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(google.auth, "default", looked)
    told.will(200, X_Goog_Generation="7")
    for token in (None, "anon"):
        opened(told.endpoint, token=token).read("x")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", told.endpoint)
    GCSTaskIO.from_base_url("gs://tasks/jobs").read("x")
    assert len(told.requests) == 3
    assert not any("authorization" in request.headers for request in told.requests)


def test_credentials_are_googles_default_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Renewed()
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", lambda **_: (credentials, "the-project"))
    # A project that is only there to be billed does not change whose credentials are used.
    for options in ({}, {"project": "another"}, {"token": "google_default"}):
        filesystem = GCSTaskIO.from_base_url("gs://tasks/jobs", **options)._make_filesystem()
        assert filesystem.credentials.credentials is credentials


@pytest.mark.parametrize("token", [{"client_id": TOKEN}, "google_default"])
@pytest.mark.usefixtures("no_credentials")
def test_credentials_that_cannot_be_used_say_where_to_put_them(token: object) -> None:
    store = GCSTaskIO.from_base_url("gs://tasks/jobs", token=token)
    with pytest.raises(StorageUnavailableException, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        store.read("t/x")
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_a_key_file_is_read(told: Answering, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text(json.dumps({"refresh_token": TOKEN, "client_id": "me", "client_secret": "verysecret"}))
    credentials = opened(told.endpoint, token=str(key))._make_filesystem().credentials.credentials
    assert credentials.refresh_token == TOKEN


def test_an_access_token_is_shown_to_the_endpoint_and_to_nobody_else(
    told: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("requests.get", asked)
    told.will(200, X_Goog_Generation="7")
    opened(told.endpoint).read("x")
    assert told.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_secret_is_nowhere_to_be_seen(told: Answering) -> None:
    told.will_refuse(401, "authError")
    store = opened(told.endpoint)
    shown = [repr(store), str(store), store.base_url, store.build_url("x"), str(store.probe_scope)]
    for operation in OPERATIONS.values():
        with pytest.raises(TaskIOException) as caught:
            operation(store)
        shown += [*traceback.format_exception(caught.value), repr(caught.value)]
    assert not any(TOKEN in text for text in shown)


# Keys and clients


def test_keys_are_quoted_whole(store: GCSTaskIO, emulated: list[str]) -> None:
    store.write("a b/ü%2F?#&+", b"1")
    store.read("a b/ü%2F?#&+")
    assert emulated[-1].partition("/o/")[2] == quote("tasks/a b/ü%2F?#&+", safe="") + "?alt=media"


def test_a_client_that_is_given_up_closes_its_connections(told: Answering) -> None:
    told.will(200, X_Goog_Generation="7")
    store = opened(told.endpoint)
    store.read("x")
    session = store._filesystem.session
    assert not session.closed
    store._filesystem = None
    gc.collect()
    assert session.closed
