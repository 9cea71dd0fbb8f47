"""Clients are closed in the process that made them, in the event loop that they live in."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

_PATIENCE = 1.0


def close_in_place() -> Callable[..., None]:
    """What s3fs and gcsfs are to call in place of their own ``close_session`` when a filesystem ends.

    Called with the client's loop and the client, an async context manager. A forked child inherits
    that call. There it would wait for an event loop that does not run, and touch sockets that are the
    parent's. And s3fs closes in whatever loop it finds in the calling thread, which is the user's: the
    client would stay open, with a task that nobody awaits; gcsfs closes from whatever thread it is in.
    """
    return partial(_close, os.getpid())


def _close(pid: int, loop: Any, client: Any, *_: object) -> None:
    if os.getpid() != pid or loop is None or not loop.is_running():
        return
    closed = asyncio.run_coroutine_threadsafe(client.__aexit__(None, None, None), loop)
    if asyncio._get_running_loop() is not loop:
        # The garbage collector may call this in any thread; to wait in the loop's own would block it.
        with suppress(Exception):
            closed.result(_PATIENCE)
