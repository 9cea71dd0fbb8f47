"""S3 servers with one fault each: moto's, behind an application that changes requests or answers.

All of them in one process are doors to the same buckets.
"""

import io
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from werkzeug.test import run_wsgi_app

Environ = dict[str, Any]
Answer = tuple[str, list[tuple[str, str]], bytes]
Ask = Callable[[Environ], Answer]
Behaviour = Callable[[Environ, Ask], Answer]

IF_MATCH, IF_NONE_MATCH = "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"

# Moto checks a condition and then acts, so that now and then two would win.
_one_at_a_time = threading.RLock()


@contextmanager
def door(behaviour: Behaviour) -> Iterator[str]:
    """The endpoint of a running server."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    app = server._server.app  # type: ignore[union-attr]

    def ask(environ: Environ) -> Answer:
        with _one_at_a_time:
            body, status, headers = run_wsgi_app(app, {**environ, "wsgi.input": io.BytesIO(environ["body"])})
            return status, list(headers), b"".join(body)

    def answer(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        environ["body"] = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, headers, body = behaviour(environ, ask)
        start(status, headers)
        return [body]

    server._server.app = answer  # type: ignore[union-attr]
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def make_bucket() -> str:
    name = f"doctor-{uuid4().hex}"
    s3_backends["123456789012"]["aws"].create_bucket(name, "us-east-1")
    return name


def keys(bucket: str) -> list[str]:
    return [key.name for key in s3_backends["123456789012"]["aws"].buckets[bucket].keys.values()]


def error(status: str, code: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>in words</Message></Error>".encode()
    return status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))], body


def honest(environ: Environ, ask: Ask) -> Answer:
    return ask(environ)


def ignoring(*headers: str, methods: Iterable[str] = ("PUT", "DELETE")) -> Behaviour:
    """Takes a conditional request for an unconditional one."""

    def answer(environ: Environ, ask: Ask) -> Answer:
        for header in headers if environ["REQUEST_METHOD"] in methods else ():
            environ.pop(header, None)
        return ask(environ)

    return answer


def refusing_conditions(environ: Environ, ask: Ask) -> Answer:
    if IF_MATCH in environ or IF_NONE_MATCH in environ:
        return error("501 Not Implemented", "NotImplemented")
    return ask(environ)


def denying(operation: str, after: int = 0) -> Behaviour:
    """Answers 403 to PUT, DELETE, GET, LIST, or HIDE: a GET of what is not there."""
    seen = [0]

    def answer(environ: Environ, ask: Ask) -> Answer:
        asked = "LIST" if "list-type" in environ["QUERY_STRING"] else environ["REQUEST_METHOD"]
        told = ask(environ) if asked == "GET" and operation == "HIDE" else None
        seen[0] += asked == operation
        if (asked == operation and seen[0] > after) or (told and told[0].startswith("404")):
            return error("403 Forbidden", "AccessDenied")
        return told or ask(environ)

    return answer


def losing_races(tries: int = 5) -> Behaviour:
    """Honours conditions, until somebody has been refused as often as only a crowd is: then two win."""
    refusals: defaultdict[tuple[str, str], int] = defaultdict(int)

    def answer(environ: Environ, ask: Ask) -> Answer:
        told = ask(environ)
        if environ["REQUEST_METHOD"] == "PUT" and told[0].startswith("412"):
            header = IF_MATCH if IF_MATCH in environ else IF_NONE_MATCH
            contested = (environ["PATH_INFO"], environ.pop(header))
            with _one_at_a_time:
                refusals[contested] += 1
                if refusals[contested] == tries:
                    return ask(environ)
        return told

    return answer


class DividedCluster:
    """Each node decides by what came through itself: alone it is honest, together they are not."""

    def __init__(self) -> None:
        self._last_writer: dict[str, object] = {}

    def node(self) -> Behaviour:
        myself = object()

        def answer(environ: Environ, ask: Ask) -> Answer:
            if environ["REQUEST_METHOD"] != "PUT":
                return ask(environ)
            path = environ["PATH_INFO"]
            with _one_at_a_time:
                if self._last_writer.get(path, myself) is not myself:
                    environ.pop(IF_MATCH, None)
                    environ.pop(IF_NONE_MATCH, None)
                told = ask(environ)
                if told[0].startswith("200"):
                    self._last_writer[path] = myself
                return told

        return answer
