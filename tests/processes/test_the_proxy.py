"""The proxy does what its plan says; without that, what the other tests survive would prove little."""

import time
from collections.abc import Callable, Sequence

import pytest

from checkmate_core import StorageUnavailableException, TaskIO, VersionConflictException, open_task_io
from checkmate_core.types import ABSENT

from .proxy import Fault, Proxy
from .workers import wait_until


@pytest.fixture
def direct(checkmate_s3_url: str) -> TaskIO:
    return open_task_io(checkmate_s3_url)


@pytest.fixture
def io(proxied_url: str) -> TaskIO:
    """Through the proxy, without any retries of the SDK's own."""
    return open_task_io(proxied_url, config_kwargs={"retries": {"total_max_attempts": 1}, "read_timeout": 1})


def only(*faults: Fault) -> Callable[[], Fault]:
    """These faults for the next requests, then none."""
    left = list(faults)
    return lambda: left.pop(0) if left else Fault.PASS


# The SDK's HTTP client resends once what it lost on a connection that had been used before.
def lost(fault: Fault) -> Sequence[Fault]:
    return [fault, fault]


def test_passes_everything_without_a_plan(io: TaskIO, direct: TaskIO) -> None:
    body = bytes(range(256)) * 4096
    version = io.write("a", body, expect=ABSENT)
    assert io.read("a").data == direct.read("a").data == body
    with pytest.raises(VersionConflictException):
        io.write("a", b"other", expect=ABSENT)
    io.remove("a", expect=version)
    assert not direct.exists("a")


def test_cuts_a_request_before_it_reaches_the_server(io: TaskIO, direct: TaskIO, proxy: Proxy) -> None:
    io.write("warm", b"up")
    proxy.plan = only(*lost(Fault.CUT))
    with pytest.raises(StorageUnavailableException):
        io.write("a", b"1")
    assert proxy.counts[Fault.CUT] >= 1
    assert not direct.exists("a")
    proxy.plan = only()
    io.write("a", b"1")


def test_swallows_the_response_of_a_request_that_was_applied(
    io: TaskIO, direct: TaskIO, proxy: Proxy
) -> None:
    io.write("warm", b"up")
    proxy.plan = only(*lost(Fault.SWALLOW))
    with pytest.raises(StorageUnavailableException):
        io.write("a", b"1", expect=ABSENT)
    assert proxy.counts[Fault.SWALLOW] >= 1
    assert direct.read("a").data == b"1"


def test_delays_a_response(io: TaskIO, proxy: Proxy) -> None:
    io.write("a", b"1")
    proxy.plan, proxy.delay = only(Fault.DELAY), 0.3
    begin = time.monotonic()
    assert io.read("a").data == b"1"
    assert time.monotonic() - begin >= 0.3
    assert proxy.counts[Fault.DELAY] == 1


def test_stalls_a_request_until_the_client_has_enough(io: TaskIO, direct: TaskIO, proxy: Proxy) -> None:
    io.write("warm", b"up")
    proxy.plan = only(*lost(Fault.STALL))
    with pytest.raises(StorageUnavailableException):
        io.write("a", b"1")
    assert proxy.counts[Fault.STALL] >= 1
    assert not direct.exists("a")


def test_cuts_off_connections_old_and_new_until_it_is_restored(
    io: TaskIO, direct: TaskIO, proxy: Proxy
) -> None:
    io.write("a", b"1")
    proxy.cut_off()
    with pytest.raises(StorageUnavailableException):
        io.write("a", b"2")
    assert proxy.refused >= 1
    assert direct.read("a").data == b"1"
    proxy.restore()
    wait_until(lambda: io.read("a").data == b"1")
