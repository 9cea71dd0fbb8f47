"""Moto's S3 server, in this process."""

import io
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from checkmate.testing._fix import FIX
from checkmate.testing._loopback import bypass_proxies

if TYPE_CHECKING:
    from moto.server import ThreadedMotoServer

_REGION = "us-east-1"


@pytest.fixture(scope="session")
def checkmate_s3_server() -> Iterator[str]:
    """The endpoint URL of moto's S3 server; it listens on 127.0.0.1 while the session lasts."""
    requests_log = logging.getLogger("werkzeug")
    level = requests_log.level
    requests_log.setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        server = _moto_server(patch)
        server.start()
        host, port = server.get_host_and_port()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.stop()
            requests_log.setLevel(level)


@pytest.fixture
def checkmate_s3_url(
    checkmate_s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    """The URL of an empty store on moto's S3 server, in a bucket of its own.

    The environment gets made-up credentials for the time of the test, and no real ones are read:
    not from the environment, not from ``~/.aws``, not from a machine's metadata.
    """
    _isolate_aws(monkeypatch, tmp_path / "no-aws-configuration")
    import boto3

    bucket = f"checkmate-{uuid.uuid4().hex}"
    s3 = boto3.client("s3", endpoint_url=checkmate_s3_server, region_name=_REGION)
    try:
        s3.create_bucket(Bucket=bucket)
        yield f"s3://{bucket}/tasks?endpoint_url={checkmate_s3_server}&region={_REGION}"
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            keys = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
            if keys:
                s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        s3.delete_bucket(Bucket=bucket)
    finally:
        s3.close()


def _moto_server(patch: pytest.MonkeyPatch) -> "ThreadedMotoServer":
    try:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication
        from moto.server import ThreadedMotoServer

        import checkmate_io_s3  # noqa: F401 - a missing backend should be named here, not in a test
    except ImportError as exc:
        raise ImportError(f"the S3 fixtures of checkmate.testing need more: {FIX} ({exc})") from exc
    answer = _one_request_at_a_time(DomainDispatcherApplication.__call__)
    patch.setattr(DomainDispatcherApplication, "__call__", answer)
    return ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)


def _one_request_at_a_time(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Moto checks a precondition and then acts: now and then two threads both win, as on no S3."""
    lock = threading.Lock()

    def answer_alone(app: Any, environ: dict[str, Any], start_response: Any) -> Any:
        # The body is read first: a client that is stopped in the middle of it must stop nobody else.
        length = environ.get("CONTENT_LENGTH")
        if length:
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(length)))
        with lock:
            return answer(app, environ, start_response)

    return answer_alone


def _isolate_aws(monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "checkmate-testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-moto")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bypass_proxies(monkeypatch)
