"""States that differ only in the names of the clients are one."""

from collections.abc import Hashable
from itertools import permutations
from typing import Any

from .store import OPERATOR, PER_CLIENT, Lock, Manifest, Owner, Request, Stage, Store
from .world import Client, Onlooker, World


class Symmetry:
    """Chooses one state for all that are the same but for who is called what."""

    def __init__(self, clients: int) -> None:
        self._renamings = [_Renaming(order) for order in permutations(range(clients))][1:]

    def canonical(self, world: World) -> World:
        """The one that stands for all of them: any will do, as long as it is always the same."""
        if not self._renamings:
            return world
        return min([world, *(renaming.world(world) for renaming in self._renamings)], key=hash)


class _Renaming:
    """Calls client ``i`` by the number ``order[i]``."""

    def __init__(self, order: tuple[int, ...]) -> None:
        self._order = order
        self._sources = sorted(range(len(order)), key=order.__getitem__)
        self._known: dict[Hashable, Any] = {}

    def world(self, world: World) -> World:
        rename, clients, store = self._part, world.clients, world.store
        return World(
            Store(
                tuple([rename(body) for body in store.objects]),
                frozenset([rename(request) for request in store.late]) if store.late else store.late,
            ),
            tuple([rename(clients[source]) for source in self._sources]),
            rename(world.onlooker),
            world.late_left,
            world.unlocks_left,
            world.stages,
        )

    def _part(self, part: Any) -> Any:
        found = self._known.get(part, self)
        if found is self:
            found = self._known[part] = self._rename(part)
        return found

    def _rename(self, part: Any) -> Any:
        match part:
            case Lock():
                return part._replace(owner=self._owner_or_none(part.owner), by=self._owner(part.by))
            case Manifest() | Stage():
                return part._replace(by=self._owner(part.by), life=self._owner(part.life))
            case Request():
                return part._replace(
                    by=self._owner(part.by), body=self._part(part.body), expect=self._part(part.expect)
                )
            case Onlooker():
                return part._replace(
                    owner=self._owner_or_none(part.owner),
                    completed=tuple(map(self._owner_or_none, part.completed)),
                )
            case Client():
                return part._replace(
                    seen=self._part(part.seen),
                    sight=self._part(part.sight),
                    manifest=self._part(part.manifest),
                    known=tuple(map(self._part, part.known)),
                    lock=self._part(part.lock),
                    pending=self._part(part.pending),
                    todo=tuple(map(self._part, part.todo)),
                )
            case _:
                return part

    def _owner(self, owner: Owner) -> Owner:
        if owner == OPERATOR:
            return owner
        number, which = divmod(owner, PER_CLIENT)
        return self._order[number] * PER_CLIENT + which

    def _owner_or_none(self, owner: Owner | None) -> Owner | None:
        return None if owner is None else self._owner(owner)
