"""What simulated workers do: come, work on a task, crash, come back."""

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from checkmate_core.errors import (
    BindException,
    CorruptObjectException,
    IncompatibleTaskException,
    InvalidTransitionException,
    LockLostException,
    PersistenceDataNotFoundException,
    StageFailedException,
    StorageUnavailableException,
    TaskCanceledException,
    TaskRolledBackException,
    TaskSuspendedException,
    VersionConflictException,
)
from checkmate_core.layout import lock_object_name
from checkmate_core.letters.signaling import request_cancel, send_signal
from checkmate_core.lock import BindLock
from checkmate_core.retry import RetryPolicy
from checkmate_core.store import TaskStore
from checkmate_core.testing.simulation.log import Log
from checkmate_core.testing.simulation.network import Network, SimulatedTaskIO
from checkmate_core.testing.simulation.pipeline import EVENT, Job, job_for
from checkmate_core.testing.simulation.process import Process
from checkmate_core.testing.simulation.scenario import Scenario
from checkmate_core.testing.simulation.scheduler import Crashed, Scheduler
from checkmate_core.testing.simulation.trace import Trace

_FINISHING_TRIES: Final = 12
_FINISHING_WAITS: Final = 30

# What may end a visit whose world is not in order. Whatever else comes out of the engine is a fault of it.
_EXPECTED: Final = (
    BindException,
    StageFailedException,
    TaskCanceledException,
    TaskRolledBackException,
    TaskSuspendedException,
    StorageUnavailableException,
)

# What a letter, or a rollback, may be answered: there is no such task, it is over, or one waits already.
_REFUSALS: Final = {
    "cancel": (InvalidTransitionException,),
    "unlock": (VersionConflictException, PersistenceDataNotFoundException),
    "rollback": (InvalidTransitionException,),
    "signal": (InvalidTransitionException, PersistenceDataNotFoundException, VersionConflictException),
    "request": (InvalidTransitionException, PersistenceDataNotFoundException),
}


@dataclass(slots=True)
class World:
    """What the workers of one run share.

    Attributes:
        scenario: The circumstances.
        scheduler: Who runs when.
        network: The way to the store.
        rng: What is drawn while the run goes on.
        trace: What happened.
        log: What processes saw and did.
        totals: How often what happened.
        unexpected: Errors that no fault explains: who, and what.
        finished: The tasks that were brought to their end, and how many tries it took.
        cancels: The tasks that somebody tried to cancel.
        rollbacks: The tasks that somebody tried to roll back.
        letters: How many events were made up so far; each is told by its number.
        operators: The processes that released a lock by an operator's say-so.
        busy: The workers that are not gone yet.
    """

    scenario: Scenario
    scheduler: Scheduler
    network: Network
    rng: random.Random
    trace: Trace
    log: Log = field(default_factory=Log)
    totals: Counter[str] = field(default_factory=Counter)
    unexpected: list[tuple[str, BaseException]] = field(default_factory=list)
    finished: dict[str, int] = field(default_factory=dict)
    cancels: set[str] = field(default_factory=set)
    rollbacks: set[str] = field(default_factory=set)
    letters: int = 0
    operators: set[str] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)

    @property
    def is_settled(self) -> bool:
        """Whether all workers are gone, and nothing is on its way."""
        return not self.busy and not self.network.in_flight

    def start(self, label: str, rate: float = 1.0) -> Process:
        """A new process, that the running actor is the main thread of from now on."""
        actor = self.scheduler.current
        offset = self.rng.uniform(-1e4, 1e4) if rate != 1.0 else 0.0
        process = Process(label, self.scheduler, rate=rate, offset=offset)
        actor.process, process.main = process, actor
        process.clock.after_sleep = lambda: self.network.disturb(process, self.scheduler.current)
        return process

    def job(self, process: Process, task_id: str, *, newer: bool, **options: Any) -> Job:
        """An engine in that process, of the newer release or not."""
        scenario = self.scenario
        job = job_for(
            SimulatedTaskIO(process, self.network),
            task_id,
            scenario.pipeline(newer=newer),
            changes=scenario.changes() if newer else None,
            on_error="compensate" if scenario.compensates else "stop",
            retry_policy=RetryPolicy.exponential(0.2, jitter=0.2),
            max_attempts=2,
            lease=scenario.lease,
            **options,
        )
        job.clock, job.log, job.rng = process.clock, self.log, self.rng
        job.longest_work, job.longest_rest, job.every = scenario.work, scenario.span, scenario.every
        return job

    def signal(self, process: Process, task_id: str) -> None:
        """Send an event that tells itself from every other.

        Raises:
            VersionConflictException: Another waits already.
        """
        self.letters += 1
        io = SimulatedTaskIO(process, self.network)
        send_signal(io, task_id, EVENT, self.letters, clock=process.clock)

    def unlock(self, process: Process, task_id: str) -> None:
        """An operator, beside that process, releases whatever lock the task has.

        Raises:
            VersionConflictException: It changed meanwhile.
        """
        operator = self.start(f"{process.label}op")
        self.operators.add(operator.label)
        io = SimulatedTaskIO(operator, self.network)
        try:
            BindLock(io, lock_object_name(task_id), clock=operator.clock).force_unlock()
        finally:
            if not operator.is_dead:
                self.scheduler.current.process = process

    def note(self, process: Process, text: str, *args: object) -> None:
        """Add a line to the trace."""
        self.trace.note(self.scheduler.time, process.label, text, *args)


class Worker:
    """Goes on for as long as things go wrong, as one process after another."""

    def __init__(self, world: World, name: str, rate: float) -> None:
        self._world = world
        self._name = name
        self._rate = rate
        self._incarnations = 0
        self._is_newer = False

    def live(self) -> None:
        """The main thread."""
        world = self._world
        world.busy.add(self._name)
        while world.network.is_chaotic:
            self._incarnations += 1
            process = world.start(f"{self._name}.{self._incarnations}", self._rate)
            upgrade = world.scenario.upgrade
            self._is_newer = upgrade is not None and world.rng.random() < upgrade.share
            try:
                process.clock.sleep(world.rng.random() ** 2 * world.scenario.span)
                world.note(process, "starts{}", " with the newer release" if self._is_newer else "")
                while world.network.is_chaotic:
                    patience = 2.0 if self._visit(process) else 1.0
                    process.clock.sleep(patience * world.rng.random() ** 2 * world.scenario.span)
            except KeyboardInterrupt:
                world.note(process, "ends")
            except Crashed:
                if world.scheduler.is_closing:
                    raise
        world.busy.remove(self._name)

    def _visit(self, process: Process) -> bool:
        """Do something with a task; true if it was done."""
        world = self._world
        habits = world.scenario.habits
        task_id = f"t{world.rng.randrange(world.scenario.tasks)}"
        acts = {
            "run": (habits.run, self._run),
            "enqueue": (habits.enqueue, self._enqueue),
            "cancel": (habits.cancel, self._cancel),
            "clean": (habits.clean, self._clean),
            "unlock": (habits.unlock, self._unlock),
            "rollback": (habits.rollback, self._rollback),
            "signal": (habits.signal, self._world.signal),
            "request": (habits.request, self._request),
        }
        [act] = world.rng.choices(list(acts), [weight for weight, _ in acts.values()])
        garbled = world.network.totals["garbled"]
        world.note(process, f"wants to {act} {task_id}")
        try:
            acts[act][1](process, task_id)
        except KeyboardInterrupt:
            raise
        except Exception as exc:  # noqa: BLE001 - judged here
            world.note(process, f"   {act} {task_id} ends with {type(exc).__name__}")
            world.totals["fenced"] += isinstance(exc, LockLostException)
            is_garbled = isinstance(exc, CorruptObjectException) and world.network.totals["garbled"] > garbled
            is_refused = isinstance(exc, IncompatibleTaskException) and world.scenario.upgrade is not None
            world.totals["refused releases"] += is_refused
            if not is_garbled and not is_refused and not _is_expected(exc, act):
                world.unexpected.append((process.label, exc))
            return False
        world.note(process, f"   {act} {task_id} is done")
        return True

    def _job(self, process: Process, task_id: str) -> Job:
        world = self._world
        timeout = world.rng.choice((None, world.rng.random() * 3 * world.scenario.span))
        job = world.job(process, task_id, newer=self._is_newer, bind_lock_timeout=timeout)
        job.fail_rate = world.scenario.habits.fail
        return job

    def _run(self, process: Process, task_id: str) -> None:
        self._job(process, task_id).run()

    def _enqueue(self, process: Process, task_id: str) -> None:
        with self._job(process, task_id):
            pass

    def _cancel(self, process: Process, task_id: str) -> None:
        self._world.cancels.add(task_id)
        job = self._job(process, task_id)
        job.is_told_to_cancel = True
        job.cancel()

    def _request(self, process: Process, task_id: str) -> None:
        self._world.cancels.add(task_id)
        request_cancel(SimulatedTaskIO(process, self._world.network), task_id, clock=process.clock)

    def _rollback(self, process: Process, task_id: str) -> None:
        self._world.rollbacks.add(task_id)
        self._job(process, task_id).rollback()

    def _clean(self, process: Process, task_id: str) -> None:
        job = self._job(process, task_id)
        job.bind()
        try:
            if self._world.rng.random() < 0.5:
                job.execute(strict_recovery=True)
        finally:
            job.unbind(clean=True)

    def _unlock(self, process: Process, task_id: str) -> None:
        self._world.unlock(process, task_id)


def finish(world: World, task_id: str) -> None:
    """The main thread of a fresh worker that comes when nothing goes wrong any more, and ends the task.

    Workers that stood still, and requests that were on their way, may come back after it and begin the
    task anew. So it looks again when nothing is left of them.
    """
    process = world.start(f"f{task_id}")
    _bring_to_end(world, process, task_id)
    if not world.is_settled:
        while not world.is_settled:
            world.scheduler.sleep(world.scenario.span / 2)
        _bring_to_end(world, process, task_id)


def _bring_to_end(world: World, process: Process, task_id: str) -> None:
    world.finished.pop(task_id, None)
    tries = waits = 0
    is_newer = world.scenario.upgrade is not None
    while tries < _FINISHING_TRIES and waits < _FINISHING_WAITS:
        tries += 1
        world.note(process, f"wants to finish {task_id}")
        job = world.job(process, task_id, newer=is_newer)
        try:
            job.run(wait=3 * world.scenario.span)
        except (TaskCanceledException, TaskRolledBackException) as exc:
            world.note(process, f"   {task_id} is over: {type(exc).__name__}")
        except TaskSuspendedException:
            tries, waits = tries - 1, waits + 1
            _end_wait(world, process, task_id)
            continue
        except StageFailedException as exc:
            if "is stopped: its process died" not in str(exc):
                world.unexpected.append((process.label, exc))
                return
            continue
        except IncompatibleTaskException as exc:
            if world.scenario.upgrade is None:
                world.unexpected.append((process.label, exc))
                return
            # What the newer release may not change any more, the older one ends.
            world.note(process, f"   {task_id} is refused to the {'newer' if is_newer else 'older'} release")
            is_newer = not is_newer
            continue
        except BindException as exc:
            world.note(process, f"   {task_id} cannot be finished yet: {type(exc).__name__}")
            if world.scenario.lease is None:
                try:
                    world.unlock(process, task_id)
                except VersionConflictException:
                    world.note(process, "   the lock has just changed")
            continue
        except Exception as exc:  # noqa: BLE001 - a fault of the engine
            world.unexpected.append((process.label, exc))
            return
        world.finished[task_id] = tries
        world.note(process, f"   {task_id} is finished")
        return


def _end_wait(world: World, process: Process, task_id: str) -> None:
    """Do what a suspended task waits for."""
    try:
        waits_for = TaskStore(SimulatedTaskIO(process, world.network)).get(task_id).suspension
    except PersistenceDataNotFoundException:
        # By somebody who comes back late.
        world.note(process, f"   {task_id} was removed")
        return
    world.note(process, f"   {task_id} waits for {waits_for}")
    if waits_for is None:
        return
    if waits_for.until is not None:
        process.clock.sleep(waits_for.until.timestamp() - process.clock.now())
    else:
        with suppress(VersionConflictException, InvalidTransitionException, PersistenceDataNotFoundException):
            world.signal(process, task_id)


def _is_expected(exc: Exception, act: str) -> bool:
    if isinstance(exc, InvalidTransitionException) and "inconsistent" in str(exc):
        return False
    return isinstance(exc, (*_EXPECTED, *_REFUSALS.get(act, ())))
