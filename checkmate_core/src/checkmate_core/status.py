"""StageStatus and the one state machine that allows its changes."""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final

from checkmate_core.errors import InvalidTransitionException


class StageStatus(StrEnum):
    """Where a stage, or a whole task, stands."""

    UNBOUND = "UNBOUND"
    """Not bound to an engine; nothing is known of what is stored."""
    CREATED = "CREATED"
    """Bound, never begun."""
    RUNNING = "RUNNING"
    """An attempt is under way, or was when its process died."""
    RETRY = "RETRY"
    """An attempt failed; another follows."""
    COMPLETE = "COMPLETE"
    """Done; never executed again."""
    CANCELED = "CANCELED"
    """Canceled; never executed again."""
    ERROR = "ERROR"
    """Failed for good; the next execute starts here with fresh attempts."""
    SUSPENDED = "SUSPENDED"
    """Waits for a time or an event; no process runs meanwhile."""
    ROLLING_BACK = "ROLLING_BACK"
    """Its rollback is under way, or was when its process died."""
    ROLLED_BACK = "ROLLED_BACK"
    """Rolled back, as the whole task is or will be; never executed again."""


ACTIVE_STATES: Final = frozenset(
    {StageStatus.CREATED, StageStatus.RUNNING, StageStatus.RETRY, StageStatus.ROLLING_BACK}
)
INACTIVE_STATES: Final = frozenset(
    {
        StageStatus.COMPLETE,
        StageStatus.CANCELED,
        StageStatus.ERROR,
        StageStatus.SUSPENDED,
        StageStatus.ROLLED_BACK,
    }
)
CANCELABLE_STATES: Final = frozenset(
    {
        StageStatus.UNBOUND,
        StageStatus.CREATED,
        StageStatus.RUNNING,
        StageStatus.RETRY,
        StageStatus.SUSPENDED,
    }
)
FINISHED_STATES: Final = frozenset({StageStatus.COMPLETE, StageStatus.CANCELED, StageStatus.ROLLED_BACK})
"""States of a task that nothing will ever change again. ERROR can be resumed."""
ROLLBACK_STATES: Final = frozenset({StageStatus.ROLLING_BACK, StageStatus.ROLLED_BACK})
"""States of a stage whose task goes backwards."""


class _StageStateMachine:
    """Which changes of one stage, and which pairs of neighbouring stages, are possible.

    ::

        UNBOUND ──> CREATED ──> RUNNING ──> COMPLETE
                       │        │ ^  │ ^
                       │        │ │  │ └─ RUNNING (interrupted, executed again)
                       │        v │  v
                       │      RETRY  ERROR ──> RUNNING (the next execute)
                       │     SUSPENDED ──> RUNNING (its time or its event has come)
                       v        v
                    CANCELED <──┴── RUNNING

    and backwards, where the task is rolled back::

        RUNNING, RETRY, SUSPENDED, ERROR, COMPLETE ──> ROLLING_BACK ──> ROLLED_BACK
        CREATED (never begun), RUNNING (failed for good, and rolled back) ──────^
    """

    TRANSITIONS: Final = {
        StageStatus.UNBOUND: frozenset({StageStatus.CREATED}),
        StageStatus.CREATED: frozenset({StageStatus.RUNNING, StageStatus.CANCELED, StageStatus.ROLLED_BACK}),
        StageStatus.RUNNING: frozenset(
            {
                StageStatus.RUNNING,
                StageStatus.RETRY,
                StageStatus.COMPLETE,
                StageStatus.CANCELED,
                StageStatus.ERROR,
                StageStatus.SUSPENDED,
                *ROLLBACK_STATES,
            }
        ),
        StageStatus.RETRY: frozenset(
            {StageStatus.RUNNING, StageStatus.CANCELED, StageStatus.ERROR, StageStatus.ROLLING_BACK}
        ),
        StageStatus.SUSPENDED: frozenset(
            {StageStatus.RUNNING, StageStatus.CANCELED, StageStatus.ROLLING_BACK}
        ),
        StageStatus.ERROR: frozenset({StageStatus.RUNNING, StageStatus.ROLLING_BACK}),
        StageStatus.COMPLETE: frozenset({StageStatus.ROLLING_BACK}),
        StageStatus.CANCELED: frozenset[StageStatus](),
        StageStatus.ROLLING_BACK: ROLLBACK_STATES,
        StageStatus.ROLLED_BACK: frozenset[StageStatus](),
    }

    @classmethod
    def check_transition(cls, current: StageStatus, new: StageStatus, where: str) -> None:
        """Raise unless a stage may go from ``current`` to ``new``.

        Raises:
            InvalidTransitionException: It may not.
        """
        if new not in cls.TRANSITIONS[current]:
            allowed = ", ".join(sorted(cls.TRANSITIONS[current])) or "none: it is final"
            raise InvalidTransitionException(
                f"{where} cannot go from {current} to {new} (allowed: {allowed})"
            )

    @classmethod
    def check_neighbours(cls, statuses: Sequence[StageStatus], where: str) -> None:
        """Raise unless these can be the statuses of the consecutive stages of one task.

        Stages run one after another, so whatever follows a stage that is not COMPLETE has not
        begun. They are rolled back in reverse order.

        Raises:
            InvalidTransitionException: They cannot.
        """
        for index, (left, right) in enumerate(pairwise(statuses)):
            unbound = StageStatus.UNBOUND in (left, right)
            possible = (
                left is right
                if unbound
                else left is StageStatus.COMPLETE
                or right is StageStatus.CREATED
                or (left in ROLLBACK_STATES and right is StageStatus.ROLLED_BACK)
            )
            if not possible:
                raise InvalidTransitionException(
                    f"{where} is inconsistent: stage {index} is {left} but stage {index + 1} is {right}; "
                    "stages run in order, so its stored objects were changed by hand or restored in part"
                )

    @classmethod
    def overall(cls, statuses: Sequence[StageStatus], where: str) -> StageStatus:
        """The status of a task with these stages.

        Raises:
            InvalidTransitionException: They cannot be the stages of one task.
        """
        cls.check_neighbours(statuses, where)
        if all(status is StageStatus.COMPLETE for status in statuses):
            return StageStatus.COMPLETE
        if ROLLBACK_STATES & set(statuses):
            is_done = statuses[0] is StageStatus.ROLLED_BACK
            return StageStatus.ROLLED_BACK if is_done else StageStatus.ROLLING_BACK
        for status in (
            StageStatus.RUNNING,
            StageStatus.RETRY,
            StageStatus.SUSPENDED,
            StageStatus.ERROR,
            StageStatus.CANCELED,
            StageStatus.UNBOUND,
        ):
            if status in statuses:
                return status
        return StageStatus.CREATED

    @classmethod
    def next_written(cls, statuses: Sequence[StageStatus]) -> int | None:
        """Position of the stage that the task's owner writes next; None where the task is finished.

        That is the one object which a new owner must claim, to keep an earlier one out: the first
        that is not COMPLETE, and the last COMPLETE one where the task is being rolled back.
        """
        first = next((i for i, status in enumerate(statuses) if status is not StageStatus.COMPLETE), None)
        if first is None or statuses[first] is StageStatus.CANCELED:
            return None
        if statuses[first] is StageStatus.ROLLED_BACK:
            return first - 1 if first else None
        return first
