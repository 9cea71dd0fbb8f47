"""CheckMate: run, enqueue and load."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from checkmate import (
    BindException,
    BindLock,
    CheckMate,
    IncompatibleTaskException,
    PersistenceDataNotFoundException,
    RetryPolicy,
    StageFailedException,
    StageStatus,
    TaskEngineException,
    TaskIO,
    TaskStore,
    open_task_io,
)

from .pipelines import (
    LOCK,
    TASK,
    FakeClock,
    Logged,
    Notes,
    Step,
    edit,
    engine_for,
    is_locked,
    raw,
    stage_documents,
    steps,
)


def cm_for(io: TaskIO, stages: list[Step] | None = None, **options: Any) -> CheckMate[Step, int]:
    return CheckMate[Step, int](io, TASK, stages or steps(), **options)


def test_run_binds_executes_unbinds_and_returns_the_result(io: TaskIO, log: Logged) -> None:
    cm = cm_for(io, steps(action=log))
    assert cm.status == "UNBOUND"
    assert cm.run() == 3
    assert not cm.is_bound
    assert cm.status is StageStatus.COMPLETE
    assert isinstance(cm.state, Notes)
    assert cm.state.trail == ["a", "b", "c"]
    assert cm.task_id == TASK
    assert not is_locked(io)
    assert cm.run() == 3
    assert log.names == ["a", "b", "c"]


@pytest.mark.parametrize(("failing", "trail"), [("a", []), ("b", ["a"]), ("c", ["a", "b"])])
def test_after_a_failure_status_and_state_stay_readable(io: TaskIO, failing: str, trail: list[str]) -> None:
    def action(stage: Step, _: Notes) -> None:
        if stage.stage_name == failing:
            raise ValueError("no")

    cm = cm_for(io, steps(action=action))
    with pytest.raises(StageFailedException):
        cm.run()
    assert cm.status is StageStatus.ERROR
    assert isinstance(cm.state, Notes)
    assert cm.state.status is StageStatus.ERROR
    assert cm.state.trail == trail
    assert not is_locked(io)


def test_an_empty_block_enqueues(io: TaskIO, log: Logged) -> None:
    with cm_for(io, steps(action=log)) as cm:
        assert cm.status is StageStatus.CREATED
    assert log.names == []
    assert cm.status is StageStatus.CREATED
    view = TaskStore(io).get(TASK)
    assert (view.status, view.holder, view.ended) == (StageStatus.CREATED, None, None)
    assert CheckMate.load(io, TASK).run() == 3
    assert TaskStore(io).get(TASK).status is StageStatus.COMPLETE


def test_a_loaded_task_has_its_inputs_and_settings(io: TaskIO) -> None:
    policy = RetryPolicy.exponential(
        2, factor=3, cap=50, jitter=0, retry_on=(OSError, ValueError), give_up_on=KeyError
    )
    stages = [
        Step(stage_name="a", description="first", timezone="Asia/Tokyo", state=Notes(source="s", count=5))
    ]
    with cm_for(io, stages, retry_policy=policy, max_attempts=4):
        pass
    loaded = CheckMate[Step, int].load(io, TASK)
    assert loaded.retry_policy == policy
    assert loaded.max_attempts == 4
    stage = loaded.stages[0]
    assert (stage.stage_name, stage.description, stage.timezone) == ("a", "first", "Asia/Tokyo")
    assert (stage.state.source, stage.state.count) == ("s", 5)
    other = CheckMate[Step, int].load(io, TASK, retry_policy=RetryPolicy.fixed(1), max_attempts=2)
    assert (other.retry_policy, other.max_attempts) == (RetryPolicy.fixed(1), 2)


def test_load_takes_a_url_and_needs_no_lock(checkmate_file_url: str) -> None:
    io = open_task_io(checkmate_file_url)
    with cm_for(io):
        loaded = CheckMate[Step, int].load(checkmate_file_url, TASK)
        with pytest.raises(BindException):
            loaded.run()
    assert loaded.run() == 3


def test_what_is_not_there_cannot_be_loaded(io: TaskIO) -> None:
    with pytest.raises(PersistenceDataNotFoundException, match=f"there is no task {TASK}"):
        CheckMate.load(io, TASK)
    assert raw(io) == {}


def test_bad_settings_for_a_loaded_task_are_refused(io: TaskIO) -> None:
    with cm_for(io):
        pass
    with pytest.raises(TaskEngineException, match="at least 1"):
        CheckMate.load(io, TASK, max_attempts=0)
    with pytest.raises(TaskEngineException, match=r"RetryPolicy\.NONE"):
        CheckMate.load(io, TASK, max_attempts=2)


def test_a_policy_that_decides_by_a_function_must_be_given_again(io: TaskIO) -> None:
    with cm_for(io, retry_policy=RetryPolicy.fixed(1, retry_on=lambda _: True), max_attempts=2):
        pass
    with pytest.raises(IncompatibleTaskException, match="retry_policy="):
        CheckMate.load(io, TASK)
    assert CheckMate.load(io, TASK, retry_policy=RetryPolicy.fixed(1)).run() == 3


@pytest.mark.parametrize(
    "name", ["not.imported.Stage", "os.path", "os.system", "builtins.dict", "json.JSONDecoder", "", "."]
)
def test_a_class_that_is_not_an_imported_stage_is_never_looked_for(io: TaskIO, name: str) -> None:
    with cm_for(io, steps("a")):
        pass
    edit(io, f"{TASK}/task.json", stage_template_classes=[name])
    before = set(sys.modules)
    with pytest.raises(TaskEngineException):
        CheckMate.load(io, TASK)
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", ["not.imported.Error", "os.system", "builtins.dict"])
def test_an_exception_class_that_is_not_imported_is_named(io: TaskIO, name: str) -> None:
    with cm_for(io, steps("a"), retry_policy=RetryPolicy.fixed(1, retry_on=OSError), max_attempts=2):
        pass
    policy = {**RetryPolicy.fixed(1).dump(), "retry_on": [name]}
    edit(io, f"{TASK}/task.json", retry_policy=policy)
    with pytest.raises(IncompatibleTaskException, match=name):
        CheckMate.load(io, TASK)


def test_wait_is_for_this_run_only(io: TaskIO, clock: FakeClock) -> None:
    holder = BindLock(io, LOCK)
    holder.acquire()
    cm = cm_for(io)
    cm.clock = clock
    with pytest.raises(BindException):
        cm.run()
    assert clock.sleeps == []
    with pytest.raises(BindException):
        cm.run(wait=3.0)
    assert clock.sleeps
    assert cm.bind_lock_timeout is None
    clock.on_sleep = holder.release
    assert cm.run(wait=100.0) == 3


def test_two_workers_of_one_task_run_it_once(io: TaskIO, log: Logged) -> None:
    second = cm_for(io, steps(action=log))

    def action(stage: Step, previous: Notes) -> None:
        log(stage, previous)
        with pytest.raises(BindException):
            second.run()

    assert cm_for(io, steps(action=action)).run() == 3
    assert second.run() == 3
    assert log.names == ["a", "b", "c"]


SCRIPT = """
    import sys
    from pydantic import Field
    from checkmate import BaseStage, BaseStageState, CheckMate

    class State(BaseStageState):
        lines: list[str] = Field(default_factory=list)

    class Fetch(BaseStage[State]):
        stage_name: str = "fetch"
        state: State = State()

        def execute_stage(self, previous_state_copy: State) -> None:
            self.state.lines.append("fetched")
            self.state.result = len(self.state.lines)

    def main() -> None:
        url, how = sys.argv[1:]
        if how == "enqueue":
            with CheckMate(url, "task-1", [Fetch()]):
                pass
        elif how == "run":
            print(CheckMate(url, "task-1", [Fetch()]).run())
        else:
            print(CheckMate.load(url, "task-1").run())

    if __name__ == "__main__":
        main()
"""


@pytest.mark.parametrize("layout", ["fetch_cm.py", "package/fetch_cm.py"])
def test_a_script_and_its_importable_module_are_the_same_task(
    tmp_path: Path, checkmate_file_url: str, layout: str
) -> None:
    script = tmp_path / layout
    script.parent.mkdir(exist_ok=True)
    script.write_text(textwrap.dedent(SCRIPT))
    (script.parent / "__init__.py").touch()
    if layout == "fetch_cm.py":
        (script.parent / "__init__.py").unlink()
    module = layout.removesuffix(".py").replace("/", ".")

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run(str(script), checkmate_file_url, "enqueue")
    assert run("-c", f"import {module} as m; m.main()", checkmate_file_url, "load") == "1"
    assert run(str(script), checkmate_file_url, "run") == "1"
    assert run("-m", module, checkmate_file_url, "load") == "1"
    assert run("-c", f"import {module} as m; m.main()", checkmate_file_url, "run") == "1"
    (stage,) = stage_documents(open_task_io(checkmate_file_url))
    assert stage["attempts"] == 1
    assert stage["state"]["lines"] == ["fetched"]


def test_an_engine_can_open_what_checkmate_stored(io: TaskIO) -> None:
    with cm_for(io):
        pass
    with engine_for(io) as engine:
        engine.execute()
    assert cm_for(io).run() == 3
