"""What only broken variants do."""

from . import binding
from .binding import Role
from .invariants import begin_execution
from .steps import Step
from .store import LOCK, Body, Lock, Stage
from .variants import Flaw
from .wording import name_owner
from .world import Client


def looks_first(role: Role, client: Client) -> bool:
    """Whether it reads an object, to judge by that whether it may write it unconditionally."""
    if client.todo and client.place != "sweep":
        return False
    if role.flaw is Flaw.TOKEN_READ_THEN_PUT or client.place == "put":
        return client.place in ("run", "work", "put", "cancel", "remove")
    return role.flaw is Flaw.GET_THEN_DELETE_RELEASE and client.place == "release"


def after_a_look(role: Role, client: Client, found: Body | None) -> Client:
    """Go on to the write, or away from what is another's."""
    if client.place == "release":
        is_ours = isinstance(found, Lock) and found.owner == role.owner
        return client._replace(todo=(LOCK,)) if is_ours else binding.released(client)
    if isinstance(found, Stage) and found.epoch > client.epoch:
        return binding.leaving(role, client)
    return client.knowing(client.stage, found if isinstance(found, Stage) else None)._replace(
        todo=(client.stage,)
    )


def skipping_claim(role: Role, step: Step) -> Step:
    """Without a claim, a stage that was found RUNNING is executed as it is."""
    if role.flaw is not Flaw.NO_CLAIM:
        return step
    client = step.world.clients[role.number]
    found = client.record_of(client.stage) if client.place == "run" else None
    if not found or found.status != "RUNNING":
        return step
    onlooker = begin_execution(step.world.onlooker, client.epoch, role.owner)
    executing = client._replace(place="work", claimed=client.claimed | {client.stage})
    after = step.world._replace(onlooker=onlooker).with_client(role.number, executing)
    words = step.words
    return step._replace(
        words=lambda: f"{words()}; executes the stage that {name_owner(found.by)} began", world=after
    )
