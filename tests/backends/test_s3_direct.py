"""The requests to S3 that are made without most of the SDK: which are, which are not, and what the SDK still does."""

import stat
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import pytest

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    VersionConflictException,
)
from checkmate_core.types import ABSENT, Version
from checkmate_io_s3.s3 import S3TaskIO
from tests.backends.s3_servers import Answering, Moto, answering, moto

KEYS = {"key": "AKIASECRETKEY", "secret": "verysecretsecret"}
ONCE = {"retries": {"total_max_attempts": 1}}
CHECKED = {"request_checksum_calculation": "when_supported", "response_checksum_validation": "when_supported"}


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    with moto() as running:
        running.make_bucket("tasks")
        yield running


@pytest.fixture
def told() -> Iterator[Answering]:
    with answering() as running:
        yield running


def opened(endpoint: str, config: dict[str, Any] = ONCE, **options: Any) -> S3TaskIO:
    return S3TaskIO.from_base_url(
        f"s3://tasks/{uuid4()}",
        **{"endpoint_url": endpoint, "region": "us-east-1", "config_kwargs": config, **KEYS, **options},
    )


def of_the_sdk(store: S3TaskIO) -> Counter[str]:
    """Counts the requests that the SDK makes from now on, whether it sends them or not."""
    made: Counter[str] = Counter()
    events = store._connected().s3.meta.events
    events.register("request-created.s3", lambda operation_name, **_: made.update([operation_name]))
    return made


def some_of_each(store: S3TaskIO, times: int) -> None:
    for number in range(times):
        name = f"t/{number} ü%2F+'(~)!*?#"
        version = store.write(name, b"1", expect=ABSENT)
        assert [info.name for info in store.list("t/")] == [name]
        version = store.write(name, b"22", expect=version)
        assert store.read(name).data == b"22"
        assert store.read(name).version == version
        store.remove(name, expect=version)


EACH = ("PutObject", "ListObjectsV2", "GetObject", "DeleteObject")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"token": "verysecrettoken"},
        {"config": {**ONCE, **CHECKED}},
        {"config": {**ONCE, "user_agent": "mine"}},
    ],
    ids=["plain", "token", "checksums", "agent"],
)
def test_the_sdk_makes_the_first_request_of_each_kind_and_no_other(
    server: Moto, options: dict[str, Any]
) -> None:
    store = opened(server.endpoint, **options)
    made, heard = of_the_sdk(store), 0

    def hear(**_: object) -> None:
        nonlocal heard
        heard += 1

    store._connected().s3.meta.events.register("after-call.s3", hear)
    server.requests.clear()
    some_of_each(store, times=3)
    assert made == dict.fromkeys(EACH, 1)
    assert heard == len(server.requests) == 3 * 6, "its stock of retries is filled by successes"


@pytest.mark.parametrize(
    "config",
    [
        {"s3": {"payload_signing_enabled": False}},
        {"signature_version": "s3"},
        {"retries": {"mode": "adaptive", "total_max_attempts": 1}},
    ],
    ids=["unsigned bodies", "another signature", "a limited rate"],
)
def test_what_the_sdk_does_otherwise_it_does_itself(server: Moto, config: dict[str, Any]) -> None:
    store = opened(server.endpoint, {**ONCE, **config})
    made = of_the_sdk(store)
    server.requests.clear()
    some_of_each(store, times=3)
    assert made == {"PutObject": 1 + 6, "ListObjectsV2": 1 + 3, "GetObject": 1 + 6, "DeleteObject": 1 + 3}
    assert len(server.requests) == 3 * 6


def test_a_header_that_a_plugin_adds_is_in_every_request(told: Answering) -> None:
    def add(request: Any, **_: object) -> None:
        request.headers["x-amz-request-payer"] = "requester"

    told.will(200, "<body>", ETag="v")
    store = opened(told.endpoint)
    store._connected().s3.meta.events.register("before-sign.s3", add)
    for _ in range(3):
        store.read("t/x")
    assert len(told.signatures) == 3
    assert all("x-amz-request-payer" in signature for signature in told.signatures)


def test_a_body_of_more_than_a_mebibyte_is_the_sdks_to_send(server: Moto) -> None:
    store = opened(server.endpoint)
    made = of_the_sdk(store)
    for size in (2**20, 2**20 + 1, 2**20 + 1):
        body = b"x" * size
        store.write("large", body)
        assert store.read("large").data == body
    assert made == {"PutObject": 1 + 2, "GetObject": 1}


# Answers


def test_a_missing_key_and_a_failed_precondition_are_understood_here(told: Answering) -> None:
    told.will(404, "NoSuchKey")
    store = opened(told.endpoint)
    made = of_the_sdk(store)
    for _ in range(3):
        with pytest.raises(PersistenceDataNotFoundException):
            store.read("t/x")
    told.answers[:] = [(412, None, {})]
    for _ in range(3):
        with pytest.raises(VersionConflictException):
            store.write("t/x", b"1", expect=Version("v"))
    assert made == {"GetObject": 1, "PutObject": 1}
    assert len(told.requests) == 6


def test_any_other_answer_is_the_sdks_first_attempt_and_not_one_more(told: Answering) -> None:
    told.will(200)
    store = opened(told.endpoint)
    for status in (401, 403, 429, 500, 503):
        told.answers[:] = [(status, "Whatever", {})]
        for act in (lambda: store.read("x"), lambda: store.write("x", b"1"), lambda: list(store.list())):
            told.requests.clear()
            with pytest.raises(StorageUnavailableException, match="the service answered Whatever"):
                act()
            assert len(told.requests) == 1
    # And what it does after such an answer it does: here it asks again.
    told.answers[:] = [(503, "SlowDown", {}), (200, "<body>", {"ETag": "v"})]
    told.requests.clear()
    assert opened(told.endpoint, {"retries": {"total_max_attempts": 2}}).read("x").data == b"<body>"
    assert len(told.requests) == 2


def test_an_error_after_the_200_is_the_sdks_to_see(told: Answering) -> None:
    told.will(200, "InternalError", ETag="v")
    store = opened(told.endpoint)
    for act in (lambda: store.write("x", b"1"), lambda: list(store.list()), lambda: store.remove("x")):
        told.requests.clear()
        with pytest.raises(StorageUnavailableException):
            act()
        assert len(told.requests) == 1


def test_once_the_service_has_sent_it_to_another_region_the_sdk_goes_there(told: Answering) -> None:
    told.will(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")
    told.will(200, "<body>", ETag="v")
    store = opened(told.endpoint, {})
    for _ in range(3):
        assert store.read("x").data == b"<body>"
    regions = [signature.split("/")[2] for signature in told.signatures]
    assert regions == ["us-east-1", *["eu-west-1"] * 3]


BODY = b"<body>"


DIGESTS = {
    "x-amz-checksum-crc32": crc32(BODY).to_bytes(4, "big"),
    "x-amz-checksum-sha1": sha1(BODY).digest(),
    "x-amz-checksum-sha256": sha256(BODY).digest(),
}


def test_a_damaged_body_is_not_returned(told: Answering) -> None:
    def stored(name: str, digest: bytes, parts: str = "") -> None:
        told.answers[:] = [(200, BODY.decode(), {"ETag": "v", name: b64encode(digest).decode() + parts})]

    store = opened(told.endpoint, {**ONCE, **CHECKED})
    for name, digest in DIGESTS.items():
        stored(name, digest)
        assert store.read("x").data == BODY
        stored(name, digest[::-1], "-3")
        assert store.read("x").data == BODY, "that of a multipart upload is not of the whole"
        stored(name, digest[::-1])
        with pytest.raises(StorageUnavailableException):
            store.read("x")


# Credentials


def test_an_anonymous_request_is_made_here_too(told: Answering) -> None:
    told.will(200, "<body>", ETag="v")
    store = opened(told.endpoint, key=None, secret=None, anon=True)
    made = of_the_sdk(store)
    for _ in range(3):
        store.read("x")
    assert made == {"GetObject": 1}
    assert told.signatures == [""] * 3


def test_credentials_are_renewed_as_the_sdk_renews_them(
    told: Answering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "credentials"
    program.write_text(
        f"""#!{sys.executable}
import datetime, json, pathlib
count = pathlib.Path({str(tmp_path / "count")!r})
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
print(json.dumps({{"Version": 1, "AccessKeyId": f"AKIA{{number}}", "SecretAccessKey": "verysecretsecret",
    "Expiration": soon.isoformat()}}))
"""
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "config").write_text(f"[profile renewing]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    told.will(200, "<body>", ETag="v")
    store = opened(told.endpoint, key=None, secret=None, profile="renewing")
    made = of_the_sdk(store)
    for _ in range(3):
        store.read("x")
    keys = {signature.partition("Credential=")[2].partition("/")[0] for signature in told.signatures}
    assert len(keys) == 3
    assert made == {"GetObject": 1}
