"""A TCP proxy that cuts, swallows, delays and stalls what passes through it, as a plan says.

It knows nothing of HTTP but that client and server take turns: the first bytes of a client after
those of the server begin a request, the first bytes of the server after that are its response, and
were sent after the request was applied.
"""

import random
import select
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from urllib.parse import urlsplit

_CHUNK = 1 << 16


class Fault(StrEnum):
    """What happens to one request.

    Attributes:
        PASS: Nothing.
        CUT: The connection is closed before the server gets anything of the request.
        SWALLOW: The server answers, but the connection is closed instead of passing the response on.
        DELAY: The response is passed on late.
        STALL: The server gets nothing, and the client waits until it has enough of that.
    """

    PASS = "pass"
    CUT = "cut"
    SWALLOW = "swallow"
    DELAY = "delay"
    STALL = "stall"


Plan = Callable[[], Fault]


def seeded(rng: random.Random, *, cut: float = 0.0, swallow: float = 0.0, delay: float = 0.0) -> Plan:
    """A plan that draws the fault of each request, with these odds."""
    odds = {Fault.CUT: cut, Fault.SWALLOW: swallow, Fault.DELAY: delay}
    odds[Fault.PASS] = 1.0 - sum(odds.values())
    return lambda: rng.choices(list(odds), list(odds.values()))[0]


class Proxy:
    """Listens on a free port of 127.0.0.1 while its ``with`` block lasts.

    Attributes:
        plan: Asked once for each request.
        delay: Seconds that a delayed response takes longer.
        counts: How many requests met each fault.
        refused: How many connections were closed because the store was cut off.
    """

    def __init__(self, endpoint: str, plan: Plan = lambda: Fault.PASS, delay: float = 0.1) -> None:
        parts = urlsplit(endpoint)
        self._target = (parts.hostname, parts.port)
        self.plan = plan
        self.delay = delay
        self.counts: Counter[Fault] = Counter()
        self.refused = 0
        self._mutex = threading.Lock()
        self._is_cut_off = False
        self._connections: set[socket.socket] = set()
        self._server = _Server(self._serve)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="proxy")

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        # Waits for the threads of connections, which end now.
        self.cut_off()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Its URL."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def cut_off(self) -> None:
        """Close every connection, and every new one at once, until `restore`."""
        with self._mutex:
            self._is_cut_off = True
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Let connections through again."""
        with self._mutex:
            self._is_cut_off = False

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), socket.create_connection(self._target, 60) as server:
            if self._admit(client, server):
                try:
                    self._pass_on(client, server)
                finally:
                    with self._mutex:
                        self._connections -= {client, server}

    def _admit(self, client: socket.socket, server: socket.socket) -> bool:
        with self._mutex:
            if self._is_cut_off:
                self.refused += 1
            else:
                self._connections |= {client, server}
            return not self._is_cut_off

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        fault, is_new = Fault.PASS, True
        while True:
            readable, _, _ = select.select([client, server], [], [])
            if client in readable:
                data = client.recv(_CHUNK)
                if is_new and data:
                    fault, is_new = self._next(), False
                if not data or fault is Fault.CUT:
                    return
                if fault is not Fault.STALL:
                    server.sendall(data)
            if server in readable:
                data = server.recv(_CHUNK)
                if not data or fault is Fault.SWALLOW:
                    return
                if fault is Fault.DELAY:
                    time.sleep(self.delay)
                fault, is_new = Fault.PASS, True
                client.sendall(data)

    def _next(self) -> Fault:
        with self._mutex:
            fault = self.plan()
            self.counts[fault] += 1
            return fault


class _Server(socketserver.ThreadingTCPServer):
    # Not daemons, so that closing the server waits for them.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                serve(self.request)

        super().__init__(("127.0.0.1", 0), Handler)
