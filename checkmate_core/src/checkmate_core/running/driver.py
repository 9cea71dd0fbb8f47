"""The two ways to do the steps of a plan: in this thread, and in an event loop that is never blocked."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import Any

from checkmate_core.clock import Clock
from checkmate_core.errors import StageTimeoutException, TaskEngineException
from checkmate_core.running.attempt import RunningAttempt
from checkmate_core.running.plan import Plan, Step, Store, Wait, Work
from checkmate_core.suspend import Suspend
from checkmate_core.threads import in_own_thread, in_storage_thread


def drive(plan: Plan, clock: Clock) -> None:
    """Do the steps of a plan one after another in this thread. A coroutine gets an event loop of its own."""
    try:
        step = next(plan)
        while True:
            try:
                value = _do(step, clock)
            except BaseException as exc:  # noqa: BLE001 - the plan decides
                step = plan.throw(_in_its_place(exc, step))
            else:
                step = plan.send(value)
    except StopIteration:
        return


async def adrive(plan: Plan, clock: Clock) -> None:
    """Do the steps of a plan without blocking the event loop.

    Storage goes to threads, and so does a stage's code unless it is a coroutine. If this is canceled, a
    step that runs in a thread is waited for, so that nothing of the task goes on behind its owner's back.
    """
    try:
        step = next(plan)
        while True:
            try:
                value = await _ado(step, clock)
            except BaseException as exc:  # noqa: BLE001 - the plan decides
                step = plan.throw(_in_its_place(exc, step))
            else:
                step = plan.send(value)
    except StopIteration:
        return


def _do(step: Step, clock: Clock) -> object:
    if isinstance(step, Wait):
        clock.sleep(step.seconds)
        return None
    if isinstance(step, Store):
        return step.call()
    if step.is_async:
        return asyncio.run(_within_its_time(step))
    return step.method(*step.arguments)


async def _ado(step: Step, clock: Clock) -> object:
    if isinstance(step, Wait):
        await clock.asleep(step.seconds)
        return None
    if isinstance(step, Store):
        return await in_storage_thread(step.call)
    if step.is_async:
        return await _within_its_time(step)
    return await in_own_thread(partial(step.method, *step.arguments), partial(_interrupt, step.attempt))


async def _within_its_time(work: Work) -> object:
    limit = work.attempt.seconds_left if work.attempt else math.inf
    coroutine: Any = work.method(*work.arguments)
    scope = asyncio.timeout(None if math.isinf(limit) else limit)
    try:
        async with scope:
            return await coroutine
    except TimeoutError as exc:
        if not scope.expired():
            raise
        raise StageTimeoutException(f"the stage took longer than its {limit:.3g} s and was cut off") from exc


def _in_its_place(error: BaseException, step: Step) -> BaseException:
    """The error of a step; a wish to suspend that nobody can fulfil is one like any other."""
    if not isinstance(error, Suspend) or not isinstance(step, Work) or step.attempt is not None:
        return error
    refused = TaskEngineException(
        f"Suspend was raised outside of execute_stage, so the task cannot wait for {error}: rollback_stage and cancel "
        "must come to an end"
    )
    refused.__cause__ = error
    return refused


def _interrupt(attempt: RunningAttempt | None) -> None:
    if attempt is not None:
        attempt.interrupt()
