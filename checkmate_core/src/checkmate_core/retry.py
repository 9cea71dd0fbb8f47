"""RetryPolicy: whether to try a failed stage again, and after how long."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isinf
from typing import Any, ClassVar, TypeAlias

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_exponential, wait_fixed, wait_random

from checkmate_core.errors import (
    IncompatibleTaskException,
    InvalidStateException,
    MissingStateException,
    TaskEngineException,
)
from checkmate_core.imported import find_imported, qualified_name

Condition: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Exception types, or a predicate on the exception."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A value that says when a failed stage is tried again.

    How often is not the policy's: that is ``max_attempts`` of the engine or of the stage. Make one
    with `fixed` or `exponential`; `NONE` never retries. Waits are tenacity's. Policies compare by
    value, and pickle if their conditions do.

    Attributes:
        initial: Seconds before the second attempt; None means never to retry.
        factor: Each further wait is this many times the one before.
        cap: No wait is longer, jitter included, in seconds.
        jitter: Up to this many random seconds are added to each wait, so that many workers that
            failed together do not come back together.
        retry_on: Retry only what matches.
        give_up_on: Never retry what matches; stronger than ``retry_on``.
    """

    initial: float | None = None
    factor: float = 1.0
    cap: float = inf
    jitter: float = 0.0
    retry_on: Condition = (Exception,)
    give_up_on: Condition = ()

    NONE: ClassVar["RetryPolicy"]

    def __post_init__(self) -> None:
        for name in ("retry_on", "give_up_on"):
            # One form for one meaning, so that equal policies are equal.
            if isinstance(condition := getattr(self, name), type):
                object.__setattr__(self, name, (condition,))
        if self.initial is None:
            return
        if self.initial < 0 or self.jitter < 0 or self.cap < 0 or self.factor < 1:
            raise TaskEngineException(
                "a retry policy needs initial, jitter and cap of at least 0 seconds and a factor of "
                f"at least 1, not {self!r}"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> "RetryPolicy":
        return self

    @classmethod
    def fixed(
        cls,
        wait: float = 1.0,
        *,
        jitter: float = 0.0,
        retry_on: Condition = Exception,
        give_up_on: Condition = (),
    ) -> "RetryPolicy":
        """Wait the same number of seconds before every further attempt.

        Raises:
            TaskEngineException: A negative number.
        """
        return cls(wait, jitter=jitter, retry_on=retry_on, give_up_on=give_up_on)

    @classmethod
    def exponential(
        cls,
        initial: float = 1.0,
        *,
        factor: float = 2.0,
        cap: float = 60.0,
        jitter: float = 1.0,
        retry_on: Condition = Exception,
        give_up_on: Condition = (),
    ) -> "RetryPolicy":
        """Wait ``initial`` seconds, then ``factor`` times longer each time, never above ``cap``.

        Raises:
            TaskEngineException: A negative number, or a factor below 1.
        """
        return cls(initial, factor, cap, jitter, retry_on, give_up_on)

    def should_retry(self, error: BaseException) -> bool:
        """Whether another attempt may help against ``error``."""
        if self.initial is None or isinstance(error, (MissingStateException, InvalidStateException)):
            return False
        return _matches(self.retry_on, error) and not _matches(self.give_up_on, error)

    def wait_seconds(self, failures: int) -> float:
        """Seconds to wait after this many failed attempts in a row (1 for the first)."""
        if self.initial is None:
            return 0.0
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = failures
        return min(self.cap, self._wait()(state))

    def dump(self) -> dict[str, Any]:
        """The policy in JSON terms; a predicate is stored as None, since code is never stored."""
        return {
            "initial": self.initial,
            "factor": self.factor,
            "cap": None if isinf(self.cap) else self.cap,
            "jitter": self.jitter,
            "retry_on": _dump_condition(self.retry_on),
            "give_up_on": _dump_condition(self.give_up_on),
        }

    @classmethod
    def parse(cls, stored: dict[str, Any]) -> "RetryPolicy":
        """The policy that `dump` gave.

        Raises:
            IncompatibleTaskException: It has a predicate, or an exception class that nothing in this
                process has imported, or it is none.
        """
        try:
            return cls(
                stored["initial"],
                stored["factor"],
                inf if stored["cap"] is None else stored["cap"],
                stored["jitter"],
                _parse_condition(stored["retry_on"]),
                _parse_condition(stored["give_up_on"]),
            )
        except (KeyError, TypeError) as exc:
            raise IncompatibleTaskException(
                f"the stored retry policy cannot be read ({exc!r}); pass retry_policy=…"
            ) from exc

    def _wait(self) -> wait_base:
        initial = self.initial or 0.0
        wait: wait_base = (
            wait_fixed(initial)
            if self.factor == 1.0
            else wait_exponential(multiplier=initial, exp_base=self.factor, max=min(self.cap, 1e9))
        )
        return wait + wait_random(0, self.jitter) if self.jitter else wait


RetryPolicy.NONE = RetryPolicy()


def check_attempts(
    name: str, max_attempts: int, policy: RetryPolicy, *, warn_if_useless: bool = False
) -> None:
    """Refuse a number of attempts that the policy contradicts.

    Args:
        name: What to call the number in messages.
        max_attempts: The first attempt included.
        policy: The policy that goes with it.
        warn_if_useless: Warn about a policy that one attempt leaves nothing to do.

    Raises:
        TaskEngineException: Less than 1, or more than 1 with a policy that never retries.
    """
    if max_attempts < 1:
        raise TaskEngineException(f"{name} is {max_attempts}; it must be at least 1")
    if policy == RetryPolicy.NONE and max_attempts != 1:
        raise TaskEngineException(
            f"{name} is {max_attempts} but the retry policy is RetryPolicy.NONE, which never retries; "
            "pass a policy such as RetryPolicy.exponential()"
        )
    if warn_if_useless and policy != RetryPolicy.NONE and max_attempts == 1:
        warnings.warn(
            f"{name} is 1, so the retry policy has no effect: pass max_attempts=2 or more", stacklevel=4
        )


def _matches(condition: Condition, error: BaseException) -> bool:
    return isinstance(error, condition) if isinstance(condition, (type, tuple)) else condition(error)


def _dump_condition(condition: Condition) -> list[str] | None:
    return [qualified_name(each) for each in condition] if isinstance(condition, tuple) else None


def _parse_condition(stored: list[str] | None) -> Condition:
    if stored is None:
        raise IncompatibleTaskException(
            "the stored retry policy decides by a function, which is never stored; pass retry_policy=…"
        )
    found = []
    for name in stored:
        error_class = find_imported(name)
        if error_class is None or not issubclass(error_class, BaseException):
            raise IncompatibleTaskException(
                f"the stored retry policy names the exception {name}, which nothing in this process has "
                "imported; import its module first, or pass retry_policy=…"
            )
        found.append(error_class)
    return tuple(found)
