"""What was found, as frozen values that `dataclasses.asdict` and `json.dumps` take as they are."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a store is good for."""

    SAFE = "SAFE"
    """Known to honour its conditions, and every check passed."""
    UNPROVEN = "UNPROVEN"
    """Every check passed, but nothing else is known of it: a race can show a fault, never its absence."""
    UNSAFE = "UNSAFE"
    """It ignored a condition, or a race had two winners: never lock here."""
    NO_LOCKS = "NO_LOCKS"
    """It cannot create or swap, and says so: only ``no_lock=True`` works here."""
    UNUSABLE = "UNUSABLE"
    """It cannot be reached, or refuses something that is needed."""

    @property
    def may_lock(self) -> bool:
        """Whether locks may be held there."""
        return self in (Verdict.SAFE, Verdict.UNPROVEN)


@dataclass(frozen=True, slots=True)
class Permission:
    """One operation that was tried.

    Attributes:
        operation: Which one.
        error: Why it failed, with the permission that is missing; None if it did not.
        is_unsupported: It failed because the store does not offer it.
    """

    operation: str
    error: str | None = None
    is_unsupported: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition that an honest store honours.

    Attributes:
        name: What must be refused.
        fault: What the store did instead of refusing, in words; None if it refused.
        error: Why that could not be found out; None if it could.
    """

    name: str
    fault: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Race:
    """Many writers who want one object at one moment, again and again.

    Attributes:
        kind: ``create`` or ``swap``.
        contenders: Threads in each round, spread over the doors.
        winners: How many were told in each round that their write was applied; there must be one.
        faults: What else must not be, in words, such as the write of a loser that was applied.
        errors: Answers that were neither yes nor no; each text once.
    """

    kind: str
    contenders: int
    winners: tuple[int, ...]
    faults: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one request took, from call to return, in milliseconds.

    Attributes:
        operation: ``read`` or ``swap``.
        requests: How many were made, one after the other.
        median_ms: Half of them were quicker.
        worst_ms: The slowest.
    """

    operation: str
    requests: int
    median_ms: float
    worst_ms: float


@dataclass(frozen=True, slots=True)
class ClockDifference:
    """The store's clock less this host's, in seconds. For information: no lock depends on it.

    Attributes:
        seconds: Above 0, the store is ahead.
        uncertainty: The true difference is within so many seconds of that: half of the request's time
            and half of the resolution.
        resolution: Of the store's times.
    """

    seconds: float
    uncertainty: float
    resolution: float


@dataclass(frozen=True, slots=True)
class Door:
    """One way to the store, and what was found there.

    Attributes:
        base_url: Its URL, without query.
        endpoint: Endpoint and bucket; None where the store is known to honour its conditions.
        is_known_good: The store is known to honour its conditions.
        backend: Class of the backend.
        capabilities: What it declares.
        permissions: What was tried, in order.
        conditions: Whether it honours what it declares; empty where a permission is missing.
        latencies: Likewise.
        clock: Likewise; else None.
        left_behind: URLs of objects that could not be removed.
    """

    base_url: str
    endpoint: str | None
    is_known_good: bool
    backend: str
    capabilities: tuple[str, ...]
    permissions: tuple[Permission, ...]
    conditions: tuple[Condition, ...] = ()
    latencies: tuple[Latency, ...] = ()
    clock: ClockDifference | None = None
    left_behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that an examination found.

    Attributes:
        verdict: What the store is good for.
        reason: Why, and what to do, in a sentence or two.
        doors: One for each URL.
        races: Between all doors; empty where a permission is missing.
    """

    verdict: Verdict
    reason: str
    doors: tuple[Door, ...]
    races: tuple[Race, ...]
