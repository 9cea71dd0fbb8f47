"""Threads for what would block an event loop: storage, and the code of synchronous stages."""

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

T = TypeVar("T")

_STORAGE_THREADS: Final = 32
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def in_loop() -> bool:
    """Whether this thread runs an event loop just now."""
    return asyncio._get_running_loop() is not None


def submit_to_storage(call: Callable[[], T]) -> Future["Outcome[T]"]:
    """Call it in a thread that does nothing but talk to stores.

    The loop's own executor would do, but for applications that fill it with work of their own.
    """
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_STORAGE_THREADS, thread_name_prefix="checkmate-storage")
        return _pool.submit(contextvars.copy_context().run, _outcome, call)


async def in_storage_thread(call: Callable[[], T]) -> T:
    """Await a call in a storage thread. One that has begun is waited for, even if this is canceled."""
    return await _outlast(submit_to_storage(call), lambda: None)


async def in_own_thread(call: Callable[[], T], interrupt: Callable[[], None]) -> T:
    """Await a call in a thread of its own, as it may take days.

    Args:
        call: What to call.
        interrupt: Called if this is canceled, to ask the call for an early end; then it is waited for:
            nothing can stop a thread, and it must not outlive its task.
    """
    future: Future[Outcome[T]] = Future()
    context = contextvars.copy_context()
    threading.Thread(
        target=lambda: future.set_result(context.run(_outcome, call)), name="checkmate-stage"
    ).start()
    return await _outlast(future, interrupt)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What a call gave or raised. A future cannot hold every exception: StopIteration, say."""

    value: T | None = None
    error: BaseException | None = None

    def unwrap(self) -> T:
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


def _outcome(call: Callable[[], T]) -> Outcome[T]:
    try:
        return Outcome(call())
    except BaseException as exc:  # noqa: BLE001 - raised again where it is awaited
        return Outcome(error=exc)


async def _outlast(future: Future[Outcome[T]], interrupt: Callable[[], None]) -> T:
    waiting = asyncio.wrap_future(future)
    try:
        return (await asyncio.shield(waiting)).unwrap()
    except asyncio.CancelledError:
        if not waiting.done():
            interrupt()
        while not waiting.done():
            try:
                await asyncio.wait([waiting])
            except asyncio.CancelledError:
                continue
        raise


def _forget_pool() -> None:
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
