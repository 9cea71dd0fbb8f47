"""Commands that run stages, and are asked to stop: the task is let go at once, and can be resumed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

# What a shell says of a process that ended by the signal.
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class _Terminated(SystemExit):
    """SIGTERM arrived."""


@contextmanager
def let_go_when_stopped(what: str) -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C: interrupt the stage, release the lock, say so, and exit.

    A second SIGTERM ends the process at once.

    Args:
        what: What can be gone on with, for the message.

    Raises:
        click.exceptions.Exit: With 130 after Ctrl-C, 143 after SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except (KeyboardInterrupt, _Terminated) as exc:
        number = signal.SIGTERM if isinstance(exc, _Terminated) else signal.SIGINT
        click.echo(f"checkmate: stopped by {number.name}; {what}", err=True)
        raise click.exceptions.Exit(_EXIT_CODES[number]) from exc
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(_: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise _Terminated
