"""One state of the search: the store, the clients, and what an onlooker remembers."""

from typing import Literal, NamedTuple, TypeAlias

from .store import STAGES, Body, Lock, Manifest, Owner, Request, Stage, Status, Store
from .variants import Bounds

Place: TypeAlias = Literal[
    "idle",
    "bind",
    "look",
    "wait",
    "take",
    "abandon",
    "load",
    "begin",
    "bound",
    "run",
    "work",
    "end",
    "summarise",
    "unbind",
    "cancel",
    "remove",
    "list",
    "bury",
    "sweep",
    "release",
    "delete",
    "put",
    "back",
    "undo",
    "mark",
    "swap",
    "gone",
]
"""Where a client stands: what it does next."""


class Client(NamedTuple):
    """One worker. All of it is gone when its process is.

    Attributes:
        place: What it does next.
        used: Acquisitions that it has behind it.
        epoch: Of the acquisition under way.
        min_epoch: The next acquisition's epoch is at least this.
        seen: The manifest as read before the acquisition.
        sight: The lock as last read.
        manifest: The manifest as read or written since the acquisition.
        known: The versions of the stage objects that it goes by.
        claimed: Positions of the stage objects that it has written.
        lock: The version of the lock that it holds.
        renewals: How often it has sent a renewal.
        pending: The request that it has sent and knows nothing of.
        stage: Position of the stage that it works on.
        attempt: How many stage writes it has made up.
        todo: Positions still to be read, or versions to be removed.
        reopens: Whether it binds again once it has released.
    """

    place: Place = "idle"
    used: int = 0
    epoch: int = 0
    min_epoch: int = 1
    seen: Manifest | None = None
    sight: Lock | None = None
    manifest: Manifest | None = None
    known: tuple[Stage | None, ...] = ()
    claimed: frozenset[int] = frozenset()
    lock: Lock | None = None
    renewals: int = 0
    pending: Request | None = None
    stage: int = 0
    attempt: int = 0
    todo: tuple[int | Request, ...] = ()
    reopens: bool = False

    def version_of(self, at: int) -> Stage | None:
        """The version of a stage object that it goes by; None is absent."""
        return self.known[at - STAGES]

    def record_of(self, at: int) -> Stage | None:
        """What it takes for stored of a stage: garbage of an earlier life is as good as absent."""
        found = self.known[at - STAGES]
        return found if found and self.manifest and found.base == self.manifest.base else None

    def status_of(self, at: int) -> Status:
        """Where it takes a stage to stand."""
        found = self.record_of(at)
        return found.status if found else "CREATED"

    def knowing(self, at: int, version: Stage | None) -> "Client":
        """The same, going by another version of a stage object."""
        index = at - STAGES
        return self._replace(known=(*self.known[:index], version, *self.known[index + 1 :]))


class Onlooker(NamedTuple):
    """What has happened, as no client knows it. The invariants are about this.

    Attributes:
        epoch: The highest epoch that committed a stage, or began to execute one.
        owner: Whose that was.
        completed: Who completed each stage, in this life.
        lives: How often the task was begun.
    """

    epoch: int
    owner: Owner | None
    completed: tuple[Owner | None, ...]
    lives: int


class World(NamedTuple):
    """One state.

    Attributes:
        store: What is stored or may arrive.
        clients: The workers.
        onlooker: What has happened.
        late_left: How many requests may still come late.
        unlocks_left: How often an operator may still release a held lock.
        stages: How many stages the task has.
    """

    store: Store
    clients: tuple[Client, ...]
    onlooker: Onlooker
    late_left: int
    unlocks_left: int
    stages: int

    def with_client(self, number: int, client: Client) -> "World":
        """The same with another state of one client."""
        clients = (*self.clients[:number], client, *self.clients[number + 1 :])
        return World(self.store, clients, self.onlooker, self.late_left, self.unlocks_left, self.stages)


def first_world(bounds: Bounds) -> World:
    """Nothing is stored, and nobody has begun."""
    nothing: tuple[Body | None, ...] = (None,) * (STAGES + bounds.objects)
    return World(
        Store(nothing, frozenset()),
        (Client(),) * bounds.clients,
        Onlooker(0, None, (None,) * bounds.objects, 0),
        bounds.late,
        bounds.unlocks,
        bounds.stages,
    )
