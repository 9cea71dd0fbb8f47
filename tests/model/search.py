"""Breadth-first search of every state, so that what breaks an invariant is found by a shortest trace."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import process_time

from .protocol import Protocol
from .steps import Step
from .symmetry import Symmetry
from .variants import Bounds, Flaw
from .world import World, first_world


@dataclass(slots=True)
class Result:
    """What a search has found.

    Attributes:
        protocol: What was searched.
        parents: Every state, up to a change of the clients' names, with the one that it was first
            reached from.
        steps: How many steps were looked at.
        depth: Steps from the first state to the farthest.
        broken: The invariant that is broken; None if all hold.
        trace: The steps that break it, in words.
        is_complete: Whether every state within the bounds was seen.
        seconds: Of a processor.
    """

    protocol: Protocol
    parents: dict[World, World | None] = field(default_factory=dict)
    steps: int = 0
    depth: int = 0
    broken: str | None = None
    trace: list[str] = field(default_factory=list)
    is_complete: bool = False
    seconds: float = 0.0

    @property
    def states(self) -> int:
        """How many states were seen."""
        return len(self.parents)

    def describe(self) -> str:
        """In one line."""
        extent = "all" if self.is_complete else "not all"
        return (
            f"{self.states:,} states ({extent} within the bounds), {self.steps:,} steps, depth {self.depth}, "
            f"{self.seconds:.1f} s of CPU"
        )


def search(bounds: Bounds, flaw: Flaw | None = None, *, max_states: int | None = None) -> Result:
    """Look at every state that can be reached, or at the first ``max_states`` of them.

    Stops at the first broken invariant.
    """
    # States make no cycles, and the collector would walk all of them again and again.
    gc.disable()
    try:
        return _search(bounds, flaw, max_states)
    finally:
        gc.enable()


def _search(bounds: Bounds, flaw: Flaw | None, max_states: int | None) -> Result:
    began = process_time()
    protocol, symmetry = Protocol(bounds, flaw), Symmetry(bounds.clients)
    result = Result(protocol)
    first = symmetry.canonical(first_world(bounds))
    result.parents[first] = None
    layer = [first]
    while layer:
        following: list[World] = []
        for world in layer:
            for step in protocol.steps(world):
                result.steps += 1
                if step.broken:
                    result.broken = step.broken
                    result.trace = list(_retrace(protocol, symmetry, result.parents, world, step.broken))
                    result.depth += 1
                    result.seconds = process_time() - began
                    return result
                after = symmetry.canonical(step.world)
                if after not in result.parents:
                    result.parents[after] = world
                    following.append(after)
            if max_states is not None and len(result.parents) >= max_states:
                result.seconds = process_time() - began
                return result
        layer = following
        result.depth += bool(layer)
    result.is_complete = True
    result.seconds = process_time() - began
    return result


def _retrace(
    protocol: Protocol,
    symmetry: Symmetry,
    parents: dict[World, World | None],
    last: World,
    broken: str,
) -> Iterator[str]:
    """The steps to a state and the one that breaks, with every client keeping its name."""
    path = [last]
    while (parent := parents[path[-1]]) is not None:
        path.append(parent)
    path.reverse()
    world = first_world(protocol.bounds)
    for wanted in path[1:]:
        step = next(step for step in protocol.steps(world) if symmetry.canonical(step.world) == wanted)
        yield step.words()
        world = step.world
    ends = [step for step in protocol.steps(world) if step.broken == broken]
    yield _end(ends)


def _end(ends: list[Step]) -> str:
    return ends[0].words()
