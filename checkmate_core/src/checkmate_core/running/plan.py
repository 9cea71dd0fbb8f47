"""The steps that a task's run is made of.

A plan is a generator: it yields a step, and gets back its value or its exception. It says what to do and
leaves doing it to a driver, so that a synchronous and an asynchronous run share every decision.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from checkmate_core.running.attempt import RunningAttempt


@dataclass(frozen=True, slots=True)
class Store:
    """Step: talk to the store, or do what takes as long."""

    call: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Work:
    """Step: run the stage's own code.

    Attributes:
        method: A function, or one that returns a coroutine.
        arguments: Of the method.
        attempt: The attempt that it is, with its time limit; None for rollbacks and the like.
    """

    method: Callable[..., object]
    arguments: tuple[object, ...] = ()
    attempt: RunningAttempt | None = None

    @property
    def is_async(self) -> bool:
        """Whether it must be awaited."""
        return inspect.iscoroutinefunction(self.method)


@dataclass(frozen=True, slots=True)
class Wait:
    """Step: wait so many seconds."""

    seconds: float


Step: TypeAlias = Store | Work | Wait
Plan: TypeAlias = Generator[Step, Any, None]
