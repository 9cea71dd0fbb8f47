"""A forked child that uses its parent's engine is refused, and takes nothing from the parent."""

import os
import sys
from collections.abc import Callable

import pytest

from checkmate import BindException, StageStatus, TaskIO, open_task_io

from .pipelines import Engine, engine_for, is_locked, raw


def in_child(action: Callable[[], object]) -> int:
    """Exit code of a forked child that does ``action``: 0 for BindException, 1 for nothing, 2 for anything else."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            action()
            code = 1
        except BindException:
            code = 0
        except BaseException as exc:
            print(repr(exc), file=sys.stderr)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def store(checkmate_file_url: str) -> TaskIO:
    return open_task_io(checkmate_file_url)


USES: dict[str, Callable[[Engine], object]] = {
    "execute": lambda engine: engine.execute(),
    "cancel": lambda engine: engine.cancel(),
    "clean": lambda engine: engine.unbind(clean=True),
    "status by hand": lambda engine: engine.stages[0].update_status("x", StageStatus.RUNNING, 0.0),
}


@pytest.mark.parametrize("use", USES)
def test_a_child_cannot_use_the_engine_of_its_parent(store: TaskIO, use: str) -> None:
    with engine_for(store) as engine:
        before = raw(store)
        assert in_child(lambda: USES[use](engine)) == 0
        assert raw(store) == before
        engine.execute()
    assert not is_locked(store)


def test_a_child_that_leaves_the_block_releases_nothing(store: TaskIO) -> None:
    with engine_for(store) as engine:
        before = raw(store)
        assert in_child(engine.unbind) == 1
        assert raw(store) == before
        engine.execute()


def test_a_child_does_not_clean_up_after_its_parent(store: TaskIO) -> None:
    with engine_for(store, auto_cleanup=True) as engine:
        before = raw(store)
        in_child(engine.unbind)
        assert raw(store) == before
        engine.execute()


def test_a_child_meets_the_lock_of_its_parent_with_an_engine_of_its_own(store: TaskIO) -> None:
    with engine_for(store):
        before = raw(store)
        assert in_child(lambda: engine_for(store).bind()) == 0
        assert raw(store) == before


def test_a_child_can_bind_a_task_of_its_own(store: TaskIO) -> None:
    def own() -> None:
        with engine_for(store, task_id="own") as engine:
            engine.execute()

    with engine_for(store) as engine:
        assert in_child(own) == 1
        engine.execute()
    assert "own/task.json" in raw(store)
