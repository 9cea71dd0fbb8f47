"""Waits, counts and limits of attempts hold across restarts; deaths are counted apart from failures."""

import pytest

from checkmate import (
    RetryPolicy,
    StageFailedException,
    StageTimeoutException,
    TaskIO,
    TaskStore,
)

from .pipelines import (
    LOCK,
    TASK,
    Failing,
    FakeClock,
    Logged,
    Notes,
    Step,
    document,
    edit,
    engine_for,
    stage_documents,
    steps,
)

POLICY = RetryPolicy.fixed(100.0)


class DiedError(BaseException):
    """The process died here."""


class Deadly:
    """An action that kills its process so many times."""

    def __init__(self, times: int = 10**9) -> None:
        self.left = times
        self.calls = 0

    def __call__(self, stage: Step, _: Notes) -> None:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise DiedError

    def __deepcopy__(self, memo: object) -> "Deadly":
        return self


def die(io: TaskIO, stages: list[Step], **options: object) -> None:
    """Run it in a process that dies: its lock stays, and its holder is known to be dead."""
    engine = engine_for(io, stages, **options)  # type: ignore[arg-type]
    engine.bind()
    lock = document(io, LOCK)
    with pytest.raises(DiedError):
        engine.execute(strict_recovery=True)
    engine.unbind()
    # A pid that no process has, on this very host.
    edit(io, LOCK, **{**lock, "pid": 2**22 + 7, "pid_started": 1})


def run(io: TaskIO, stages: list[Step], **options: object) -> None:
    with engine_for(io, stages, **options) as engine:  # type: ignore[arg-type]
        engine.execute(strict_recovery=True)


def dies_while_waiting(io: TaskIO, stages: list[Step], clock: FakeClock, after: float) -> None:
    def sleep() -> None:
        if clock.time >= begin + after:
            raise DiedError

    begin, clock.on_sleep = clock.time, sleep
    die(io, stages, clock=clock, retry_policy=POLICY, max_attempts=3)
    clock.on_sleep = None


def test_a_restart_waits_the_rest_of_the_wait(io: TaskIO) -> None:
    first, second = FakeClock(), FakeClock()
    action = Failing(1)
    dies_while_waiting(io, steps("a", action=action), first, after=40.0)
    second.time = first.time + 15
    run(io, steps("a", action=action), clock=second, retry_policy=POLICY, max_attempts=3)
    assert sum(first.sleeps) == 40.0
    assert sum(second.sleeps) == 45.0
    assert action.calls == 2


@pytest.mark.parametrize(("skew", "waited"), [(+10_000.0, 0.0), (-10_000.0, 100.0)])
def test_a_wrong_clock_neither_prolongs_a_wait_nor_keeps_it(io: TaskIO, skew: float, waited: float) -> None:
    first, second = FakeClock(), FakeClock()
    dies_while_waiting(io, steps("a", action=Failing(1)), first, after=40.0)
    second.time = first.time + skew
    run(io, steps("a"), clock=second, retry_policy=POLICY, max_attempts=3)
    assert sum(second.sleeps) == waited


def test_a_restart_does_not_count_anew(io: TaskIO) -> None:
    action = Failing()
    clock = FakeClock()
    for _ in range(2):
        dies_while_waiting(io, steps("a", action=action), clock, after=20.0)
    with pytest.raises(StageFailedException, match="after 3 attempt"):
        run(io, steps("a", action=action), clock=clock, retry_policy=POLICY, max_attempts=3)
    assert action.calls == 3


def test_the_next_attempt_is_seen_from_outside(io: TaskIO) -> None:
    clock = FakeClock()
    dies_while_waiting(io, steps("a", action=Failing()), clock, after=20.0)
    notes = TaskStore(io).get(TASK).stages[0].notes
    assert notes.retry_at is not None
    assert notes.retry_at.timestamp() == clock.time + 80


def test_a_stage_that_keeps_killing_its_process_is_stopped(io: TaskIO) -> None:
    action, undone = Deadly(), Logged()
    stages = steps("a", action=action)
    stages[0].undo = undone
    for _ in range(3):
        die(io, stages)
    with pytest.raises(
        StageFailedException, match=r"died in it 3 time\(s\) in a row.*max_interruptions is 3"
    ):
        run(io, stages)
    assert action.calls == 3
    view = TaskStore(io).get(TASK)
    assert view.status == "ERROR"
    assert view.stages[0].history[-1].message == "Its process died in it 3 time(s) in a row"
    # As with any stage in ERROR, the next execute begins anew, and first undoes what was cut off.
    undone.names.clear()
    action.left = 0
    run(io, stages)
    assert undone.names == ["a"]
    assert action.calls == 4


@pytest.mark.parametrize("where", ["engine", "stage"])
def test_how_often_it_may_is_the_engines_or_the_stages_to_say(io: TaskIO, where: str) -> None:
    action = Deadly()
    stages = steps("a", action=action)
    options: dict[str, object] = {"max_interruptions": 1} if where == "engine" else {}
    if where == "stage":
        stages[0].max_interruptions = 1
    die(io, stages, **options)
    with pytest.raises(StageFailedException, match="max_interruptions is 1"):
        run(io, stages, **options)
    assert action.calls == 1


def test_failures_and_deaths_are_counted_apart(io: TaskIO) -> None:
    class Both(Deadly):
        def __call__(self, stage: Step, _: Notes) -> None:
            self.calls += 1
            if self.calls in (1, 2, 4, 5):
                raise DiedError
            if self.calls == 3:
                raise ValueError

    action = Both()
    options: dict[str, object] = {"retry_policy": RetryPolicy.fixed(0), "max_attempts": 2}
    for _ in range(2):
        die(io, steps("a", action=action), **options)
    assert TaskStore(io).get(TASK).stages[0].notes.interruptions == 1
    # A failure in between is a life sign: the count of deaths begins anew, and no attempt was used up.
    die(io, steps("a", action=action), **options)
    die(io, steps("a", action=action), **options)
    run(io, steps("a", action=action), **options)
    assert action.calls == 6


def test_a_checkpoint_is_a_sign_of_life(io: TaskIO) -> None:
    class Slow(Deadly):
        def __call__(self, stage: Step, _: Notes) -> None:
            self.calls += 1
            stage.state.count += 1
            stage.checkpoint()
            if self.calls < 10:
                raise DiedError

    action = Slow()
    for _ in range(9):
        die(io, steps("a", action=action))
    run(io, steps("a", action=action))
    assert stage_documents(io)[0]["state"]["count"] == 10


def test_a_polite_end_is_no_death(io: TaskIO) -> None:
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt), engine_for(io, steps("a", action=interrupt)) as engine:
            engine.execute(strict_recovery=True)
    run(io, steps("a"))
    assert len(stage_documents(io)[0]["history"]) == 7


def test_a_death_between_two_stages_is_no_death_in_either(io: TaskIO) -> None:
    def die_behind(stage: Step) -> None:
        if stage.status == "COMPLETE":
            raise DiedError

    engine = engine_for(io, steps("a", "b"))
    engine.state_update_hook = die_behind  # type: ignore[method-assign]
    engine.bind()
    lock = document(io, LOCK)
    with pytest.raises(DiedError):
        engine.execute()
    engine.unbind()
    edit(io, LOCK, **{**lock, "pid": 2**22 + 7, "pid_started": 1})
    with engine_for(io, steps("a", "b", action=interrupt)) as engine:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                engine.execute(strict_recovery=True)
    assert [stage.notes.interruptions for stage in TaskStore(io).get(TASK).stages] == [0, 0]


def interrupt(stage: Step, _: Notes) -> None:
    raise KeyboardInterrupt


def test_a_stage_finds_out_that_its_time_is_over(io: TaskIO) -> None:
    clock = FakeClock()

    def long(stage: Step, _: Notes) -> None:
        for number in stage.resumable(range(100), every=1):
            clock.pass_time(1.0)
            stage.state.count = number

    stages = steps("a", action=long)
    stages[0].timeout = 10.5
    with pytest.raises(StageFailedException) as caught:
        run(io, stages, clock=clock, lease=None)
    assert isinstance(caught.value.__cause__, StageTimeoutException)
    assert "10.5 s" in str(caught.value.__cause__)
    # What it had saved is kept, so each attempt gets further.
    assert stage_documents(io)[0]["state"]["count"] == 9
    run(io, steps("a", action=long), clock=clock, lease=None)
    assert stage_documents(io)[0]["state"]["count"] == 99


@pytest.mark.parametrize("ask", ["check_alive", "checkpoint", "progress"])
def test_it_can_ask_in_many_ways(io: TaskIO, ask: str) -> None:
    clock = FakeClock()

    def long(stage: Step, _: Notes) -> None:
        clock.pass_time(11.0)
        getattr(stage, ask)(*([1] if ask == "progress" else []))

    stages = steps("a", action=long)
    stages[0].timeout = 10.0
    with pytest.raises(StageFailedException, match="StageTimeoutException"):
        run(io, stages, clock=clock, lease=None)


def test_one_that_is_done_before_it_asks_has_not_failed(io: TaskIO) -> None:
    clock = FakeClock()
    stages = steps("a", action=lambda *_: clock.pass_time(11.0))
    stages[0].timeout = 10.0
    run(io, stages, clock=clock, lease=None)
    assert TaskStore(io).get(TASK).status == "COMPLETE"


def test_a_time_limit_is_retried_like_any_failure(io: TaskIO) -> None:
    clock = FakeClock()

    def long(stage: Step, _: Notes) -> None:
        clock.pass_time(20.0 if stage.attempts == 1 else 1.0)
        stage.check_alive()

    stages = steps("a", action=long)
    stages[0].timeout = 10.0
    run(io, stages, clock=clock, lease=None, retry_policy=RetryPolicy.fixed(0), max_attempts=2)
    assert stage_documents(io)[0]["attempts"] == 2
