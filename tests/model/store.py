"""The store as the protocol sees it: a few objects, changed one conditional request at a time.

A body is its own version: no two writes have equal ones, as every stored body holds a nonce. What
the real bodies say beyond what the protocol decides by is left out.
"""

from typing import Literal, NamedTuple, TypeAlias

Owner: TypeAlias = int
"""One acquisition of the lock: the client's number times `PER_CLIENT`, plus which of its acquisitions."""

PER_CLIENT = 8
OPERATOR: Owner = -1

LOCK, MANIFEST, STAGES = 0, 1, 2
"""Positions in `World.objects`; the stages follow from `STAGES` on."""


class Lock(NamedTuple):
    """The lock object. ``renewal`` tells the writes of one owner apart."""

    owner: Owner | None
    epoch: int
    by: Owner
    renewal: int


class Manifest(NamedTuple):
    """The manifest, or a tombstone.

    ``life`` is who began it: not stored in truth, but nobody decides by it. ``plan`` is which list of
    stages the task has: 0 as it was begun with, 1 once it was migrated.
    """

    kind: Literal["begun", "ended", "removed"]
    base: int
    epoch: int
    by: Owner
    life: Owner
    plan: int = 0


Status: TypeAlias = Literal[
    "CREATED", "RUNNING", "COMPLETE", "ERROR", "CANCELED", "ROLLING_BACK", "ROLLED_BACK", "REMOVING"
]
BACKWARDS = ("ROLLING_BACK", "ROLLED_BACK")
"""Of a stage whose task goes backwards."""


class Stage(NamedTuple):
    """A stage object.

    ``attempt`` tells the writes of one owner apart; ``life`` is as in `Manifest`. ``migrating``: its owner
    has claimed it to migrate the task, and swaps the manifest next. CREATED is only ever stored so. ``plan`` is that of
    the manifest that its owner goes by.
    """

    status: Status
    epoch: int
    base: int
    by: Owner
    attempt: int
    life: Owner
    plan: int = 0
    migrating: bool = False


Body: TypeAlias = Lock | Manifest | Stage
Purpose: TypeAlias = Literal[
    "take",
    "abandoned take",
    "abandon",
    "renew",
    "release",
    "unlock",
    "begin",
    "end",
    "migrate",
    "settle",
    "bury",
    "stage",
    "sweep",
]


class Request(NamedTuple):
    """One write, or one remove where ``body`` is None.

    Attributes:
        by: Who sends it.
        purpose: What for.
        at: Which object.
        body: What to store.
        expect: The version that its sender goes by; None is absent.
        is_blind: The store is not told of ``expect``: a broken variant at work.
    """

    by: Owner
    purpose: Purpose
    at: int
    body: Body | None
    expect: Body | None
    is_blind: bool = False


class Store(NamedTuple):
    """What is stored, and what may still arrive.

    Attributes:
        objects: The lock, the manifest, the stages.
        late: Requests whose sender does not know what became of them. Each may be applied at any
            time or never, so this is a request that is late, one that was dropped, and one whose
            reply was lost.
    """

    objects: tuple[Body | None, ...]
    late: frozenset[Request]

    def accepts(self, request: Request) -> bool:
        """Whether its precondition holds."""
        return request.is_blind or self.objects[request.at] == request.expect

    def after(self, request: Request) -> "Store":
        """The store once the request was applied."""
        objects = (*self.objects[: request.at], request.body, *self.objects[request.at + 1 :])
        return Store(objects, self.late)

    def without_the_dead(self, *, can_remove: bool) -> "Store":
        """The same without late requests that can never be applied: a version that is gone never comes back."""
        if not self.late:
            return self
        living = frozenset(request for request in self.late if self._may_come(request, can_remove=can_remove))
        return self if len(living) == len(self.late) else self._replace(late=living)

    def _may_come(self, request: Request, *, can_remove: bool) -> bool:
        if self.accepts(request):
            return True
        return request.expect is None and can_remove and request.at != MANIFEST


def live_manifest(objects: tuple[Body | None, ...]) -> Manifest | None:
    """The manifest, if it is not a tombstone."""
    found = objects[MANIFEST]
    return found if isinstance(found, Manifest) and found.kind != "removed" else None


def positions_of(plan: int, stages: int) -> tuple[int, ...]:
    """Where the stages of a task are: a migration gives the last one another name, hence another object."""
    return (*range(STAGES, STAGES + stages - 1), STAGES + stages - 1 + plan)


def live_stage(objects: tuple[Body | None, ...], at: int) -> Stage | None:
    """A stage object, if it counts in the task's present life."""
    manifest, found = live_manifest(objects), objects[at]
    return found if isinstance(found, Stage) and manifest and found.base == manifest.base else None
