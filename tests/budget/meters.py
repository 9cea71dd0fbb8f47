"""Counting requests: between the engine and a store in this process, and at an HTTP server."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from checkmate_core import TaskIO
from checkmate_core.testing import CountingTaskIO, RequestCounts
from tests.backends.azure_servers import Recorded

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass
class Measured:
    """What was counted within a `Meter.measure` block, once it has ended."""

    counts: RequestCounts = field(default_factory=RequestCounts)


class Meter(ABC):
    """A store, and how many requests it gets.

    Attributes:
        io: The store.
    """

    io: TaskIO

    @abstractmethod
    def counts(self) -> RequestCounts:
        """The requests so far."""

    @contextmanager
    def measure(self) -> Iterator[Measured]:
        """Count the requests made within the block."""
        measured, before = Measured(), self.counts()
        try:
            yield measured
        finally:
            measured.counts = self.counts() - before


class CallMeter(Meter):
    """Counts the engine's calls of a store."""

    def __init__(self, io: TaskIO) -> None:
        self.io = self._counting = CountingTaskIO(io)

    def counts(self) -> RequestCounts:
        return self._counting.counts


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as a server got it."""

    method: str
    path: str
    query: str

    @property
    def kind(self) -> str:
        """The attribute of `RequestCounts` that counts it."""
        if self.method == "GET":
            # A look whether an object exists is a read here.
            query = parse_qs(self.query)
            is_list = not query.keys().isdisjoint({"list-type", "maxResults"}) or query.get("comp") == [
                "list"
            ]
            return "lists" if is_list else "reads"
        return {"HEAD": "reads", "PUT": "writes", "POST": "writes", "DELETE": "removes"}[self.method]


class RequestLog(Protocol):
    """Which requests a server got so far."""

    @property
    def requests(self) -> list[Request]: ...


class ProxyLog:
    """The requests that a recording proxy saw."""

    def __init__(self, proxy: Recorded) -> None:
        self._proxy = proxy

    @property
    def requests(self) -> list[Request]:
        split = ((seen.method, *seen.target.partition("?")[::2]) for seen in list(self._proxy.requests))
        return [Request(*parts) for parts in split]


class GcsLog:
    """The requests that the proxy of the GCS emulator passed on."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def note(self, request: bytes) -> None:
        method, target, _ = request.partition(b"\r\n")[0].decode().split(" ")
        path, _, query = target.partition("?")
        self.requests.append(Request(method, path, query))


class WsgiLog:
    """A WSGI application that notes each request and passes it on."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app
        self._lock = threading.Lock()
        self.requests: list[Request] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
        with self._lock:
            self.requests.append(request)
        return self._app(environ, start_response)


class HttpMeter(Meter):
    """Counts the requests for one store that arrive at a server."""

    def __init__(self, io: TaskIO, log: RequestLog) -> None:
        self.io = io
        self._log = log
        self._bucket = urlsplit(io.base_url).netloc

    @property
    def requests(self) -> list[Request]:
        """Those so far. An earlier test's engine may still renew the lock of another store."""
        return [request for request in self._log.requests if self._bucket in request.path]

    def counts(self) -> RequestCounts:
        kinds = [request.kind for request in self.requests]
        return RequestCounts(**{kind: kinds.count(kind) for kind in set(kinds)})
