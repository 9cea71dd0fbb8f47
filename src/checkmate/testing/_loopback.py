"""Servers on this machine's loopback, whatever the environment says of proxies and ports."""

import os
import socket

import pytest


def bypass_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment has no way to this machine's loopback."""
    for name in ("NO_PROXY", "no_proxy"):
        others = os.environ.get(name)
        monkeypatch.setenv(name, f"127.0.0.1,{others}" if others else "127.0.0.1")


def free_port() -> int:
    """A port that nobody listens on now. Another process may be quicker: start again on another one then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
