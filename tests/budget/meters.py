"""Counting requests: between the engine and a store in this process, and at an HTTP server."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from checkmate_core import TaskIO
from checkmate_core.testing import CountingTaskIO, RequestCounts

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
    """One HTTP request as an S3 server got it."""

    method: str
    path: str
    query: str

    @property
    def kind(self) -> str:
        """The attribute of `RequestCounts` that counts it."""
        if self.method == "GET":
            # A look whether an object exists is a read here.
            return "lists" if "list-type" in parse_qs(self.query) else "reads"
        return {"HEAD": "reads", "PUT": "writes", "POST": "writes", "DELETE": "removes"}[self.method]


class RequestLog:
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
    """Counts the requests that arrive at an S3 server."""

    def __init__(self, io: TaskIO, log: RequestLog) -> None:
        self.io = io
        self.log = log

    def counts(self) -> RequestCounts:
        kinds = [request.kind for request in list(self.log.requests)]
        return RequestCounts(**{kind: kinds.count(kind) for kind in set(kinds)})
