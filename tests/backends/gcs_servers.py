"""A GCS server in this process that answers as told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

SECRET_WORDS = "in the service's words: ya29.verysecrettoken"


@dataclass(frozen=True)
class Asked:
    """One request; the names of its headers are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Answering:
    """A server whose next answers a test writes down; the last one is repeated.

    Attributes:
        answers: Status, body and headers. The status 0 means that the connection is cut.
        requests: What it was asked.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []
        self.requests: list[Asked] = []
        self.endpoint = ""

    def will(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.answers.append((status, body, {name.replace("_", "-"): text for name, text in headers.items()}))

    def will_say(self, status: int, **members: object) -> None:
        self.will(status, json.dumps(members).encode(), Content_Type="application/json")

    def will_refuse(self, status: int, reason: str = "", message: str = SECRET_WORDS) -> None:
        """As the JSON API does."""
        errors = [{"domain": "global", "reason": reason, "message": message}]
        self.will_say(status, error={"code": status, "message": message, "errors": errors})

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]


@contextmanager
def answering() -> Iterator[Answering]:
    state = Answering()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            state.requests.append(
                Asked(
                    self.command,
                    parts.path,
                    query,
                    {name.lower(): text for name, text in self.headers.items()},
                    body,
                )
            )
            status, body, headers = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            if status == 0:
                self.close_connection = True
                return
            self.send_response_only(status)  # no Date but the test's
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

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
