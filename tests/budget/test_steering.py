"""What waiting, steering and going back cost in requests, on every backend: counted at the server where there is one."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from pydantic import Field

from checkmate_core import (
    BaseStage,
    BaseStageState,
    CheckMate,
    StageFailedException,
    Suspend,
    TaskCanceledException,
    TaskStore,
    TaskSuspendedException,
    VersionConflictException,
)
from checkmate_core.testing import RequestCounts

from .meters import Measured, Meter
from .test_budget import STAGE_COUNTS, cost

# Of a task of n stages, of which the last one waits, fails or saves. Reads at bind: the manifest twice, the
# lock twice, the cancel request, the stages.
BUDGET: dict[str, Callable[[int], RequestCounts]] = {
    # As a new task, but for the end: SUSPENDED, a look for the event, the lock is released.
    "run until suspended": lambda n: cost(reads=2, writes=2 * n + 3),
    "run until suspended, until a time": lambda n: cost(reads=1, writes=2 * n + 3),
    "ask a suspended task too early": lambda n: cost(reads=n + 5, writes=2),
    # The event is read, RUNNING stored with its data, then it is removed.
    "resume with the event": lambda n: cost(reads=n + 5, writes=4, removes=2),
    "signal": lambda _: cost(reads=1, writes=1),
    # Whether the one there is our own, sent twice, and then whether it is of this life.
    "signal, one is there": lambda _: cost(reads=3, writes=1),
    "signal, one is replaced": lambda _: cost(reads=3, writes=2),
    "request a cancel": lambda _: cost(reads=1, writes=1),
    # The request is looked at once more, to see of which life it is.
    "resume with a cancel request": lambda n: cost(reads=n + 5, writes=3, removes=1),
    "checkpoint": lambda _: cost(reads=1, writes=1),
    # Two writes a stage; the lock, and the end in the manifest.
    "rollback": lambda n: cost(reads=n + 4, writes=2 * n + 2, removes=1),
    # The stage that failed says so in one write, and that it was rolled back.
    "new task, compensated": lambda n: cost(reads=1, writes=2 * n + 3 + 2 * (n - 1), removes=1),
    "get a suspended task": lambda n: cost(reads=n + 2 + 2),
    "find the unfinished": lambda n: cost(reads=n + 2, lists=1),
}


class Steered(BaseStageState):
    go: int | None = None


class Stage(BaseStage[Steered]):
    state: Steered = Field(default_factory=Steered)
    act: Any = Field(default=None, exclude=True)

    def execute_stage(self, previous_state_copy: Steered) -> None:
        if self.act:
            self.act(self)


class Steering:
    """A task on a metered store, the last stage of which does something."""

    def __init__(self, meter: Meter, stages: int) -> None:
        self.meter = meter
        self.stages = stages
        self.store = TaskStore(meter.io)

    def task(self, act: Callable[[Stage], object] | None = None, task_id: str = "t", **options: Any) -> Any:
        last = self.stages - 1
        stages = [Stage(stage_name=f"s{i}", act=act if i == last else None) for i in range(self.stages)]
        return CheckMate[Stage, Any](self.meter.io, task_id, stages, **options)

    def costs(self, what: str, action: Callable[[], object], *errors: type[Exception]) -> None:
        with self.meter.measure() as measured, suppress(*errors):
            action()
        self.check(what, measured)

    def check(self, what: str, measured: Measured) -> None:
        found = measured.counts
        assert cost(found.reads + found.exists, found.writes, found.removes, found.lists) == BUDGET[what](
            self.stages
        ), what


@pytest.fixture(params=STAGE_COUNTS)
def steering(meter: Meter, request: pytest.FixtureRequest) -> Steering:
    return Steering(meter, request.param)


def wait(stage: Stage) -> None:
    if stage.state.go is None:
        raise Suspend(event="go")


def wait_for_long(stage: Stage) -> None:
    raise Suspend(until=timedelta(days=1))


def test_a_task_that_waits(steering: Steering) -> None:
    store = steering.store
    steering.costs("run until suspended", steering.task(wait).run, TaskSuspendedException)
    steering.costs("ask a suspended task too early", steering.task(wait).run, TaskSuspendedException)
    steering.costs("get a suspended task", lambda: store.get("t"))
    steering.costs("signal", lambda: store.signal("t", "go", 1))
    steering.costs("signal, one is there", lambda: store.signal("t", "go", 1), VersionConflictException)
    steering.costs("signal, one is replaced", lambda: store.signal("t", "go", 2, replace=True))
    steering.costs("resume with the event", steering.task(wait).run)
    assert store.get("t").stages[-1].state["go"] == 2
    timed = steering.task(wait_for_long, "timed")
    steering.costs("run until suspended, until a time", timed.run, TaskSuspendedException)


def test_a_task_that_is_canceled_from_elsewhere(steering: Steering) -> None:
    with steering.task():
        pass
    steering.costs("request a cancel", lambda: steering.store.request_cancel("t"))
    steering.costs("resume with a cancel request", steering.task().run, TaskCanceledException)


def test_a_checkpoint(steering: Steering) -> None:
    steering.task(lambda stage: steering.costs("checkpoint", stage.checkpoint)).run()


def fail(_: Stage) -> None:
    raise ValueError


def test_a_task_that_is_rolled_back(steering: Steering) -> None:
    with suppress(StageFailedException):
        steering.task(fail).run()
    steering.costs("rollback", steering.task().rollback)
    saga = steering.task(fail, "saga", on_error="compensate")
    steering.costs("new task, compensated", saga.run, StageFailedException)


def test_finished_tasks_cost_a_recovery_nothing(steering: Steering) -> None:
    for number in range(3):
        steering.task(task_id=f"done-{number}").run()
    with steering.task():
        pass
    steering.costs("find the unfinished", steering.store.unfinished)
