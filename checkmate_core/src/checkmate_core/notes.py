"""What the engine notes of a stage beside its state: where it stands within, what it waits for."""

from datetime import datetime
from typing import Any, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Cursor(BaseModel):
    """How far a loop over items has come.

    Attributes:
        done: How many items are done.
        key: Key of the last one; None where the loop has none.
    """

    model_config = ConfigDict(frozen=True)

    done: int = Field(default=0, ge=0)
    key: str | None = None


class Progress(BaseModel):
    """What a stage says of how far it is, for people.

    Attributes:
        done: Units done.
        total: Units in all; None where nobody knows.
        message: What is being done.
        at: When it said so.
    """

    model_config = ConfigDict(frozen=True)

    done: float
    total: float | None = None
    message: str = ""
    at: datetime

    def __str__(self) -> str:
        share = f"{self.done:g}" if self.total is None else f"{self.done:g} of {self.total:g}"
        return f"{share}: {self.message}" if self.message else share


class Suspension(BaseModel):
    """What a suspended stage waits for: a time, an event, or whichever comes first.

    Attributes:
        until: It goes on at this time at the latest; None: whenever the event comes.
        event: Name of the event; None: only the time counts.
        field: Attribute of the state that gets the event's data.
    """

    model_config = ConfigDict(frozen=True)

    until: AwareDatetime | None = None
    event: str | None = None
    field: str | None = None

    def __str__(self) -> str:
        waits = [f"event {self.event!r}"] if self.event else []
        if self.until:
            waits.append(f"{self.until:%Y-%m-%d %H:%M:%S %Z}")
        return " or ".join(waits)

    def is_due(self, now: datetime) -> bool:
        """Whether its time has come; an event is somebody else's to look for."""
        return self.until is not None and now >= self.until


class StageNotes(BaseModel):
    """One stage's notes. A value: every change makes another.

    Attributes:
        interruptions: How often in a row the process died in this stage, without a checkpoint in between.
        was_interrupted: The last attempt was cut off, so it must be rolled back before the next.
        retry_at: The next attempt is not made before.
        retry_wait: Seconds that the wait for it takes in all, so that a clock that is wrong cannot
            prolong it.
        suspension: What a SUSPENDED stage waits for.
        events: Events that this stage got, each with the identity of the signal, which is taken once.
        progress: What the stage last said of itself.
        cursors: The loops of the running attempt by their names.
    """

    model_config = ConfigDict(frozen=True)

    interruptions: int = Field(default=0, ge=0)
    was_interrupted: bool = False
    retry_at: AwareDatetime | None = None
    retry_wait: float = 0.0
    suspension: Suspension | None = None
    events: dict[str, str] = Field(default_factory=dict)
    progress: Progress | None = None
    cursors: dict[str, Cursor] = Field(default_factory=dict)

    def but(self, **changes: Any) -> Self:
        """The same notes with these changes."""
        # Most stages never have anything noted, so most changes change nothing.
        if all(getattr(self, name) == value for name, value in changes.items()):
            return self
        return self.model_copy(update=changes)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # Immutable, and copied with every stage.
        return self


NO_NOTES: Final = StageNotes()
"""Of a stage that there is nothing to note of."""
