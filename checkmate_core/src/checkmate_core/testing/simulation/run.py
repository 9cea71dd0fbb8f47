"""One run: the workers of a scenario, then the end of all faults, then the checks."""

import functools
import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from checkmate_core.testing.simulation.guarantees import violations
from checkmate_core.testing.simulation.network import Network
from checkmate_core.testing.simulation.process import Process
from checkmate_core.testing.simulation.record import Record, comparable
from checkmate_core.testing.simulation.scenario import Scenario
from checkmate_core.testing.simulation.scheduler import Scheduler, StuckError
from checkmate_core.testing.simulation.store import SimulatedStore
from checkmate_core.testing.simulation.trace import Body, Trace
from checkmate_core.testing.simulation.worker import Worker, World, finish

_MAX_STEPS = 100_000
_MAX_TIME = 10_000.0
_SHOWN = 120


class ViolationError(Exception):
    """A run violated a guarantee.

    Attributes:
        seed: The seed of the run; it happens again with it.
        faults: What is wrong, each with its guarantee.
        trace: What happened.
    """

    def __init__(self, seed: int, faults: list[str], trace: Trace) -> None:
        super().__init__(seed, faults, trace)
        self.seed = seed
        self.faults = faults
        self.trace = trace

    def __str__(self) -> str:
        faults = "\n".join(self.faults)
        return f"seed {self.seed} violates\n{faults}\n\n{self.trace.text(_SHOWN)}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run in which every guarantee held.

    Attributes:
        scenario: Its circumstances.
        totals: How often what happened.
        trace: What happened.
        record: What the store applied, and what the processes saw.
    """

    scenario: Scenario
    totals: Counter[str]
    trace: Trace
    record: Record


def simulate(seed: int) -> Run:
    """Run what a seed stands for, and check every guarantee.

    Deterministic: the same seed and the same code give the same trace, in any process. Logging is
    switched off meanwhile, and the state of the module `random` is kept.

    Raises:
        ViolationError: A guarantee does not hold.
    """
    return simulate_scenario(Scenario.draw(seed))


def simulate_scenario(scenario: Scenario) -> Run:
    """Run a scenario, and check every guarantee.

    Raises:
        ViolationError: A guarantee does not hold.
    """
    undisturbed: dict[str, Body] = {}
    for calm in scenario.undisturbed():
        undisturbed |= undisturbed_states(calm)
    trace = Trace()
    world, store = _play(scenario, trace)
    record = _record(world, store, undisturbed)
    faults = violations(record)
    if faults:
        raise ViolationError(scenario.seed, faults, trace)
    return Run(scenario, _totals(world, record), trace, record)


def _totals(world: World, record: Record) -> Counter[str]:
    lives = [change.live_body for change in record.changes]
    return (
        world.totals
        + world.network.totals
        + Counter(
            {
                "changes of the store": len(record.changes),
                "commits": sum(body is not None and body["status"] == "COMPLETE" for body in lives),
                "executions": len(record.log.executions),
                "items": len(record.log.items),
                "undone": len(record.log.undone),
                "suspended": sum(body is not None and body["status"] == "SUSPENDED" for body in lives),
                "events taken": _events_taken(lives),
                "rolled back": sum(body is not None and body["status"] == "ROLLED_BACK" for body in lives),
                "saves": sum(body is not None and _is_save(body) for body in lives),
                "artifacts": sum(change.artifact_life is not None for change in record.changes),
                "migrations": sum(change.is_migration for change in record.changes),
                "take-overs": sum(change.is_take_over for change in record.changes),
                "lives": sum(
                    change.is_manifest and change.life is None and change.body is not None
                    for change in record.changes
                ),
            }
        )
    )


def _events_taken(lives: list[Body | None]) -> int:
    return len({write_id for body in lives if body for write_id in body["notes"]["events"].values()})


def _is_save(body: Body) -> bool:
    return body["status"] == "RUNNING" and bool(body["notes"]["cursors"])


@functools.cache
def undisturbed_states(scenario: Scenario) -> dict[str, Body]:
    """The states of the stages after a run with nothing that goes wrong, by their names."""
    _, store = _play(scenario, Trace())
    stages = [body for name, body in store.bodies.items() if "/stages/" in name]
    return {body["stage_name"]: comparable(body["state"]) for body in stages}


def _play(scenario: Scenario, trace: Trace) -> tuple[World, SimulatedStore]:
    scheduler = Scheduler(max_steps=_MAX_STEPS, max_time=_MAX_TIME)
    store = SimulatedStore(scenario.capabilities, lambda: scheduler.time)
    rng = random.Random(scenario.seed)  # noqa: S311 - to be repeated, not to be secret
    network = Network(scenario, scheduler, store, rng, trace)
    world = World(scenario, scheduler, network, rng, trace)
    trace.note(0.0, "", "{}", scenario.text())
    nobody = Process("-", scheduler)
    for index in range(scenario.workers):
        worker = Worker(world, f"w{index}", scenario.rates[index])
        scheduler.spawn(f"worker {index}", nobody, worker.live)
    for index in range(scenario.tasks):
        begin = functools.partial(
            scheduler.spawn, f"finisher {index}", nobody, functools.partial(finish, world, f"t{index}")
        )
        scheduler.after(scenario.chaos, begin)
    with _quiet(scenario.seed):
        try:
            scheduler.run()
        except StuckError as exc:
            raise ViolationError(scenario.seed, [f"G5 (end): {exc}"], trace) from exc
    return world, store


def _record(world: World, store: SimulatedStore, undisturbed: dict[str, Body]) -> Record:
    return Record(
        scenario=world.scenario,
        changes=store.changes,
        bodies=store.bodies,
        log=world.log,
        unexpected=world.unexpected,
        finished=world.finished,
        cancels=world.cancels,
        rollbacks=world.rollbacks,
        undisturbed=undisturbed,
        operators=world.operators,
    )


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    # Waits and leases have a jitter, which is drawn from the module's generator.
    state, level = random.getstate(), logging.root.manager.disable
    random.seed(seed)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        random.setstate(state)
