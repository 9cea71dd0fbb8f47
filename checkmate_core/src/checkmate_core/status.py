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


ACTIVE_STATES: Final = frozenset({StageStatus.CREATED, StageStatus.RUNNING, StageStatus.RETRY})
INACTIVE_STATES: Final = frozenset({StageStatus.COMPLETE, StageStatus.CANCELED, StageStatus.ERROR})
CANCELABLE_STATES: Final = frozenset(
    {StageStatus.UNBOUND, StageStatus.CREATED, StageStatus.RUNNING, StageStatus.RETRY}
)
FINISHED_STATES: Final = frozenset({StageStatus.COMPLETE, StageStatus.CANCELED})
"""States of a task that nothing will ever change again. ERROR can be resumed."""


class _StageStateMachine:
    """Which changes of one stage, and which pairs of neighbouring stages, are possible.

    ::

        UNBOUND ──> CREATED ──> RUNNING ──> COMPLETE
                       │        │ ^  │ ^
                       │        │ │  │ └─ RUNNING (interrupted, executed again)
                       │        v │  v
                       │      RETRY  ERROR ──> RUNNING (the next execute)
                       v        v
                    CANCELED <──┴── RUNNING
    """

    TRANSITIONS: Final = {
        StageStatus.UNBOUND: frozenset({StageStatus.CREATED}),
        StageStatus.CREATED: frozenset({StageStatus.RUNNING, StageStatus.CANCELED}),
        StageStatus.RUNNING: frozenset(
            {
                StageStatus.RUNNING,
                StageStatus.RETRY,
                StageStatus.COMPLETE,
                StageStatus.CANCELED,
                StageStatus.ERROR,
            }
        ),
        StageStatus.RETRY: frozenset({StageStatus.RUNNING, StageStatus.CANCELED, StageStatus.ERROR}),
        StageStatus.ERROR: frozenset({StageStatus.RUNNING}),
        StageStatus.COMPLETE: frozenset[StageStatus](),
        StageStatus.CANCELED: frozenset[StageStatus](),
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
        begun.

        Raises:
            InvalidTransitionException: They cannot.
        """
        for index, (left, right) in enumerate(pairwise(statuses)):
            unbound = StageStatus.UNBOUND in (left, right)
            possible = (
                left is right if unbound else StageStatus.COMPLETE is left or right is StageStatus.CREATED
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
        for status in (
            StageStatus.RUNNING,
            StageStatus.RETRY,
            StageStatus.ERROR,
            StageStatus.CANCELED,
            StageStatus.UNBOUND,
        ):
            if status in statuses:
                return status
        return StageStatus.CREATED
