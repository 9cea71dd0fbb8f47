"""S3 servers in this process: moto's, with its requests counted, and one that answers as told."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer


class Moto:
    """A running moto server.

    Attributes:
        endpoint: Its URL.
        requests: Method and path with query of each request since it was last cleared.
    """

    def __init__(self, server: ThreadedMotoServer) -> None:
        self.requests: list[str] = []
        host, port = server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self._app = server._server.app  # type: ignore[union-attr]
        server._server.app = self._count  # type: ignore[union-attr]

    def _count(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        query = environ.get("QUERY_STRING")
        self.requests.append(
            f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}" + (f"?{query}" if query else "")
        )
        return self._app(environ, start)

    def make_bucket(self, name: str) -> None:
        with urlopen(Request(f"{self.endpoint}/{name}", method="PUT")):
            pass

    def put(self, bucket: str, key: str, body: bytes) -> None:
        s3_backends["123456789012"]["aws"].put_object(bucket, key, body)


@contextmanager
def moto() -> Iterator[Moto]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield Moto(server)
    finally:
        server.stop()


class Answering:
    """A server whose next answers a test writes down; the last one is repeated.

    Attributes:
        answers: Status, S3 error code (None for no body) and further headers.
        requests: Method and path of each request.
        signatures: The ``Authorization`` of each request; empty where it was not signed.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, str | None, dict[str, str]]] = []
        self.requests: list[str] = []
        self.signatures: list[str] = []
        self.endpoint = ""

    def will(self, status: int, code: str | None = None, **headers: str) -> None:
        self.answers.append((status, code, headers))

    def body(self, code: str | None) -> bytes:
        if code is None:
            return b""
        if code.startswith("<"):
            return code.encode()
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
            f"<Message>in the service's words: AKIASECRETKEY</Message></Error>"
        ).encode()


@contextmanager
def answering() -> Iterator[Answering]:
    state = Answering()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.requests.append(f"{self.command} {self.path}")
            state.signatures.append(self.headers.get("Authorization", ""))
            status, code, headers = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            body = state.body(code)
            self.send_response_only(status)  # no Date but the test's
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass  # a client that went away

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
