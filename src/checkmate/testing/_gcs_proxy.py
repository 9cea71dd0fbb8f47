"""A proxy that makes of fake-gcs-server a store which keeps the conditions of removals.

fake-gcs-server 1.54 deletes an object whatever ``ifGenerationMatch`` says; Cloud Storage does not. Here
the condition is checked and acted on in one step, since changes pass one at a time. Everything else
passes as it is, byte for byte: client and server take turns, so that answers need not be understood.
"""

import json
import re
import selectors
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.client import HTTPConnection
from typing import Any, Final

_CHUNK: Final = 1 << 18
_READING: Final = (b"GET ", b"HEAD ", b"OPTIONS ")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_CONDITIONAL_DELETE: Final = re.compile(rb"DELETE ([^ ?]+)\?(?:[^ ]*&)?ifGenerationMatch=(\d+)")
_REFUSAL: Final = json.dumps(
    {
        "error": {
            "code": 412,
            "message": "At least one of the pre-conditions you specified did not hold.",
            "errors": [{"domain": "global", "reason": "conditionNotMet"}],
        }
    }
).encode()


class GcsProxy(socketserver.ThreadingTCPServer):
    """Listens on a free port of 127.0.0.1 from the start, and passes requests on within `serving`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.emulator = ("127.0.0.1", 0)
        self.change = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def serving(self, emulator_port: int) -> Iterator[None]:
        """Pass on to the emulator, from threads, while the block lasts."""
        self.emulator = ("127.0.0.1", emulator_port)
        thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="gcs-proxy", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()

    def note(self, request: bytes) -> None:
        """Called with each request, whole, before it is passed on."""


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, GcsProxy)  # noqa: S101 - for type checkers
        self.proxy = self.server
        client: socket.socket = self.request
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Either side may go away at any time, which ends the connection of the other.
        with (
            suppress(OSError),
            socket.create_connection(self.proxy.emulator, 60) as emulator,
            selectors.DefaultSelector() as ready,
        ):
            emulator.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(client, selectors.EVENT_READ)
            ready.register(emulator, selectors.EVENT_READ)
            while True:
                sources = [key.fileobj for key, _ in ready.select()]
                if emulator in sources:
                    client.sendall(_received(emulator))
                if client in sources:
                    request = _whole_request(client)
                    self.proxy.note(request)
                    self._pass_on(request, client, emulator)

    def _pass_on(self, request: bytes, client: socket.socket, emulator: socket.socket) -> None:
        if request.startswith(_READING):
            emulator.sendall(request)
            return
        with self.proxy.change:
            conditional = _CONDITIONAL_DELETE.match(request)
            if conditional and self._is_stale(conditional[1].decode(), conditional[2].decode()):
                answer: bytes = _refusal()
            else:
                emulator.sendall(request)
                # An answer has begun once the request was applied; the rest of it follows in its turn.
                answer = _received(emulator)
        client.sendall(answer)

    def _is_stale(self, path: str, expected: str) -> bool:
        """Whether an object is there, with another generation."""
        connection = HTTPConnection(*self.proxy.emulator)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            found: dict[str, Any] = json.loads(answer.read())
        finally:
            connection.close()
        return answer.status == 200 and found["generation"] != expected


def _whole_request(client: socket.socket) -> bytes:
    # Whole, before anything of it is passed on: a client that is stopped in the middle must stop nobody else.
    request = bytearray(_received(client))
    while (end := request.find(b"\r\n\r\n")) < 0:
        request += _received(client)
    head = bytes(request[: end + 4])
    length = _LENGTH.search(head)
    if length:
        while len(request) < len(head) + int(length[1]):
            request += _received(client)
    elif _CHUNKED.search(head):
        while not request.endswith(b"0\r\n\r\n"):
            request += _received(client)
    return bytes(request)


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(_CHUNK)
    if not data:
        raise ConnectionResetError
    return data


def _refusal() -> bytes:
    head = (
        f"HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/json\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"Content-Length: {len(_REFUSAL)}\r\n\r\n"
    )
    return head.encode() + _REFUSAL
