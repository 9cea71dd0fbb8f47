"""How the tests of bad input look at what was refused."""

import pytest

from checkmate import TaskEngineException, TaskIO

from .pipelines import LOCK, TASK, Engine, Step, engine_for, is_locked, raw_without_locks, steps

FIRST = f"{TASK}/stages/000-a.json"


def store_task(io: TaskIO) -> None:
    """A task whose first stage is done and whose second failed."""

    def fail_in_b(stage: Step, _: object) -> None:
        if stage.stage_name == "b":
            raise ValueError("no")

    with pytest.raises(TaskEngineException), engine_for(io, steps(action=fail_in_b)) as engine:
        engine.execute()


def refused(io: TaskIO, engine: Engine, error: type[Exception], *words: str) -> Exception:
    """Binding and executing is refused with ``error``; the store and the lock are as before."""
    before, locked = raw_without_locks(io), is_locked_or_damaged(io)
    with pytest.raises(error) as caught, engine:
        engine.execute(strict_recovery=True)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value), f"{word!r} is missing in: {caught.value}"
    assert raw_without_locks(io) == before
    assert is_locked_or_damaged(io) == locked
    assert not engine.is_bound
    return caught.value


def is_locked_or_damaged(io: TaskIO) -> object:
    try:
        return is_locked(io)
    except Exception:
        return io.read(LOCK).data
