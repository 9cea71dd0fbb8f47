"""Servers that speak S3's language with an accent: checksums, conditional deletes, the words of a refusal."""

import hashlib
import logging
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import HTTPClientError

from checkmate import StageStatus, TaskStore
from checkmate_core.doctor import Verdict, examine
from checkmate_core.errors import (
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.types import ABSENT, Capability, Version
from checkmate_core.version import __version__
from checkmate_io_s3.s3 import S3TaskIO
from tests.backends.s3_servers import Answering, answering
from tests.cli.s3_doors import (
    IF_MATCH,
    IF_NONE_MATCH,
    Answer,
    Ask,
    Behaviour,
    Environ,
    door,
    error,
    honest,
    ignoring,
    keys,
    make_bucket,
)
from tests.engine.pipelines import LOCK, MANIFEST, Logged, document, engine_for, stage_documents, steps

SHA256 = "HTTP_X_AMZ_CONTENT_SHA256"


class Served:
    """A bucket behind servers of this test, and all requests that they got."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.bucket = make_bucket()
        self.requests: list[Environ] = []

    def url(self, behaviour: Behaviour, **options: str) -> str:
        def answer(environ: Environ, ask: Ask) -> Answer:
            self.requests.append(dict(environ))
            return behaviour(environ, ask)

        endpoint = self._stack.enter_context(door(answer))
        query = "".join(f"&{name}={value}" for name, value in options.items())
        return f"s3://{self.bucket}/jobs?endpoint_url={endpoint}&region=us-east-1{query}"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECRETKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecretsecret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def served() -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(stack)


# Checksums


def of_checksums(environ: Environ) -> list[str]:
    """Headers that ask for, or carry, more than a plain body."""
    return [
        name
        for name in environ
        if name.startswith(("HTTP_X_AMZ_CHECKSUM", "HTTP_X_AMZ_SDK_CHECKSUM", "HTTP_X_AMZ_TRAILER"))
        or (name == "HTTP_CONTENT_ENCODING" and "aws-chunked" in environ[name])
    ]


def refusing_checksums(environ: Environ, ask: Ask) -> Answer:
    if of_checksums(environ):
        return error("501 Not Implemented", "NotImplemented")
    return ask(environ)


def test_a_server_that_refuses_checksums_is_sent_plain_bodies_and_serves_a_whole_task(served: Served) -> None:
    url = served.url(refusing_checksums)
    engine = engine_for(open_task_io(url))
    engine.bind()
    engine.execute()
    engine.unbind(clean=True)
    puts = [request for request in served.requests if request["REQUEST_METHOD"] == "PUT"]
    assert len(puts) > 10
    for request in puts:
        assert request[SHA256] == hashlib.sha256(request["body"]).hexdigest(), (
            "what the signature vouches for"
        )
        assert int(request["CONTENT_LENGTH"]) == len(request["body"])
    assert [name for request in served.requests for name in of_checksums(request)] == []
    with pytest.raises(TaskIOException, match="NotImplemented"):
        open_task_io(url, config_kwargs={"request_checksum_calculation": "when_supported"}).write("x", b"1")


class Intercepted(HTTPClientError):  # type: ignore[misc]
    """A request that was not sent."""

    fmt = "intercepted"


def headers_of(options: dict[str, Any], act: Callable[[S3TaskIO], object]) -> dict[str, str]:
    """What would be sent to an endpoint that is not within reach, all of it decided."""
    store = S3TaskIO.from_base_url("s3://tasks/jobs", **options)
    found: dict[str, str] = {}

    async def intercept(request: Any) -> None:
        found.update({name.lower(): _text(value) for name, value in request.headers.items()}, url=request.url)
        raise Intercepted

    store._connected().s3._endpoint.http_session.send = intercept
    with pytest.raises(StorageUnavailableException, match="Intercepted"):
        act(store)
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


AMAZONS, FOREIGN = "https://s3.eu-west-1.amazonaws.com", "https://s3.example.org"
WANTED = {"request_checksum_calculation": "when_supported", "response_checksum_validation": "when_supported"}
REFUSED = dict.fromkeys(WANTED, "when_required")
PROFILE = "[default]\n" + "".join(f"{name} = {value}\n" for name, value in WANTED.items())


@pytest.mark.parametrize(
    ("endpoint", "config", "environment", "profile", "has_checksums"),
    [
        (AMAZONS, {}, {}, "", True),
        (FOREIGN, {}, {}, "", False),
        (FOREIGN, WANTED, {}, "", True),
        (FOREIGN, {}, WANTED, "", True),
        (FOREIGN, {}, {}, PROFILE, True),
        (AMAZONS, REFUSED, {}, "", False),
        (AMAZONS, {}, REFUSED, "", False),
    ],
    ids=["amazon", "foreign", "config", "environment", "profile", "amazon-config", "amazon-environment"],
)
def test_checksums_go_to_amazon_alone_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    endpoint: str,
    config: dict[str, str],
    environment: dict[str, str],
    profile: str,
    has_checksums: bool,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", value)
    (tmp_path / "config").write_text(profile)
    options: dict[str, Any] = {
        "endpoint_url": endpoint,
        "region": "eu-west-1",
        "config_kwargs": {"retries": {"total_max_attempts": 1}, **config},
    }
    sent = headers_of(options, lambda store: store.write("x", b"body"))
    asked = headers_of(options, lambda store: store.read("x"))
    crc32 = b64encode(zlib.crc32(b"body").to_bytes(4, "big")).decode()
    assert sent.get("x-amz-checksum-crc32") == (crc32 if has_checksums else None)
    assert not sent.keys() & {"x-amz-trailer", "content-encoding", "transfer-encoding"}
    assert sent["x-amz-content-sha256"] == hashlib.sha256(b"body").hexdigest()
    assert ("x-amz-checksum-mode" in asked) == has_checksums


@pytest.mark.parametrize(
    ("style", "url"),
    [
        (None, f"{FOREIGN}/tasks/jobs/x"),
        ("auto", f"{FOREIGN}/tasks/jobs/x"),
        ("path", f"{FOREIGN}/tasks/jobs/x"),
        ("virtual", "https://tasks.s3.example.org/jobs/x"),
    ],
)
def test_the_bucket_goes_into_the_path_unless_the_server_wants_it_before_its_host(
    style: str | None, url: str
) -> None:
    options = {"endpoint_url": FOREIGN, "region": "eu-west-1", "addressing_style": style}
    assert headers_of(options, lambda store: store.read("x"))["url"] == url


def test_the_stores_log_tells_who_asks() -> None:
    options: dict[str, Any] = {"endpoint_url": FOREIGN, "region": "eu-west-1"}
    agent = headers_of(options, lambda store: store.read("x"))["user-agent"]
    assert agent.split()[0] == f"CheckMate/{__version__}"
    options["config_kwargs"] = {"user_agent": "mine"}
    assert headers_of(options, lambda store: store.read("x"))["user-agent"].split()[0] == "mine"


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-24T16:38:22.000Z",
        "2026-11-24T16:38:22Z",
        "2026-11-24T17:38:22+01:00",
        "2026-11-24T16:38:22",
        "Tue, 24 Nov 2026 16:38:22 GMT",
        "24 Nov 2026, 16:38:22",
        "1795538302",
    ],
)
def test_a_time_is_read_however_a_server_writes_it(told: Answering, written: str) -> None:
    told.will(
        200,
        "<ListBucketResult><Contents><Key>jobs/x</Key><ETag>v</ETag><Size>1</Size>"
        f"<LastModified>{written}</LastModified></Contents></ListBucketResult>",
    )
    store = S3TaskIO.from_base_url("s3://tasks/jobs", endpoint_url=told.endpoint, region="us-east-1")
    (info,) = store.list()
    assert info.modified == datetime(2026, 11, 24, 16, 38, 22, tzinfo=UTC)


# A server without conditional DELETE


def refusing_conditional_deletes(environ: Environ, ask: Ask) -> Answer:
    if environ["REQUEST_METHOD"] == "DELETE" and IF_MATCH in environ:
        return error("501 Not Implemented", "NotImplemented")
    return ask(environ)


without_conditional_deletes = pytest.mark.parametrize(
    "behaviour",
    [refusing_conditional_deletes, ignoring(IF_MATCH, methods=["DELETE"])],
    ids=["answers 501", "ignores it"],
)


@without_conditional_deletes
def test_a_server_without_conditional_deletes_is_found_out_and_the_way_out_is_named(
    served: Served, behaviour: Behaviour
) -> None:
    url = served.url(behaviour)
    with pytest.raises(UnsupportedBackendException, match="conditional_delete=false"):
        engine_for(open_task_io(url)).bind()
    assert keys(served.bucket) == []
    found = examine([url], rounds=1)
    assert found.verdict is Verdict.UNSAFE
    assert "conditional_delete=false" in found.reason
    assert examine([f"{url}&conditional_delete=false"], rounds=1).verdict is Verdict.UNPROVEN
    assert keys(served.bucket) == []


@without_conditional_deletes
def test_on_one_the_released_lock_stays_and_a_clean_leaves_garbage_behind_the_tombstone(
    served: Served, behaviour: Behaviour
) -> None:
    log = Logged()
    plain = served.url(behaviour)
    # What was found of the store as it was opened first does not speak for the way it is opened then.
    with pytest.raises(UnsupportedBackendException):
        engine_for(open_task_io(plain)).bind()
    served.requests.clear()
    io = open_task_io(f"{plain}&conditional_delete=false")
    assert io.capabilities == frozenset(Capability) - {Capability.REMOVE_IF}
    with engine_for(io, steps(action=log)) as engine:
        engine.execute()
    lock = document(io, LOCK)
    assert (lock["owner"], lock["finished"]) == (None, True)
    assert [(task.task_id, task.status) for task in TaskStore(io).list()] == [
        ("task-1", StageStatus.COMPLETE)
    ]

    cleaner = engine_for(io, steps(action=log))
    cleaner.bind()
    assert cleaner.check_sync()
    cleaner.unbind(clean=True)
    assert document(io, MANIFEST)["removed"]
    assert [stage["status"] for stage in stage_documents(io)] == ["COMPLETE"] * 3
    assert TaskStore(io).list() == []
    assert log.names == ["a", "b", "c"]

    with engine_for(io, steps(action=log)) as again:
        assert again.fencing_token is not None
        assert again.fencing_token > lock["epoch"]
        again.execute()
    assert log.names == ["a", "b", "c"] * 2
    deletes = [request for request in served.requests if request["REQUEST_METHOD"] == "DELETE"]
    assert deletes, "of the probe"
    assert not any(IF_MATCH in request or "/_probe/" not in request["PATH_INFO"] for request in deletes)


def test_a_conditional_delete_that_was_given_up_is_refused_without_a_request(served: Served) -> None:
    io = open_task_io(served.url(honest), conditional_delete=False)
    version = io.write("x", b"1", expect=ABSENT)
    served.requests.clear()
    with pytest.raises(UnsupportedBackendException, match="conditional_delete=false"):
        io.remove("x", expect=version)
    assert served.requests == []
    io.remove("x")
    assert keys(served.bucket) == []


@pytest.mark.parametrize("value", ["no", "", 0, 1])
def test_conditional_delete_is_true_or_false(value: object) -> None:
    with pytest.raises(UnsupportedBackendException, match="'conditional_delete' must be of type bool"):
        S3TaskIO.from_base_url("s3://tasks/jobs", conditional_delete=value)
    for every in (True, "true", None):
        assert S3TaskIO.from_base_url("s3://t-1/jobs", conditional_delete=every).capabilities == {*Capability}


# 409, 412, 404 and 501 told apart


def colliding(code: str | None) -> tuple[Behaviour, Counter[str]]:
    """Says at the first try of each conditional request that another one was under way."""
    seen: set[tuple[str, ...]] = set()
    collisions: Counter[str] = Counter()

    def answer(environ: Environ, ask: Ask) -> Answer:
        condition = environ.get(IF_MATCH) or environ.get(IF_NONE_MATCH)
        request = (environ["REQUEST_METHOD"], environ["PATH_INFO"], condition or "")
        if condition and "/_probe/" not in request[1] and request not in seen:
            seen.add(request)
            collisions[environ["REQUEST_METHOD"]] += 1
            return error("409 Conflict", code) if code else ("409 Conflict", [("Content-Length", "0")], b"")
        return ask(environ)

    return answer, collisions


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted", None])
def test_a_collision_is_sent_again_and_is_never_taken_for_somebody_elses_write(
    served: Served, code: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    behaviour, collisions = colliding(code)
    io = open_task_io(served.url(behaviour))
    log = Logged()
    with caplog.at_level(logging.WARNING), engine_for(io, steps(action=log), lease=None) as engine:
        engine.execute()
        assert engine.fencing_token == 1
    assert log.names == ["a", "b", "c"]
    assert [stage["attempts"] for stage in stage_documents(io)] == [1, 1, 1]
    of_task = {name for name in keys(served.bucket) if "/_probe/" not in name}
    assert of_task == {
        f"jobs/{MANIFEST}",
        *(f"jobs/task-1/stages/{n:03}-{s}.json" for n, s in enumerate("abc")),
    }
    # Lock, manifest twice, two writes a stage, and the removal of the lock.
    assert collisions["PUT"] >= 9
    assert collisions["DELETE"] >= 1
    assert "send it again" in caplog.text


CREATE, SWAP, REMOVE_IF = "create", "swap", "remove_if"
EVERY: dict[str, Callable[[TaskIO], object]] = {
    "exists": lambda s: s.exists("t/x"),
    "read": lambda s: s.read("t/x"),
    "list": lambda s: list(s.list()),
    "write": lambda s: s.write("t/x", b"1"),
    "remove": lambda s: s.remove("t/x"),
    CREATE: lambda s: s.write("t/x", b"1", expect=ABSENT),
    SWAP: lambda s: s.write("t/x", b"1", expect=Version("v")),
    REMOVE_IF: lambda s: s.remove("t/x", expect=Version("v")),
}
CONDITIONAL = {CREATE, SWAP, REMOVE_IF}


@pytest.fixture
def told() -> Iterator[Answering]:
    with answering() as running:
        yield running


@pytest.mark.parametrize(
    ("status", "code", "meaning", "of"),
    [
        (400, "InvalidArgument", StorageUnavailableException, set(EVERY)),
        (404, None, StorageUnavailableException, set(EVERY)),
        (404, "NoSuchKey", StorageUnavailableException, {"write", "list", CREATE}),
        (404, "NoSuchKey", VersionConflictException, {SWAP, REMOVE_IF}),
        (405, "MethodNotAllowed", StorageUnavailableException, set(EVERY)),
        (409, "Conflict", StorageUnavailableException, set(EVERY)),
        (409, None, StorageUnavailableException, set(EVERY)),
        (412, "PreconditionFailed", VersionConflictException, CONDITIONAL),
        (412, "PreconditionFailed", StorageUnavailableException, set(EVERY) - CONDITIONAL),
        (412, None, StorageUnavailableException, set(EVERY) - CONDITIONAL),
        (501, None, UnsupportedBackendException, CONDITIONAL),
        (501, "A header you provided", UnsupportedBackendException, CONDITIONAL),
        (501, "NotImplemented", StorageUnavailableException, set(EVERY) - CONDITIONAL),
    ],
)
def test_each_answer_has_one_meaning(
    told: Answering, status: int, code: str | None, meaning: type[TaskIOException], of: set[str]
) -> None:
    told.will(status, code)
    store = S3TaskIO.from_base_url(
        "s3://tasks/jobs",
        endpoint_url=told.endpoint,
        region="us-east-1",
        config_kwargs={"retries": {"total_max_attempts": 1}},
    )
    for name in of:
        with pytest.raises(TaskIOException) as caught:
            EVERY[name](store)
        assert type(caught.value) is meaning, (name, caught.value)
        assert caught.value.__cause__ is not None
        if status == 501:
            assert ("conditional_delete=false" in str(caught.value)) == (name == REMOVE_IF)
