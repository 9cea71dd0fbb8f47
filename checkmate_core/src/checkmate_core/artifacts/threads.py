"""Blocking work for coroutines."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T], stop: Event) -> T:
    """Make a blocking call in a thread.

    If the caller is cancelled, ``stop`` is set and the thread is waited for: whoever was cancelled lets
    the task go next, and nothing may be sent after that.
    """
    task = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            # Looked at, or asyncio complains that nobody did; the cancellation is what counts.
            task.exception()
        raise
