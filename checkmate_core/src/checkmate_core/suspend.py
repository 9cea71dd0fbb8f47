"""Suspend: how a stage lets go of its task until a time or an event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from checkmate_core.errors import MissingStateException, TaskEngineException
from checkmate_core.notes import Suspension
from checkmate_core.state import BaseStageState, travelling_fields

if TYPE_CHECKING:
    from checkmate_core.stage import BaseStage


class Suspend(BaseException):
    """Raise it in `execute_stage` to suspend the task durably.

    The state is stored as it is, the lock is released at unbind, and nothing runs meanwhile. Whoever
    executes the task after the time, or the event, has come runs the stage again from its beginning,
    with that state, and with the event's data in it. No attempt is counted as failed, and nothing is
    rolled back.

    It is control flow, not an error, so like `asyncio.CancelledError` it passes ``except Exception``.

    Attributes:
        suspension: What is waited for.
    """

    def __init__(
        self,
        *,
        until: datetime | timedelta | None = None,
        event: str | None = None,
        field: str | None = None,
    ) -> None:
        """Say what to wait for: a time, an event, or whichever comes first.

        Args:
            until: A time with its zone, or how long from now.
            event: Name of an event, which `CheckMateEngine.signal` or ``checkmate signal`` sends.
            field: Attribute of the state that gets the event's data; the event's name if None.

        Raises:
            TaskEngineException: Neither time nor event, a time without a zone, a field without an event.
        """
        if until is None and not event:
            raise TaskEngineException("Suspend needs something to wait for: until=… or event=…")
        if field is not None and event is None:
            raise TaskEngineException("Suspend(field=…) says where an event's data goes, so it needs event=…")
        if isinstance(until, timedelta):
            until = datetime.now(UTC) + until
        if until is not None and until.tzinfo is None:
            raise TaskEngineException(f"Suspend(until={until!r}) has no time zone; say which, or use UTC")
        self.suspension = Suspension(until=until, event=event, field=field or event)
        super().__init__(str(self.suspension))

    def __reduce__(self) -> tuple[object, tuple[Suspension]]:
        return (_suspend_again, (self.suspension,))


def _suspend_again(suspension: Suspension) -> Suspend:
    return Suspend(until=suspension.until, event=suspension.event, field=suspension.field)


def check_field(stage: BaseStage[Any], suspension: Suspension) -> None:
    """Refuse to wait for an event whose data the stage's state has no place for.

    Raises:
        MissingStateException: It has not.
    """
    state_class: type[BaseStageState] = type(stage.state)
    if suspension.field is not None and suspension.field not in travelling_fields(state_class):
        raise MissingStateException(
            f"stage {stage.stage_name!r} waits for event {suspension.event!r}, and {state_class.__name__} has no "
            f"attribute {suspension.field!r} for its data: add one, or name another with Suspend(field=…)"
        )
