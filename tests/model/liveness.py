"""From wherever a search can get, a waiter alone gets on: no state is a dead end."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .protocol import Protocol
from .store import LOCK, MANIFEST, PER_CLIENT, Body, Lock, Manifest, Store
from .variants import Bounds, Flaw
from .world import Client, Onlooker, Place, World

WAITING: frozenset[Place] = frozenset({"idle", "bind", "look", "wait"})
"""Where a client is that has not acquired the lock and has sent nothing."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """A state that the waiter cannot get on from.

    Attributes:
        objects: What is stored.
        waiter: The client, with everybody else dead and nothing under way.
        wanted: What it does not reach.
    """

    objects: tuple[Body | None, ...]
    waiter: Client
    wanted: str


def find_stuck(worlds: Iterable[World], bounds: Bounds, flaw: Flaw | None = None) -> tuple[int, Stuck | None]:
    """Look from every state, with all other clients dead, whether a waiter gets the lock, and ends the task.

    The waiter's polls are all that is needed, in no order in particular: whichever state other
    waiters bring it to is one of those looked at, so nobody can be kept out for ever but by chance.

    Returns:
        How many different situations there were, and one without a way on.
    """
    waiters = _Waiters(Protocol(_unbounded(bounds), flaw))
    seen: set[tuple[tuple[Body | None, ...], int, Client]] = set()
    for world in worlds:
        for number, client in enumerate(world.clients):
            key = (world.store.objects, number, client)
            if client.place not in WAITING or key in seen:
                continue
            seen.add(key)
            wanted = waiters.misses(_alone(world, number))
            if wanted:
                return len(seen), Stuck(world.store.objects, client, wanted)
    return len(seen), None


class _Waiters:
    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._good: set[World] = set()

    def misses(self, first: World) -> str | None:
        """What the one client of this world cannot reach; None if it gets on."""
        if first in self._good:
            return None
        parents: dict[World, World | None] = {first: None}
        queue, has_lock = [first], False
        for world in queue:
            number, client = next((n, c) for n, c in enumerate(world.clients) if c.place != "gone")
            held = world.store.objects[LOCK]
            has_lock = has_lock or (isinstance(held, Lock) and held.owner is not None and client.lock == held)
            if world in self._good or _is_ended(world):
                self._keep(world, parents)
                return None
            for step in self._protocol.steps_of(world, number):
                if step.world not in parents:
                    parents[step.world] = world
                    queue.append(step.world)
        return "the end of the task" if has_lock else "the lock"

    def _keep(self, world: World | None, parents: dict[World, World | None]) -> None:
        while world is not None:
            self._good.add(world)
            world = parents.get(world)


def _is_ended(world: World) -> bool:
    manifest, held = world.store.objects[MANIFEST], world.store.objects[LOCK]
    is_ended = isinstance(manifest, Manifest) and manifest.kind == "ended"
    return is_ended and not (isinstance(held, Lock) and held.owner is not None)


def _alone(world: World, number: int) -> World:
    gone = Client(place="gone")
    clients = tuple(client if n == number else gone for n, client in enumerate(world.clients))
    onlooker = Onlooker(0, None, world.onlooker.completed, 0)
    return World(Store(world.store.objects, frozenset()), clients, onlooker, 0, 0, world.stages)


def _unbounded(bounds: Bounds) -> Bounds:
    """The same without anything going wrong, and with as many acquisitions as are ever needed."""
    return replace(
        bounds,
        acquisitions=PER_CLIENT,
        lives=PER_CLIENT,
        late=0,
        renewals=0,
        unlocks=0,
        errors=False,
        cancels=False,
        cleans=False,
        rollbacks=False,
        kills=False,
        interruptions=False,
        torn_reads=False,
    )
