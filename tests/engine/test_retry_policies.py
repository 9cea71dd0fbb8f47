"""RetryPolicy as a value: its waits, its conditions, its warnings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkmate import (
    CheckMateEngine,
    RetryPolicy,
    StageFailedException,
    TaskEngineException,
    TaskIO,
)

from .pipelines import Failing, FakeClock, Step, engine_for, steps


def test_exponential_waits_grow_to_the_cap(memory: TaskIO, clock: FakeClock) -> None:
    policy = RetryPolicy.exponential(2.0, factor=3.0, cap=20.0, jitter=0.0)
    with (
        pytest.raises(StageFailedException),
        engine_for(
            memory, steps("a", action=Failing()), clock=clock, retry_policy=policy, max_attempts=6
        ) as engine,
    ):
        engine.execute()
    assert clock.sleeps == [2.0, 6.0, 18.0, 20.0, 20.0]


@given(
    initial=st.floats(0, 100),
    factor=st.floats(1, 10),
    cap=st.floats(0, 1000),
    jitter=st.floats(0, 50),
    failures=st.integers(1, 5000),
)
def test_no_wait_is_negative_or_above_the_cap(
    initial: float, factor: float, cap: float, jitter: float, failures: int
) -> None:
    wait = RetryPolicy.exponential(initial, factor=factor, cap=cap, jitter=jitter).wait_seconds(failures)
    assert 0 <= wait <= cap
    fixed = RetryPolicy.fixed(initial, jitter=jitter).wait_seconds(failures)
    assert initial <= fixed <= initial + jitter


def test_jitter_is_random() -> None:
    policy = RetryPolicy.fixed(1.0, jitter=5.0)
    assert len({policy.wait_seconds(1) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    "bad",
    [
        lambda: RetryPolicy.fixed(-1),
        lambda: RetryPolicy.fixed(jitter=-1),
        lambda: RetryPolicy.exponential(-0.1),
        lambda: RetryPolicy.exponential(factor=0.5),
        lambda: RetryPolicy.exponential(cap=-1),
        lambda: RetryPolicy.exponential(jitter=-1),
    ],
)
def test_bad_numbers_are_refused(bad: Any) -> None:
    with pytest.raises(TaskEngineException, match="at least"):
        bad()


def test_policies_are_values() -> None:
    assert RetryPolicy.fixed(1, retry_on=OSError) == RetryPolicy.fixed(1, retry_on=(OSError,))
    assert RetryPolicy.fixed(1) != RetryPolicy.fixed(2)
    assert RetryPolicy.exponential() == RetryPolicy.exponential(1.0, factor=2.0, cap=60.0, jitter=1.0)
    assert hash(RetryPolicy.NONE) == hash(RetryPolicy())
    assert not RetryPolicy.NONE.should_retry(Exception())


def test_useless_settings_warn_and_name_the_argument(memory: TaskIO) -> None:
    with pytest.warns(UserWarning, match="max_attempts"):
        CheckMateEngine(memory, stage_templates=steps("a"), retry_policy=RetryPolicy.fixed())
    with pytest.warns(UserWarning, match="max_attempts"):
        CheckMateEngine(memory, stage_templates=[Step(stage_name="a", retry_policy=RetryPolicy.fixed())])
    with pytest.raises(TaskEngineException, match=r"max_attempts.*RetryPolicy\.NONE"):
        CheckMateEngine(memory, stage_templates=[Step(stage_name="a", max_attempts=3)])
