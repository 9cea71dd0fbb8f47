"""The way to an event loop in another thread, and back."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_in(loop: asyncio.AbstractEventLoop, call: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T:
    """Run a coroutine in a loop that runs in another thread, and wait for it.

    As fsspec's ``sync``, at half its cost, which is in every request: no future of futures, and one lock.

    Raises:
        RuntimeError: The loop is closed, is that of the calling thread, or ended before the coroutine did.
        Exception: Whatever the coroutine raised.
    """
    if asyncio._get_running_loop() is loop:
        raise RuntimeError("a coroutine cannot wait for another in the same event loop by blocking it")
    coroutine = call(*args)
    ended = threading.Lock()
    ended.acquire()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        task = loop.create_task(coroutine)
        tasks.append(task)
        task.add_done_callback(lambda _: ended.release())

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:
        coroutine.close()
        raise
    # By the second, for where an interrupt does not end the waiting for a lock.
    while not ended.acquire(timeout=1):
        pass
    task = tasks.pop()
    try:
        if task.cancelled():
            raise RuntimeError("the event loop ended before the request did")
        return task.result()
    finally:
        # Its exception holds this frame.
        del task
