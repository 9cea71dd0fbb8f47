"""The public API as an application uses it, for the type checkers; `test_typed_api.py` also runs it."""

from typing import Any, assert_type

from pydantic import Field

from checkmate import (
    BaseStage,
    BaseStageState,
    BindLock,
    CheckMate,
    CheckMateEngine,
    RetryPolicy,
    StageFailedException,
    StageStateHistoryEntry,
    StageStatus,
    StageView,
    TaskIO,
    TaskStore,
    TaskView,
    open_task_io,
)


class Ingest(BaseStageState):
    folder: str | None = None
    paths: list[str] = Field(default_factory=list)
    result: int | None = None


class Discover(BaseStage[Ingest]):
    stage_name: str = "discover"
    state: Ingest = Ingest()

    def execute_stage(self, previous_state_copy: Ingest) -> None:
        assert_type(self.state, Ingest)
        assert_type(previous_state_copy.paths, list[str])
        self.state.require("folder")
        self.state.paths = [f"{self.state.folder}/a", f"{self.state.folder}/b"]

    def rollback_stage(self, previous_state_copy: Ingest) -> None:
        self.state.paths.clear()

    def cancel(self) -> None:
        self.state.paths.clear()


class Count(BaseStage[Ingest]):
    stage_name: str = "count"
    state: Ingest = Ingest()
    factor: int = 1

    def execute_stage(self, previous_state_copy: Ingest) -> None:
        self.state.result = len(self.state.paths) * self.factor


class Watched(CheckMateEngine[BaseStage[Ingest], int]):
    changes: int = 0

    def state_update_hook(self, stage: BaseStage[Ingest]) -> None:
        assert_type(stage.state, Ingest)
        self.changes += 1


def cm_factory_ingest(url: str, task_id: str | None = None) -> CheckMate[BaseStage[Ingest], int]:
    return CheckMate(
        url,
        task_id,
        [Discover(state=Ingest(folder="in")), Count(factor=2)],
        retry_policy=RetryPolicy.exponential(
            0.1, retry_on=(OSError, TimeoutError), give_up_on=PermissionError
        ),
        max_attempts=3,
        bind_lock_timeout=5.0,
    )


def run_engine(io: TaskIO) -> None:
    engine = Watched(io, "watched", [Discover(state=Ingest(folder="in")), Count()], force_create=True)
    with engine as bound:
        assert_type(bound.fencing_token, int | None)
        engine.execute(strict_recovery=True)
        assert_type(engine.task_result, int | None)
        assert_type(engine.status, StageStatus)
        assert_type(engine.cumulative_attempts, int)
        assert_type(engine.check_sync(), bool)
        assert_type(engine.dump_stages("persistence", color="", basenames_only=True), str)
        first = engine.stages[0]
        assert_type(first, BaseStage[Ingest])
        assert_type(first.obj_name, str)
        assert_type(first.attempts, int)
        assert_type(first.state.history, list[StageStateHistoryEntry])
        assert engine.changes == 4
    assert_type(engine.has_lockfile, bool)
    assert_type(engine.lock_obj_name, str)


def run_checkmate(url: str) -> int:
    cm = cm_factory_ingest(url, "job-1")
    assert_type(cm.task_id, str)
    result = cm.run(wait=1.0)
    assert_type(result, int | None)
    assert_type(cm.state, BaseStageState)
    loaded = CheckMate[BaseStage[Ingest], int].load(url, "job-1")
    assert_type(loaded, CheckMate[BaseStage[Ingest], int])
    assert_type(loaded.run(), int | None)
    return result or 0


def look(url: str) -> list[str]:
    store = TaskStore(url)
    views = store.list()
    assert_type(views, list[TaskView])
    assert_type(views[0].stages, tuple[StageView, ...])
    assert_type(store.dump(views[0].task_id), dict[str, Any])
    assert_type(store.unlock(views[0].task_id), str | None)
    return [view.task_id for view in views]


def lock(io: TaskIO) -> int:
    with BindLock(io, "_locks/own.lock", 1.0) as held:
        assert_type(held, BindLock)
        assert_type(held.owner, str | None)
        return held.epoch


def fail(url: str) -> BaseException | None:
    try:
        CheckMate[BaseStage[Ingest], int](url, "job-2", [Discover()]).run()
    except StageFailedException as exc:
        return exc.__cause__
    return None


def main(url: str) -> None:
    io = open_task_io(url)
    assert_type(io, TaskIO)
    run_engine(io)
    assert run_checkmate(url) == 4
    assert sorted(look(url)) == ["job-1", "watched"]
    assert lock(io) == 1
    assert fail(url) is not None
