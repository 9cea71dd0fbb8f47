"""How many requests each thing costs, on every backend, to the request.

On memory and files the engine's calls are counted, elsewhere the HTTP requests that arrive at the
server. One table, `BUDGET`, says what is allowed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from checkmate_core import BindException, StageFailedException, TaskEngineException, TaskStore
from checkmate_core.process import ProcessIdentity
from checkmate_core.testing import RequestCounts

from .meters import Measured, Meter
from .pipeline import Counted, FailUntil, cm_factory_counted

STAGE_COUNTS = [1, 10]


def cost(reads: int = 0, writes: int = 0, removes: int = 0, lists: int = 0) -> RequestCounts:
    return RequestCounts(reads=reads, writes=writes, removes=removes, lists=lists)


# Of a task of n stages. The design's limits: 2n + 5 for a new task; n + 5 reads and 2 writes before
# the first stage runs again.
BUDGET: dict[str, Callable[[int], RequestCounts]] = {
    #                                         manifest, lock, cancel request, stages
    "new task, generated id": lambda n: cost(reads=0, writes=2 * n + 3, removes=1),
    "new task, given id": lambda n: cost(reads=1, writes=2 * n + 3, removes=1),
    "new task, force_create": lambda n: cost(reads=1, writes=2 * n + 3, removes=1),
    "new task, no_lock": lambda n: cost(reads=1, writes=2 * n + 2),
    "force_create of a task that exists": lambda n: cost(reads=1),
    "enqueue": lambda n: cost(reads=1, writes=3),
    "resume an enqueued task": lambda n: cost(reads=n + 4, writes=2 * n + 2, removes=1),
    "resume until a stage runs, holder killed": lambda n: cost(reads=n + 4, writes=2),
    "resume until a stage runs, lock released": lambda n: cost(reads=n + 4, writes=2),
    "resume until a stage runs, stage failed": lambda n: cost(reads=n + 4, writes=2),
    "ask a finished task again": lambda n: cost(reads=n + 3, writes=1, removes=1),
    "one retry": lambda n: cost(writes=2),
    "locked by somebody else": lambda n: cost(reads=3),
    "cancel": lambda n: cost(reads=n + 4, writes=3, removes=1),
    "ls of five tasks": lambda n: cost(reads=5 * (n + 2), lists=1),
    "get": lambda n: cost(reads=n + 2),
    "unlock": lambda n: cost(reads=1, writes=1),
    "has_lockfile": lambda n: cost(reads=1),
    "persistence_file_exists of each stage": lambda n: cost(reads=n),
}


@dataclass(frozen=True)
class Case:
    """A budgeted thing on one store."""

    meter: Meter
    stages: int

    def run(self, **options: object) -> None:
        cm_factory_counted(self.meter.io, self.stages, **options).run()  # type: ignore[arg-type]

    def check(self, what: str, measured: Measured) -> None:
        found = measured.counts
        assert cost(found.reads + found.exists, found.writes, found.removes, found.lists) == BUDGET[what](
            self.stages
        )


@pytest.fixture(params=STAGE_COUNTS)
def case(meter: Meter, request: pytest.FixtureRequest) -> Case:
    return Case(meter, request.param)


def test_a_new_task(case: Case) -> None:
    for what, options in (
        ("new task, generated id", {"task_id": None}),
        ("new task, given id", {"task_id": "given"}),
        ("new task, force_create", {"task_id": "forced", "force_create": True}),
        ("new task, no_lock", {"task_id": "unlocked", "no_lock": True}),
    ):
        with case.meter.measure() as measured:
            case.run(**options)
        case.check(what, measured)
        assert measured.counts.total <= 2 * case.stages + 5
    with case.meter.measure() as measured, pytest.raises(TaskEngineException):
        case.run(task_id="given", force_create=True)
    case.check("force_create of a task that exists", measured)


def test_an_enqueued_task(case: Case) -> None:
    with case.meter.measure() as measured, cm_factory_counted(case.meter.io, case.stages):
        pass
    case.check("enqueue", measured)
    with case.meter.measure() as measured:
        case.run()
    case.check("resume an enqueued task", measured)


def test_a_finished_task(case: Case) -> None:
    case.run()
    with case.meter.measure() as measured:
        assert cm_factory_counted(case.meter.io, case.stages).run() == case.stages
    case.check("ask a finished task again", measured)
    assert measured.counts.total <= case.stages + 5


class _InterruptError(BaseException):
    """Ends a run as a signal would."""


@pytest.mark.parametrize("end", ["holder killed", "lock released", "stage failed"])
def test_a_resume_until_the_first_stage_runs_again(
    case: Case, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    last = f"s{case.stages - 1}"

    def interrupt(stage: Counted) -> None:
        if stage.stage_name == last:
            raise _InterruptError if end != "stage failed" else RuntimeError

    first = cm_factory_counted(case.meter.io, case.stages, on_execute=interrupt)
    first.bind()
    with pytest.raises((_InterruptError, StageFailedException)):
        first.execute()
    if end == "holder killed":
        _let_it_seem_dead(monkeypatch)
    else:
        first.unbind()

    seen: list[RequestCounts] = []
    with case.meter.measure() as measured:
        before = case.meter.counts()
        case.run(on_execute=lambda stage: seen.append(case.meter.counts() - before))
    assert len(seen) == 1, "only the last stage runs again"
    case.check(f"resume until a stage runs, {end}", Measured(seen[0]))
    assert seen[0].reads <= case.stages + 5
    assert seen[0].writes <= 2
    # Behind it: COMPLETE, the end in the manifest, the lock's removal.
    assert measured.counts - seen[0] == cost(writes=2, removes=1)


def test_a_retry(case: Case) -> None:
    with case.meter.measure() as smooth:
        case.run(task_id="smooth", max_attempts=2)
    with case.meter.measure() as rough:
        case.run(task_id="rough", max_attempts=2, on_execute=FailUntil("s0", 2))
    case.check("one retry", Measured(rough.counts - smooth.counts))


def test_a_locked_task(case: Case) -> None:
    with cm_factory_counted(case.meter.io, case.stages) as holder:
        with case.meter.measure() as measured, pytest.raises(BindException):
            case.run()
        case.check("locked by somebody else", measured)
        with case.meter.measure() as measured:
            assert holder.has_lockfile
        case.check("has_lockfile", measured)
        with case.meter.measure() as measured:
            assert [stage.persistence_file_exists() for stage in holder.stages] == [False] * case.stages
        case.check("persistence_file_exists of each stage", measured)
        with case.meter.measure() as measured:
            assert TaskStore(case.meter.io).unlock("t")
        case.check("unlock", measured)


def test_a_canceled_task(case: Case) -> None:
    with cm_factory_counted(case.meter.io, case.stages):
        pass
    with case.meter.measure() as measured:
        cm_factory_counted(case.meter.io, case.stages).cancel()
    case.check("cancel", measured)


def test_looking(case: Case) -> None:
    for number in range(5):
        case.run(task_id=f"t{number}")
    store = TaskStore(case.meter.io)
    with case.meter.measure() as measured:
        assert len(store.list()) == 5
    case.check("ls of five tasks", measured)
    with case.meter.measure() as measured:
        store.get("t3")
    case.check("get", measured)


def _let_it_seem_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProcessIdentity, "is_dead_here", lambda _: True)
