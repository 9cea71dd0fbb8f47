"""One step from one state of the world to the next."""

from collections.abc import Callable
from typing import NamedTuple

from .world import World


class Step(NamedTuple):
    """One step.

    Attributes:
        words: What happens.
        world: What comes of it.
        broken: The invariant that it breaks, if any.
    """

    words: Callable[[], str]
    world: World
    broken: str | None = None
