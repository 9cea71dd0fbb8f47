"""What a seed stands for: who works on what, over which store, and how much goes wrong."""

import random
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Final

from checkmate_core.changing.changes import StageChanges
from checkmate_core.types import Capability


class Kind(StrEnum):
    """What a stage does, beside signing the trail."""

    PLAIN = "plain"
    """Works, and is done."""
    LOOP = "loop"
    """Goes through items, and is saved in the middle."""
    EVENT = "event"
    """Suspends the task until an event comes, twice."""
    TIME = "time"
    """Suspends the task for some time."""
    ARTIFACT = "artifact"
    """Puts an artifact of several parts, which every later stage reads."""


PLAIN: Final = (Kind.PLAIN,) * 3


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each thing is to go wrong; the first eight at a request, the others at each answer.

    Attributes:
        refused: Answered 409, 429, 500 or 503, and not applied.
        dropped: Never arrives; the client times out.
        lost: Applied, but the answer is lost.
        late: The client times out, and the request is applied after all, up to some leases later.
        resent: Sent twice by an SDK; the client sees the answer to the second copy.
        overtaken: Sent twice by an SDK; the first copy arrives last, up to some leases later.
        slow: On its way for up to some leases.
        garbled: A read is answered with bytes that cannot be read.
        crash: The process dies before it sees the answer.
        pause: All threads of the process stand still, for up to some leases.
        interrupt: Ctrl-C.
    """

    refused: float = 0.0
    dropped: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    resent: float = 0.0
    overtaken: float = 0.0
    slow: float = 0.0
    garbled: float = 0.0
    crash: float = 0.0
    pause: float = 0.0
    interrupt: float = 0.0

    @classmethod
    def draw(cls, rng: random.Random) -> "Faults":
        """Each kind of fault is left out of some runs: what always happens hides what rarely does."""
        most = {"garbled": 0.01, "interrupt": 0.01, "crash": 0.05, "pause": 0.06}
        return cls(
            **{
                each.name: rng.choice((0.0, 0.3, 1.0)) * rng.random() * most.get(each.name, 0.05)
                for each in fields(cls)
            }
        )


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a worker does what, in proportion to the others.

    Attributes:
        run: Binds, executes, unbinds.
        enqueue: Binds and unbinds.
        cancel: Cancels.
        clean: Removes the task, as it finds it or after having executed it.
        unlock: An operator releases whatever lock there is.
        rollback: Rolls the task back.
        signal: Sends an event to the task.
        request: Leaves a cancel request.
        fail: Part of the attempts of a stage that fail.
    """

    run: float = 1.0
    enqueue: float = 0.0
    cancel: float = 0.0
    clean: float = 0.0
    unlock: float = 0.0
    rollback: float = 0.0
    signal: float = 0.0
    request: float = 0.0
    fail: float = 0.0

    @classmethod
    def draw(cls, rng: random.Random) -> "Habits":
        def now_and_then(most: float) -> float:
            return rng.choice((0.0, 1.0)) * rng.random() * most

        return cls(
            enqueue=now_and_then(0.2),
            cancel=now_and_then(0.2),
            clean=now_and_then(1.0),
            unlock=now_and_then(0.3),
            fail=now_and_then(0.4),
            rollback=now_and_then(0.2),
            signal=now_and_then(1.0),
            request=now_and_then(0.2),
        )


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A newer release of the pipeline, which some processes run: it renames all stages, and has one more.

    Attributes:
        added: What the new stage does.
        at: Its place among the others, not the first; beyond their number it is the end.
        share: Part of the processes that run it.
    """

    added: Kind
    at: int
    share: float

    @classmethod
    def draw(cls, rng: random.Random, palette: tuple[Kind, ...]) -> "Upgrade | None":
        """In most runs there is none, and everybody runs the same code."""
        if rng.random() > 0.3:
            return None
        return cls(rng.choice(palette), rng.randint(1, 3), rng.choice((0.3, 0.5, 0.8)))


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run's circumstances.

    Attributes:
        seed: What everything else in the run is drawn from.
        tasks: How many.
        kinds: Of the stages of each task.
        compensates: What follows when a stage failed for good: the others are rolled back, or nothing.
        every: Loops are saved after so many items; None is when it is worth while.
        workers: How many.
        lease: Seconds that a worker may be silent; None is for ever.
        capabilities: Of the store.
        latency: Usual time of a request, there and back, in seconds.
        work: Longest time of a stage, in seconds.
        rates: Of the workers' clocks, one each.
        chaos: Virtual seconds after which nothing goes wrong any more, and the tasks are brought to
            their end.
        faults: What goes wrong until then.
        habits: What the workers do until then.
        upgrade: The newer release; None if there is none.
    """

    seed: int
    tasks: int = 1
    kinds: tuple[Kind, ...] = PLAIN
    compensates: bool = False
    every: int | None = 2
    workers: int = 1
    lease: float | None = 5.0
    capabilities: frozenset[Capability] = field(default=frozenset(Capability))
    latency: float = 0.05
    work: float = 2.0
    rates: tuple[float, ...] = (1.0,)
    chaos: float = 0.0
    faults: Faults = Faults()
    habits: Habits = Habits()
    upgrade: Upgrade | None = None

    @property
    def stages(self) -> int:
        """How many stages each task has."""
        return len(self.kinds)

    def pipeline(self, *, newer: bool) -> list[tuple[str, Kind]]:
        """Names and kinds of the stages of one release. The digits of a name tell which stage it is in either."""
        if self.upgrade is None or not newer:
            return [(f"s{index}", kind) for index, kind in enumerate(self.kinds)]
        renamed = [(f"r{index}", kind) for index, kind in enumerate(self.kinds)]
        renamed.insert(self.upgrade.at, (f"r{self.stages}", self.upgrade.added))
        return renamed

    def changes(self) -> StageChanges | None:
        """What the newer release declares."""
        if self.upgrade is None:
            return None
        return StageChanges(
            renamed={f"s{index}": f"r{index}" for index in range(self.stages)}, added={f"r{self.stages}"}
        )

    @property
    def span(self) -> float:
        """What pauses and delays are measured by, in seconds."""
        return self.lease or 5.0

    @classmethod
    def draw(cls, seed: int) -> "Scenario":
        """The circumstances that a seed stands for."""
        rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        workers = rng.choice((2, 2, 3))
        are_wrong = rng.random() < 0.5
        palette = (Kind.PLAIN,) if rng.random() < 0.3 else tuple(Kind)
        return cls(
            seed=seed,
            tasks=rng.choice((1, 1, 1, 2)),
            kinds=tuple(rng.choice(palette) for _ in range(rng.choice((2, 3)))),
            compensates=rng.random() < 0.5,
            every=rng.choice((1, 2, None)),
            workers=workers,
            lease=None if rng.random() < 0.05 else rng.choice((3.0, 6.0)),
            capabilities=frozenset(
                each
                for each in Capability
                if each in (Capability.CREATE, Capability.SWAP) or rng.random() < 0.7
            ),
            latency=rng.choice((0.02, 0.1, 0.4)),
            work=rng.choice((0.1, 2.0, 6.0)),
            rates=tuple(rng.choice((0.2, 0.7, 1.0, 1.5, 5.0)) if are_wrong else 1.0 for _ in range(workers)),
            chaos=rng.uniform(5.0, 25.0),
            faults=Faults.draw(rng),
            habits=Habits.draw(rng),
            upgrade=Upgrade.draw(rng, palette),
        )

    def text(self) -> str:
        """The circumstances in one line; what does not happen is left out."""
        parts = [
            f"{self.tasks} task(s) of {' '.join(self.kinds)}, {self.workers} worker(s), lease {self.lease}"
        ]
        parts += [
            f"chaos for {self.chaos:.0f} s, latency {self.latency}, work {self.work}, clocks {self.rates}"
        ]
        parts += [f"{'compensates' if self.compensates else 'stops'} at errors, saves every {self.every}"]
        parts += [f"store: {' '.join(each.name for each in Capability if each in self.capabilities)}"]
        for group in (self.faults, self.habits):
            shares = {each.name: getattr(group, each.name) for each in fields(group)}
            parts += [" ".join(f"{name} {share:.3f}" for name, share in shares.items() if share)]
        if self.upgrade:
            names = " ".join(f"{name} ({kind})" for name, kind in self.pipeline(newer=True))
            parts += [f"{self.upgrade.share} of the processes have {names}"]
        return "; ".join(parts)

    def undisturbed(self) -> "list[Scenario]":
        """The same task with nothing that goes wrong, as each release runs it."""
        calm = replace(Scenario(seed=0), kinds=self.kinds)
        return [calm, replace(calm, upgrade=self.upgrade)] if self.upgrade else [calm]
