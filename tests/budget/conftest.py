import logging
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from checkmate_core import open_task_io
from checkmate_core.probe import require_honest_conditions

from .meters import CallMeter, HttpMeter, Meter, RequestLog


@pytest.fixture(scope="session")
def s3_requests() -> Iterator[tuple[str, RequestLog]]:
    """A moto server's endpoint, and what it is asked."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    log = RequestLog(server._server.app)  # type: ignore[union-attr]
    server._server.app = log  # type: ignore[union-attr]
    yield f"http://{host}:{port}", log
    server.stop()


@pytest.fixture(scope="session")
def checkmate_s3_server(s3_requests: tuple[str, RequestLog]) -> str:
    """In place of the shared server: one that counts."""
    return s3_requests[0]


@pytest.fixture(params=["memory", "file", "s3"])
def meter(request: pytest.FixtureRequest) -> Meter:
    """An empty store of each kind, metered."""
    io = open_task_io(request.getfixturevalue(f"checkmate_{request.param}_url"))
    # What a backend may want to find out about its store once is not of any task's budget.
    require_honest_conditions(io)
    if request.param == "s3":
        return HttpMeter(io, request.getfixturevalue("s3_requests")[1])
    return CallMeter(io)
