"""A server in a process of its own, which ends with this one, however this one ends."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from checkmate.testing._loopback import free_port

# It ends with its server, and the other way round when the other end of the pipe closes: with the process
# that holds it, be that killed.
_KEEPER: Final = """
import os, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=lambda: os._exit(server.wait()), daemon=True).start()
sys.stdin.buffer.read()
server.kill()
server.wait()
"""
_PATIENCE: Final = 60.0
_ATTEMPTS: Final = 3


@contextmanager
def server_process(
    command: Callable[[int], Sequence[str]], log: Path, ready: str, *, name: str
) -> Iterator[int]:
    """Run a server on a free port of 127.0.0.1 while the block lasts.

    Args:
        command: The server's program and arguments for a port.
        log: The file that gets its output.
        ready: What stands in its output when, and only when, it listens.
        name: What to call it in errors.

    Yields:
        The port.

    Raises:
        RuntimeError: It does not start; the end of its output says why.
    """
    said = ""
    for attempt in range(_ATTEMPTS):
        port = free_port()
        output = log.with_name(f"{log.name}.{attempt}")
        with output.open("wb") as sink:
            keeper = subprocess.Popen(  # noqa: S603 - the fixture's own program
                [sys.executable, "-I", "-c", _KEEPER, *command(port)],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # An interrupt from the keyboard is for the test run, which then ends this.
                start_new_session=True,
            )
        try:
            if _is_up(keeper, output, ready):
                yield port
                return
            said = output.read_text(errors="replace")[-2000:].strip()
        finally:
            keeper.communicate()
    raise RuntimeError(f"{name} does not start: {said}")


def _is_up(keeper: "subprocess.Popen[bytes]", output: Path, ready: str) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and keeper.poll() is None:
        if ready in output.read_text(errors="replace"):
            return True
        time.sleep(0.01)
    return False
