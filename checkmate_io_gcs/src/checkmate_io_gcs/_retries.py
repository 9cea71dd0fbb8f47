"""Which answers are worth another try, and for how long.

Sending a conditional write again is safe: whoever meets the own first copy is told "conflict", and
`checkmate_core.io.cas` finds out whose write stands there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import ClientConnectionError, ClientPayloadError, ClientSSLError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_exponential, wait_random

from checkmate_io_gcs._requests import RefusedError

T = TypeVar("T")

RATE_LIMIT_PATIENCE: Final = 15.0
"""Seconds to wait in all for an object's turn: one write of it a second, shared by all who write it."""
ATTEMPTS: Final = 3
"""How often a request is sent that fails for any other passing reason."""

_TRANSIENT: Final = frozenset({408, 500, 502, 503, 504})
_log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


async def persist(once: Callable[[], Awaitable[T]], sleep: Sleep = asyncio.sleep) -> T:
    """Do ``once``, and again where that may help.

    A 429 was surely not applied and is waited out; other passing failures are tried again a few times.
    """
    failure: Exception | None = None
    try:
        return await once()
    except Exception as exc:
        if not _may_pass(exc):
            raise
        failure = exc

    async def again() -> T:
        # The first failure counts. But a request that is answered, as nearly all are, pays nothing for
        # the machinery of retries.
        nonlocal failure
        if failure is not None:
            first, failure = failure, None
            raise first
        return await once()

    return await AsyncRetrying(
        retry=retry_if_exception(_may_pass),
        stop=_Patience(),
        wait=wait_exponential(multiplier=0.25, max=4.0) + wait_random(0.0, 0.25),
        sleep=sleep,
        before_sleep=_log_retry,
        reraise=True,
    )(again)


class _Patience:
    """Says when to give up."""

    def __init__(self) -> None:
        self._failures = 0

    def __call__(self, state: RetryCallState) -> bool:
        if _is_throttled(_error(state)):
            return state.idle_for >= RATE_LIMIT_PATIENCE
        self._failures += 1
        return self._failures >= ATTEMPTS


def _may_pass(exc: BaseException) -> bool:
    if isinstance(exc, RefusedError):
        return _is_throttled(exc) or exc.status in _TRANSIENT
    # aiohttp resends what is idempotent once, over a connection that turns out to be closed; no POST.
    return isinstance(exc, ClientConnectionError | ClientPayloadError | TimeoutError) and not isinstance(
        exc, ClientSSLError
    )


def _is_throttled(exc: BaseException | None) -> bool:
    return isinstance(exc, RefusedError) and exc.status == 429


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _log_retry(state: RetryCallState) -> None:
    _log.info("request failed (attempt %d), sending it again: %s", state.attempt_number, _error(state))
