"""Every step that anybody can make from one state of the world."""

from collections.abc import Callable, Iterator
from typing import Final

from . import binding, flawed, working
from .binding import HOLDING, Role, role_of
from .invariants import begin_execution, judge, judge_acknowledged
from .steps import Step
from .store import LOCK, MANIFEST, OPERATOR, Body, Lock, Manifest, Request, Stage
from .variants import Bounds, Flaw
from .wording import name_client, tell_body, tell_request
from .world import Client, Place, World
from .writes import WRITES, Write

INTERRUPTIBLE: Final[frozenset[Place]] = HOLDING - {"load", "unbind"}


class Protocol:
    """The protocol, or a broken variant of it, within bounds.

    Attributes:
        believes_in_silence: Whether a waiter may find, at any time, that a lease has run out. It is
            the only way in which a clock comes in: a holder that lives can be found silent too.
    """

    believes_in_silence = True

    def __init__(self, bounds: Bounds, flaw: Flaw | None = None) -> None:
        self.bounds = bounds
        self.flaw = flaw

    def steps(self, world: World) -> Iterator[Step]:
        """Whatever can happen next."""
        for number in range(len(world.clients)):
            yield from self.steps_of(world, number)
        yield from self._late_arrivals(world)
        yield from self._unlock(world)

    def steps_of(self, world: World, number: int) -> Iterator[Step]:
        """What one client can do next, or what can happen to it."""
        client = world.clients[number]
        role = role_of(number, client, self.flaw, self.bounds)
        place = client.place
        if place == "gone":
            return
        if place == "idle":
            if client.used < self.bounds.acquisitions:
                yield self._local(world, role, client._replace(place="bind"), "starts")
            return
        if place in WRITES:
            if not (place == "begin" and world.onlooker.lives >= self.bounds.lives):
                yield from self._writes(world, role, client)
        else:
            yield from self._other_steps(world, role, client)
        if place in HOLDING:
            yield from self._renewals(world, role, client)
            if self.bounds.interruptions and place in INTERRUPTIBLE and client.pending is None:
                yield self._local(world, role, binding.leaving(role, client), "stops")
        is_known_to_others = place in HOLDING or place == "release" or client.pending is not None
        if self.bounds.kills and is_known_to_others and client.used + 1 < self.bounds.acquisitions:
            yield self._local(world, role, binding.started_again(client), "is killed, and can start again")

    def _local(
        self, world: World, role: Role, client: Client, words: str, *found: tuple[Body | None, int]
    ) -> Step:
        def tell() -> str:
            told = "; ".join(tell_body(body, at) for body, at in found)
            return f"{name_client(role.number)} {words}{': ' if told else ''}{told}"

        return Step(tell, world.with_client(role.number, self._capped(client)))

    def _capped(self, client: Client) -> Client:
        # Whoever has no acquisition left never does anything again.
        if client.used >= self.bounds.acquisitions and client.place in ("bind", "look", "wait", "take"):
            return Client(used=client.used)
        return client

    # -- reads and choices

    def _other_steps(self, world: World, role: Role, client: Client) -> Iterator[Step]:
        objects = world.store.objects
        match client.place:
            case "bind":
                seen = objects[MANIFEST]
                if world.onlooker.lives < self.bounds.lives or _is_begun(seen):
                    read = binding.read_manifest(client, seen)
                    yield self._local(world, role, read, "reads", (seen, MANIFEST))
            case "look":
                found = objects[LOCK]
                yield self._local(world, role, binding.look(client, found), "looks", (found, LOCK))
            case "wait":
                if self.believes_in_silence:
                    yield self._local(
                        world, role, client._replace(place="take"), "finds that the lock's holder is silent"
                    )
                if objects[LOCK] != client.sight:
                    yield self._local(world, role, client._replace(place="look"), "polls")
                yield self._local(world, role, Client(used=client.used), "has waited long enough")
            case "load":
                yield from self._loads(world, role, client)
            case "bound":
                yield self._choice(world, role, working.to_execute(role, client), "begins to execute")
                if self.bounds.cancels:
                    yield self._choice(world, role, working.to_cancel(role, client), "begins to cancel")
                if self.bounds.rollbacks:
                    yield self._choice(
                        world, role, working.to_roll_back(role, client), "begins to roll the task back"
                    )
                if self.bounds.migrations and working.may_migrate(role, client):
                    yield self._choice(
                        world, role, working.to_migrate(role, client), "has code with another last stage"
                    )
                if self.bounds.cleans:
                    yield self._choice(
                        world, role, working.to_remove(role, client), "begins to remove the task"
                    )
            case "unbind":
                yield self._choice(world, role, working.to_remove(role, client), "begins to remove the task")
                yield self._choice(world, role, binding.leaving(role, client), "unbinds")
            case "list":
                listed = working.list_objects(role, client, objects)
                yield self._local(world, role, listed, "lists the stage objects")
            case _:
                raise ValueError(client.place)

    def _choice(self, world: World, role: Role, client: Client, words: str) -> Step:
        return flawed.skipping_claim(role, self._local(world, role, client, words))

    def _loads(self, world: World, role: Role, client: Client) -> Iterator[Step]:
        positions = tuple(at for at in client.todo if isinstance(at, int))
        choices = [positions]
        if self.bounds.torn_reads and len(positions) > 1:
            choices += [(at,) for at in positions]
        for chosen in choices:
            read = binding.read_at(client, chosen, world.store.objects)
            broken = None
            if not read.todo:
                read, broken = binding.loaded(role, read)
                if read.reopens and read.place == "bound":
                    raise ValueError(read)
                read = self._helping(role, read)
            found = [(world.store.objects[at], at) for at in chosen]
            step = self._local(world, role, read, "reads", *found)
            yield step._replace(broken=broken)

    @staticmethod
    def _helping(role: Role, client: Client) -> Client:
        if client.place == "bound" and any(
            (found := client.record_of(at)) and found.status == "REMOVING"
            for at in working.positions(role, client)
        ):
            return working.to_remove(role, client._replace(reopens=True))
        return client

    # -- writes

    def _writes(self, world: World, role: Role, client: Client) -> Iterator[Step]:
        write = WRITES[client.place]
        if flawed.looks_first(role, client):
            at = LOCK if client.place == "release" else client.stage
            found = world.store.objects[at]
            looked = flawed.after_a_look(role, client, found)
            yield self._local(world, role, looked, "looks before it writes", (found, at))
            return
        for request in (client.pending,) if client.pending else write.requests(role, client):
            yield self._send(world, role, client, write, request)
            if world.late_left:
                late = world._replace(
                    store=world.store._replace(late=world.store.late | {request}),
                    late_left=world.late_left - 1,
                ).with_client(role.number, client._replace(pending=request))
                yield self._settled(
                    late, f"{name_client(role.number)} gets no reply to: {{}}".format, request
                )
        if client.pending:
            for left in write.given_up(role, client):
                step = self._local(world, role, left, "gives that request up")
                if client.place == "take" and left.place != "abandon":
                    step = self._forgotten(step, role)
                yield step

    def _send(self, world: World, role: Role, client: Client, write: Write, request: Request) -> Step:
        number = role.number

        def words() -> str:
            return f"{name_client(number)} sends: {tell_request(request)}"

        if world.store.accepts(request):
            onlooker, broken = judge(world, request)
            applied = world._replace(store=world.store.after(request), onlooker=onlooker)
            return self._believed(applied, role, client, write, request, words, broken)
        found = world.store.objects[request.at]
        is_guessed = self.flaw is Flaw.GUESS_OWN_ON_CONFLICT and client.pending is not None
        if request.body is not None and (found == request.body or is_guessed):
            return self._believed(world, role, client, write, request, words, None)
        left = write.refused(role, client, found)._replace(pending=None)
        after = world.with_client(number, self._capped(left))
        step = Step(
            lambda: f"{words()}; refused: {tell_body(found, request.at)} stands there", self._swept(after)
        )
        if (client.place == "take" and client.pending) or (
            client.place == "abandon" and left.place == "idle"
        ):
            step = self._forgotten(step, role)
        return flawed.skipping_claim(role, step)

    def _believed(
        self,
        world: World,
        role: Role,
        client: Client,
        write: Write,
        request: Request,
        words: Callable[[], str],
        broken: str | None,
    ) -> Step:
        """The sender takes its request for applied."""
        onlooker = world.onlooker
        if isinstance(request.body, Stage):
            broken = broken or judge_acknowledged(world, request.body, request.at)
            if request.body.status == "RUNNING":
                onlooker = begin_execution(onlooker, request.body.epoch, role.owner)
        left = write.stored(role, client._replace(pending=None), request.body)
        after = world._replace(onlooker=onlooker).with_client(role.number, self._capped(left))
        step = Step(words, self._swept(after), broken)
        if client.place == "abandon":
            step = self._forgotten(step, role)
        return flawed.skipping_claim(role, step)

    def _renewals(self, world: World, role: Role, client: Client) -> Iterator[Step]:
        if client.renewals >= self.bounds.renewals:
            return
        request = working.renew_request(role, client)
        number = role.number
        words = f"{name_client(number)} renews: {{}}".format
        if world.store.accepts(request):
            onlooker, broken = judge(world, request)
            after = world._replace(store=world.store.after(request), onlooker=onlooker)
            after = after.with_client(number, working.renewed(client, request.body))
            yield self._settled(after, words, request, broken)
        else:
            left = working.renew_refused(role, client, world.store.objects[LOCK])
            yield self._settled(world.with_client(number, self._capped(left)), words, request)
        if world.late_left:
            late = world._replace(
                store=world.store._replace(late=world.store.late | {request}), late_left=world.late_left - 1
            ).with_client(number, client._replace(renewals=client.renewals + 1))
            yield self._settled(late, f"{name_client(number)} gets no reply to: {{}}".format, request)

    def _late_arrivals(self, world: World) -> Iterator[Step]:
        for request in world.store.late:
            if not world.store.accepts(request):
                continue
            onlooker, broken = judge(world, request)
            store = world.store.after(request)._replace(late=world.store.late - {request})
            after = world._replace(store=store, onlooker=onlooker)
            yield self._settled(after, "what had no reply is applied: {}".format, request, broken)

    def _unlock(self, world: World) -> Iterator[Step]:
        held = world.store.objects[LOCK]
        if world.unlocks_left and isinstance(held, Lock) and held.owner is not None:
            request = Request(OPERATOR, "unlock", LOCK, Lock(None, held.epoch, OPERATOR, 0), held)
            late = world._replace(
                store=world.store._replace(late=world.store.late | {request}),
                unlocks_left=world.unlocks_left - 1,
            )
            yield self._settled(late, "an operator sends: {}".format, request)

    def _settled(
        self, world: World, words: Callable[[str], str], request: Request, broken: str | None = None
    ) -> Step:
        return Step(lambda: words(tell_request(request)), self._swept(world), broken)

    def _swept(self, world: World) -> World:
        store = world.store.without_the_dead(can_remove=self.bounds.can_remove)
        return world if store is world.store else world._replace(store=store)

    @staticmethod
    def _forgotten(step: Step, role: Role) -> Step:
        """Nobody waits any more for what this acquisition has sent."""
        store = step.world.store
        late = frozenset(
            request._replace(purpose="abandoned take")
            if request.by == role.owner and request.purpose == "take"
            else request
            for request in store.late
        )
        return step._replace(world=step.world._replace(store=store._replace(late=late)))


def _is_begun(seen: Body | None) -> bool:
    return isinstance(seen, Manifest) and seen.kind != "removed"
