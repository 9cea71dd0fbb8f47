"""Many threads, one at a time: the order of everything comes from a queue of events in virtual time.

An actor is a thread that runs until it blocks. Whoever blocks takes the next events from the queue
and does them, until one of them resumes an actor: then it hands over to that one. So what happens is
a function of the events alone, and the operating system's scheduler has no say in it.
"""

import heapq
import itertools
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from checkmate_core.testing.simulation.process import Process

Event: TypeAlias = "Actor | Callable[[], object]"

_WATCHDOG_S: Final = 30.0


class Crashed(BaseException):
    """The process that this thread belongs to is dead: it sends nothing more, and unwinds."""


class StuckError(Exception):
    """The run does not come to an end."""


class Actor:
    """A thread of a simulated process.

    Attributes:
        name: For the reader of a stack.
        process: The process that it belongs to; it freezes and dies with it.
    """

    __slots__ = ("_baton", "_target", "_thread", "name", "process")

    def __init__(self, name: str, process: "Process", target: Callable[[], object]) -> None:
        self.name = name
        self.process = process
        self._target = target
        self._baton = threading.Lock()
        self._baton.acquire()
        self._thread: threading.Thread | None = None

    @property
    def is_started(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None

    @property
    def ident(self) -> int | None:
        """The identity of its thread."""
        return self._thread.ident if self._thread else None

    def resume(self, body: "Callable[[Actor], None]") -> None:
        """Let its thread run; the caller stops running at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=body, args=(self,), name=self.name, daemon=True)
            self._thread.start()
        else:
            self._baton.release()

    def wait(self) -> None:
        """Stand still until somebody resumes this."""
        self._baton.acquire()

    def run(self) -> None:
        """Do what it is for."""
        self._target()


class Scheduler:
    """Runs actors and events in the order of virtual time, and of their making within one instant.

    Attributes:
        time: Virtual seconds since the run began.
        steps: Events so far.
        is_closing: The run is over, and what still stands is being unwound.
    """

    def __init__(self, *, max_steps: int, max_time: float) -> None:
        self.time = 0.0
        self.steps = 0
        self.is_closing = False
        self._max_steps = max_steps
        self._max_time = max_time
        self._events: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()
        self._current: Actor | None = None
        self._actors: dict[Actor, None] = {}
        self._failure: BaseException | None = None
        # Held by whoever runs; the runner waits for it to come back.
        self._runner = threading.Lock()
        self._runner.acquire()

    @property
    def current(self) -> Actor:
        """The actor that is running.

        Raises:
            RuntimeError: None is: this is an event.
        """
        if self._current is None:
            raise RuntimeError("only an actor can block")
        return self._current

    def after(self, seconds: float, event: Event) -> None:
        """Do this so many virtual seconds from now."""
        heapq.heappush(self._events, (self.time + seconds, next(self._numbers), event))

    def spawn(self, name: str, process: "Process", target: Callable[[], object]) -> Actor:
        """Make an actor that begins to run now."""
        actor = Actor(name, process, target)
        self._actors[actor] = None
        self.after(0.0, actor)
        return actor

    def sleep(self, seconds: float) -> None:
        """Block the running actor so long.

        Raises:
            Crashed: Its process is dead.
        """
        actor = self.current
        # A dead process's actor must leave no event behind that would resume its next incarnation.
        if not actor.process.is_dead:
            self.after(seconds, actor)
        self.block()

    def block(self) -> None:
        """Block the running actor until an event resumes it, or rather until its process is not frozen any more.

        Raises:
            Crashed: Its process is dead.
        """
        actor = self.current
        if not actor.process.is_dead and not self._advance(actor):
            actor.wait()
        if actor.process.is_dead:
            raise Crashed

    def run(self) -> None:
        """Run until nothing is left to happen.

        Raises:
            StuckError: It takes too many steps or too long, or two threads wait for each other.
        """
        self._advance(None)
        self._await_turn()
        self._close()
        if self._failure is not None:
            raise self._failure

    def _advance(self, me: Actor | None) -> bool:
        """Do events in this thread until one resumes an actor. True if that is ``me``; else it runs now."""
        try:
            while self._events:
                when, _, event = heapq.heappop(self._events)
                if not isinstance(event, Actor):
                    self._count(when)
                    self._current = None
                    event()
                    continue
                process = event.process
                if process.frozen_until > when and not process.is_dead:
                    heapq.heappush(self._events, (process.frozen_until, next(self._numbers), event))
                    continue
                self._count(when)
                self._current = event
                if event is me:
                    return True
                event.resume(self._body)
                return False
        except BaseException as exc:  # noqa: BLE001 - this may be anybody's thread; the runner raises it
            self._failure = self._failure or exc
        self._runner.release()
        return False

    def _count(self, when: float) -> None:
        self.time = when
        self.steps += 1
        if self.steps > self._max_steps or when > self._max_time:
            raise StuckError(f"no end after {self.steps} events and {when:.0f} virtual seconds")

    def _body(self, actor: Actor) -> None:
        try:
            actor.run()
        except Crashed:
            pass
        except BaseException as exc:  # noqa: BLE001 - the runner raises it
            self._failure = self._failure or exc
            self._events.clear()
        del self._actors[actor]
        if self.is_closing:
            self._runner.release()
        else:
            self._advance(None)

    def _await_turn(self) -> None:
        while not self._runner.acquire(timeout=_WATCHDOG_S):
            steps = self.steps
            if self._runner.acquire(timeout=_WATCHDOG_S):
                return
            if self.steps == steps:
                raise StuckError(f"threads wait for each other:\n{self._stacks()}")

    def _close(self) -> None:
        self.is_closing = True
        self._events.clear()
        for actor in list(self._actors):
            actor.process.is_dead = True
            if actor.is_started:
                self._current = actor
                actor.resume(self._body)
                self._await_turn()

    def _stacks(self) -> str:
        frames = sys._current_frames()
        return "\n".join(
            f"{actor.name}:\n{''.join(traceback.format_stack(frames[actor.ident]))}"
            for actor in self._actors
            if actor.ident in frames
        )
