import logging
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from checkmate.testing._gcs_proxy import GcsProxy
from checkmate_core import TaskIO, open_task_io
from checkmate_core.probe import require_honest_conditions
from tests.backends.azure_servers import recorded

from .meters import CallMeter, GcsLog, HttpMeter, Meter, ProxyLog, RequestLog, WsgiLog

# Kinds of store that are reached over HTTP.
HTTP = ("s3", "gcs", "azure")
# What the servers that count are asked, by kind of store.
LOGS = pytest.StashKey[dict[str, RequestLog]]()


@pytest.fixture(scope="session")
def logs(request: pytest.FixtureRequest) -> dict[str, RequestLog]:
    return request.config.stash.setdefault(LOGS, {})


@pytest.fixture(scope="session")
def checkmate_s3_server(logs: dict[str, RequestLog]) -> Iterator[str]:
    """In place of the shared server: one that counts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    log = WsgiLog(server._server.app)  # type: ignore[union-attr]
    server._server.app = log  # type: ignore[union-attr]
    logs["s3"] = log
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def checkmate_azure_server(checkmate_azure_server: str, logs: dict[str, RequestLog]) -> Iterator[str]:
    """The shared server, behind a proxy that counts."""
    with recorded(checkmate_azure_server) as proxy:
        logs["azure"] = ProxyLog(proxy)
        yield proxy.endpoint


@pytest.fixture(scope="session")
def checkmate_gcs_server(checkmate_gcs_server: str, logs: dict[str, RequestLog]) -> Iterator[str]:
    """The shared server; its own proxy counts."""
    log = GcsLog()
    logs["gcs"] = log
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GcsProxy, "note", lambda _, request: log.note(request))
        yield checkmate_gcs_server


@pytest.fixture(params=HTTP)
def http_meter(request: pytest.FixtureRequest, logs: dict[str, RequestLog]) -> HttpMeter:
    """An empty store of each kind that is reached over HTTP, metered at its server."""
    return _http_meter(request, logs)


@pytest.fixture(params=["memory", "file", *HTTP])
def meter(request: pytest.FixtureRequest, logs: dict[str, RequestLog]) -> Meter:
    """An empty store of each kind, metered."""
    if request.param in HTTP:
        return _http_meter(request, logs)
    return CallMeter(_opened(request))


def _http_meter(request: pytest.FixtureRequest, logs: dict[str, RequestLog]) -> HttpMeter:
    io = _opened(request)
    return HttpMeter(io, logs[request.param])


def _opened(request: pytest.FixtureRequest) -> TaskIO:
    io = open_task_io(request.getfixturevalue(f"checkmate_{request.param}_url"))
    # What a backend may want to find out about its store once is not of any task's budget.
    require_honest_conditions(io)
    return io
