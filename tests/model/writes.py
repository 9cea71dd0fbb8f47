"""Every place at which a client sends a write, and where each outcome leads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from . import binding, working
from .binding import Role
from .store import Body, Request
from .world import Client, Place


@dataclass(frozen=True, slots=True)
class Write:
    """A place at which a client sends a write: what, and where each outcome leads.

    Attributes:
        requests: What it may send.
        stored: It was applied.
        refused: Its precondition does not hold, and what stands there instead is not its own.
        given_up: No reply came, however often it was sent.
    """

    requests: Callable[[Role, Client], tuple[Request, ...]]
    stored: Callable[[Role, Client, Body | None], Client]
    refused: Callable[[Role, Client, Body | None], Client]
    given_up: Callable[[Role, Client], tuple[Client, ...]]


def _one(request: Callable[[Role, Client], Request]) -> Callable[[Role, Client], tuple[Request, ...]]:
    return lambda role, client: (request(role, client),)


def _leave(role: Role, client: Client) -> tuple[Client, ...]:
    return (binding.leaving(role, client),)


def _start_again(role: Role, client: Client) -> tuple[Client, ...]:
    return (binding.released(client),)


_STAGE: Final = Write(
    working.stage_requests, working.stage_stored, working.stage_refused, working.stage_given_up
)
WRITES: Final[dict[Place, Write]] = {
    "take": Write(
        _one(binding.take_request),
        binding.taken,
        binding.take_refused,
        lambda role, client: (binding.take_given_up(role, client),),
    ),
    "abandon": Write(
        _one(binding.abandon_request),
        lambda role, client, body: binding.started_again(client),
        binding.abandon_refused,
        _start_again,
    ),
    "begin": Write(
        _one(binding.begin_request),
        binding.begun,
        binding.begin_refused,
        lambda role, client: (binding.begin_given_up(role, client),),
    ),
    "run": _STAGE,
    "work": _STAGE,
    "put": _STAGE,
    "cancel": _STAGE,
    "remove": _STAGE,
    "back": _STAGE,
    "undo": _STAGE,
    "mark": _STAGE,
    "swap": Write(_one(working.swap_request), working.swapped, working.swap_refused, _leave),
    "end": Write(_one(working.end_request), working.ended, working.end_refused, _leave),
    "summarise": Write(_one(working.summary_request), working.ended, working.end_refused, _leave),
    "bury": Write(_one(working.bury_request), working.buried, working.bury_refused, _leave),
    "sweep": Write(
        lambda role, client: tuple(item for item in client.todo[:1] if isinstance(item, Request)),
        working.sweep_done,
        working.sweep_done,
        _leave,
    ),
    "release": Write(
        _one(working.release_request), working.release_done, working.release_refused, _start_again
    ),
}
