"""The way between a process and the store, on which everything happens that the faults say."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    VersionConflictException,
)
from checkmate_core.io.names import check_object_name, check_prefix
from checkmate_core.testing.simulation.process import Process
from checkmate_core.testing.simulation.scenario import Scenario
from checkmate_core.testing.simulation.scheduler import Actor, Crashed, Scheduler
from checkmate_core.testing.simulation.store import SimulatedStore
from checkmate_core.testing.simulation.trace import Trace
from checkmate_core.types import ANY, Capability, Expect, ObjectInfo, RemoveExpect, StoredObject, Version

T = TypeVar("T")
Answer: TypeAlias = Any

_WRITE_FAULTS = ("refused", "dropped", "lost", "late", "resent", "overtaken", "slow")
_READ_FAULTS = ("refused", "dropped", "slow", "garbled")
_REFUSALS = (
    "409 conditional request conflict",
    "429 too many requests",
    "500 internal error",
    "503 slow down",
)


@dataclass(slots=True)
class _Request:
    """One request, until its client has an answer."""

    process: Process
    what: str
    apply: Callable[[], Answer]
    is_read: bool
    on_answer: Callable[[Answer], None]
    is_answered: bool = False

    def answer(self, value: Answer) -> None:
        if not self.is_answered:
            self.is_answered = True
            self.on_answer(value)


class Network:
    """Carries requests, each with the fate that is drawn for it.

    Attributes:
        totals: How often what went wrong.
        in_flight: How many copies of requests are on their way.
    """

    def __init__(
        self,
        scenario: Scenario,
        scheduler: Scheduler,
        store: SimulatedStore,
        rng: random.Random,
        trace: Trace,
    ) -> None:
        self.store = store
        self.totals: Counter[str] = Counter()
        self.in_flight = 0
        self._scenario = scenario
        self._scheduler = scheduler
        self._rng = rng
        self._trace = trace

    @property
    def is_chaotic(self) -> bool:
        """Whether things still go wrong."""
        return self._scheduler.time < self._scenario.chaos

    def perform(
        self, process: Process, requests: Sequence[tuple[str, Callable[[], Answer]]], *, is_read: bool
    ) -> list[Answer]:
        """Send requests at once, and block until all are answered: with a value or an exception each.

        Raises:
            Crashed: The process is dead.
        """
        if process.is_dead:
            raise Crashed
        actor = self._scheduler.current
        answers: list[Answer] = [None] * len(requests)
        left = len(requests)

        def arrive(index: int, value: Answer) -> None:
            nonlocal left
            answers[index] = value
            left -= 1
            if not left:
                self._scheduler.after(0.0, actor)

        for index, (what, apply) in enumerate(requests):
            self._send(_Request(process, what, apply, is_read, partial(arrive, index)))
        if requests:
            self._scheduler.block()
            self.disturb(process, actor)
        return answers

    def disturb(self, process: Process, actor: Actor) -> None:
        """Let a process crash, stand still or be interrupted here, if that is its fate.

        Raises:
            Crashed: It is dead.
            KeyboardInterrupt: It is interrupted.
        """
        faults = self._scenario.faults
        if not self.is_chaotic:
            return
        draw = self._rng.random()
        if draw < faults.crash:
            self._strike(process, "crash", "crashes")
            process.is_dead = True
            raise Crashed
        if draw < faults.crash + faults.pause:
            seconds = self._rng.uniform(0.1, 3.0) * self._scenario.span
            self._strike(process, "pause", "stands still for {:.1f} s", seconds)
            process.frozen_until = self._scheduler.time + seconds
            self._scheduler.sleep(0.0)
        elif draw < faults.crash + faults.pause + faults.interrupt and actor is process.main:
            self._strike(process, "interrupt", "is interrupted")
            raise KeyboardInterrupt

    def _send(self, request: _Request) -> None:
        there, back = self._trip(), self._trip()
        patience = self._rng.uniform(20, 60) * self._scenario.latency
        after = self._scheduler.after
        timeout = partial(request.answer, StorageUnavailableException("no answer in time"))
        fate = self._fate(request)
        if fate:
            self._strike(request.process, fate, f"{fate}: {request.what}")
        match fate:
            case "refused":
                refusal = StorageUnavailableException(self._rng.choice(_REFUSALS))
                after(there + back, partial(request.answer, refusal))
            case "dropped":
                after(patience, timeout)
            case "lost":
                self._carry(there, request, None)
                after(there + self._rng.choice((back, patience)), timeout)
            case "late":
                after(patience, timeout)
                self._carry(patience + self._long(), request, None)
            case "resent":
                self._carry(there, request, None)
                self._carry(there + self._trip(), request, back)
            case "overtaken":
                self._carry(there, request, back)
                self._carry(there + self._long(), request, None)
            case "slow":
                self._carry(self._long(), request, back)
            case "garbled":
                self._carry(there, request, back, self._garble)
            case _:
                self._carry(there, request, back)

    def _carry(
        self,
        seconds: float,
        request: _Request,
        back: float | None,
        change: Callable[[Answer], Answer] = lambda answer: answer,
    ) -> None:
        """Let a copy of a request arrive so many seconds from now."""
        self.in_flight += 1
        self._scheduler.after(seconds, partial(self._arrive, request, back, change))

    def _fate(self, request: _Request) -> str | None:
        if not self.is_chaotic:
            return None
        draw = self._rng.random()
        for fault in _READ_FAULTS if request.is_read else _WRITE_FAULTS:
            draw -= getattr(self._scenario.faults, fault)
            if draw < 0:
                return fault
        return None

    def _arrive(self, request: _Request, back: float | None, change: Callable[[Answer], Answer]) -> None:
        """Apply a copy of a request; its answer arrives ``back`` later, or never."""
        self.in_flight -= 1
        try:
            answer = request.apply()
        except TaskIOException as exc:
            answer = exc
        if isinstance(answer, VersionConflictException):
            self.note(request.process, f"      refused, another version: {request.what}")
        if back is not None:
            self._scheduler.after(back, partial(request.answer, change(answer)))

    def _garble(self, answer: Answer) -> Answer:
        if not isinstance(answer, StoredObject):
            return answer
        return StoredObject(answer.data[: len(answer.data) // 2], answer.version, answer.age)

    def _trip(self) -> float:
        return self._rng.uniform(0.2, 1.0) * self._scenario.latency / 2

    def _long(self) -> float:
        return self._rng.random() ** 2 * 4 * self._scenario.span

    def _strike(self, process: Process, fault: str, text: str, *args: object) -> None:
        self.totals[fault] += 1
        self.note(process, text, *args)

    def note(self, process: Process, text: str, *args: object) -> None:
        """Add a line to the trace."""
        self._trace.note(self._scheduler.time, process.label, text, *args)

    def note_change(self, process: Process) -> None:
        """Trace the change that the store has just applied."""
        change = self.store.changes[-1]
        done = "      stores {}: {}" if change.body is not None else "      removes {}: {}"
        self._trace.note(change.time, process.label, done, change.name, change.body or change.before or {})


class SimulatedTaskIO:
    """The store as one process sees it.

    Attributes:
        process: That process.
    """

    base_url = "simulated://store"
    probe_scope: str | None = None

    def __init__(self, process: Process, network: Network) -> None:
        self.process = process
        self._network = network
        self._store = network.store

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._store.capabilities

    def build_url(self, obj_name: str) -> str:
        return f"{self.base_url}/{check_object_name(obj_name)}"

    @property
    def changes_so_far(self) -> int:
        """How many changes the store has applied."""
        return len(self._store.changes)

    def note(self, text: str, *args: object) -> None:
        """Add a line to the trace, on behalf of the process."""
        self._network.note(self.process, text, *args)

    def exists(self, obj_name: str) -> bool:
        try:
            self.read(obj_name)
        except PersistenceDataNotFoundException:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        found = self._ask(f"list {prefix}", lambda: self._store.list(prefix), is_read=True)
        return iter(found)

    def read(self, obj_name: str) -> StoredObject:
        check_object_name(obj_name)
        return self._ask(f"read {obj_name}", lambda: self._store.read(obj_name), is_read=True)

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        requests = [
            (f"read {name}", partial(self._store.read, check_object_name(name))) for name in obj_names
        ]
        found: dict[str, StoredObject] = {}
        answers = self._network.perform(self.process, requests, is_read=True)
        for name, answer in zip(obj_names, answers, strict=True):
            if isinstance(answer, StoredObject):
                found[name] = answer
            elif not isinstance(answer, PersistenceDataNotFoundException):
                raise answer
        return found

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        check_object_name(obj_name)

        def apply() -> Version:
            version = self._store.write(self.process.label, obj_name, data, expect)
            self._network.note_change(self.process)
            return version

        return self._ask(f"write {obj_name}", apply, is_read=False)

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        check_object_name(obj_name)

        def apply() -> None:
            if self._store.remove(self.process.label, obj_name, expect):
                self._network.note_change(self.process)

        self._ask(f"remove {obj_name}", apply, is_read=False)

    def _ask(self, what: str, apply: Callable[[], T], *, is_read: bool) -> T:
        [answer] = self._network.perform(self.process, [(what, apply)], is_read=is_read)
        if isinstance(answer, BaseException):
            raise answer
        value: T = answer
        return value
