"""All that is known of a run, which the guarantees are checked against."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from checkmate_core.testing.simulation.log import Log
from checkmate_core.testing.simulation.scenario import Scenario
from checkmate_core.testing.simulation.store import Change
from checkmate_core.testing.simulation.trace import Body


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of a run.

    Attributes:
        scenario: Its circumstances.
        changes: What the store applied, in order.
        bodies: What was stored in the end.
        log: What processes saw and did.
        unexpected: Errors that no fault explains: who, and what.
        finished: The tasks that were brought to their end, and how many tries it took.
        cancels: The tasks that somebody tried to cancel.
        rollbacks: The tasks that somebody tried to roll back.
        undisturbed: The states that the stages of an undisturbed run have in the end, by their names.
        operators: The processes that released a lock by an operator's say-so.
    """

    scenario: Scenario
    changes: list[Change]
    bodies: dict[str, Body]
    log: Log
    unexpected: list[tuple[str, BaseException]]
    finished: dict[str, int]
    cancels: set[str]
    rollbacks: set[str]
    undisturbed: dict[str, Body]
    operators: set[str]

    def live_stages(self) -> Iterator[tuple[Change, Body]]:
        """The changes of stages that count in their task's life at that moment, with what was written."""
        for change in self.changes:
            if (body := change.live_body) is not None:
                yield change, body


Faults: TypeAlias = Iterator[str]
"""What is wrong, in words."""


def say(change: Change) -> str:
    """A change in a few words."""
    body = change.body
    if body is None:
        return f"{change.name} (removed)"
    status = body.get("status") or ("released" if "renewed_at" in body and body["owner"] is None else "")
    return f"{change.name} ({status} epoch {body.get('epoch')} by {change.by})"


def comparable(state: Body) -> Body:
    """A state without what differs between runs: which letters came, not how many."""
    return {**state, "mail": {name: len(letters) for name, letters in state["mail"].items()}}
