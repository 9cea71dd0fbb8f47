"""What a stage is given, what it may leave, and what is recorded of it."""

import copy
import pickle
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMateEngine,
    InvalidTransitionException,
    StageStatus,
    TaskEngineException,
    TaskIO,
)

from .cargo import Carry, run
from .pipelines import TASK, FakeClock, Notes, Step, engine_for, stage_documents, steps


def test_the_history_tells_every_change_in_the_stages_timezone(io: TaskIO, clock: FakeClock) -> None:
    def work(stage: Step, _: Notes) -> None:
        clock.sleep(90)

    zones = {"a": "UTC", "b": "Asia/Kolkata", "c": "America/New_York"}
    stages = [Step(stage_name=name, timezone=zone, action=work) for name, zone in zones.items()]
    begin = clock.time
    with engine_for(io, stages, clock=clock) as engine:
        engine.execute()
        for index, stage in enumerate(engine.stages):
            running, complete = stage.state.history
            assert (running.status, complete.status) == (StageStatus.RUNNING, StageStatus.COMPLETE)
            assert running.begin.timestamp() == complete.begin.timestamp() == begin + 90 * index
            assert running.end is None
            assert complete.end is not None
            assert complete.end.timestamp() == begin + 90 * (index + 1)
            assert running.epoch == complete.epoch == engine.fencing_token == 1
            assert running.host
    offsets = [
        datetime.fromisoformat(stage["history"][0]["begin"]).utcoffset() for stage in stage_documents(io)
    ]
    assert offsets == [timedelta(0), timedelta(hours=5, minutes=30), timedelta(hours=-5)]


def test_an_unknown_timezone_is_refused() -> None:
    for zone in ("Mars/Olympus", "", "../etc/passwd", "/etc/localtime"):
        with pytest.raises(ValidationError, match="unknown timezone"):
            Step(stage_name="a", timezone=zone)


def test_a_stage_that_is_not_bound_says_so(memory: TaskIO) -> None:
    stage = Step(stage_name="a")
    for use in (
        lambda: stage.obj_name,
        lambda: stage.url,
        lambda: stage.engine,
        lambda: stage.gen_obj_name(),
        stage.persistence_file_exists,
        lambda: stage.update_status("x", StageStatus.RUNNING, 0.0),
    ):
        with pytest.raises(TaskEngineException, match="stage 'a' is not bound"):
            use()
    engine = engine_for(memory, steps("a"))
    assert stage.gen_obj_name(engine) == f"{TASK}/stages/000-a.json"
    with pytest.raises(TaskEngineException, match="no stage 'z'"):
        Step(stage_name="z").gen_obj_name(engine)
    with pytest.raises(TaskEngineException, match="not bound"):
        stage.bind_to_engine(engine)
    assert stage.volatile_engine_ref is None


def test_a_bound_stage_knows_its_place(io: TaskIO) -> None:
    with engine_for(io) as engine:
        stage = engine.stages[1]
        assert stage.volatile_engine_ref is engine
        assert stage.engine is engine
        assert stage.obj_name == f"{TASK}/stages/001-b.json"
        assert stage.url == io.build_url(stage.obj_name)
        assert not stage.persistence_file_exists()
        with pytest.raises(TaskEngineException, match="already bound"):
            stage.bind_to_engine(engine)
        engine.execute()
        assert stage.persistence_file_exists()
        assert stage.inc_attempts() == 2
        assert stage.attempts == stage.state.attempts == 2


def test_a_status_that_the_machine_forbids_is_refused_and_not_stored(io: TaskIO) -> None:
    with engine_for(io) as engine:
        stage = engine.stages[0]
        for status in (StageStatus.COMPLETE, StageStatus.ERROR, StageStatus.RETRY, StageStatus.UNBOUND):
            with pytest.raises(InvalidTransitionException, match=f"from CREATED to {status}"):
                stage.update_status("by hand", status, 0.0)
        assert stage_documents(io) == []
        stage.update_status("by hand", StageStatus.RUNNING, 0.0, 1.0)
        assert stage_documents(io)[0]["history"][0]["message"] == "by hand"
        assert engine.check_sync()


def test_bind_and_unbind_restore_the_templates(io: TaskIO) -> None:
    templates = steps()
    engine = engine_for(io, templates)
    templates[0].state.count = 1000
    for _ in range(2):
        assert engine.status is StageStatus.UNBOUND
        with engine as entered:
            assert entered is engine
            engine.execute()
        assert [stage.state for stage in engine.stages] == [Notes()] * 3
        assert [stage.volatile_engine_ref for stage in engine.stages] == [None] * 3
    assert engine.task_state.stage_template_classes == [f"{Step.__module__}.Step"] * 3
    assert [stage.state for stage in engine.task_state.stage_templates] == [Notes()] * 3


def test_an_engine_is_bound_once_at_a_time(io: TaskIO) -> None:
    engine = engine_for(io)
    engine.bind()
    with pytest.raises(TaskEngineException, match="already bound"):
        engine.bind()
    assert engine.is_bound
    engine.unbind()
    with pytest.raises(TaskEngineException, match="not bound"):
        engine.unbind()


def test_a_block_lets_exceptions_through_and_unbinds(io: TaskIO) -> None:
    engine = engine_for(io)
    with pytest.raises(ZeroDivisionError), engine:
        raise ZeroDivisionError
    assert not engine.is_bound
    assert not engine.has_lockfile


def test_copies_and_pickles_of_bound_stages_carry_no_engine(io: TaskIO) -> None:
    stages = [Carry(stage_name="a"), Carry(stage_name="b")]
    with CheckMateEngine[Carry, Any](io, TASK, stages) as engine:
        engine.execute()
        bound = engine.stages[0]
        twins = [copy.copy(bound), copy.deepcopy(bound), bound.model_copy(), bound.model_copy(deep=True)]
        twins.append(pickle.loads(pickle.dumps(bound)))
        assert bound.volatile_engine_ref is engine
        assert "volatile_engine_ref" not in bound.model_dump()
        assert "volatile_engine_ref" not in bound.model_dump_json()
        assert "engine" not in repr(bound)
        for twin in twins:
            assert twin.volatile_engine_ref is None
            assert twin.state == bound.state
            assert twin._calls == 1
        assert bound.volatile_engine_ref is engine


def test_templates_with_private_attributes_keep_them_apart(memory: TaskIO) -> None:
    template = Carry(stage_name="a")
    template._calls = 41
    (ran,) = run(memory, template)
    assert (template._calls, ran._calls) == (41, 42)


def test_class_level_defaults_make_a_stage_of_no_arguments(memory: TaskIO) -> None:
    class Fetch(BaseStage[Notes]):
        stage_name: str = "fetch"
        state: Notes = Notes()

        def execute_stage(self, previous_state_copy: Notes) -> None:
            self.state.trail.append("fetched")

    for _ in range(2):
        with CheckMateEngine[Fetch, Any](memory, stage_templates=[Fetch()]) as engine:
            engine.execute()
            assert engine.stages[0].state.trail == ["fetched"], "defaults are not shared"


def test_unknown_fields_are_refused() -> None:
    assert BaseStage.model_config["extra"] == "forbid"
    with pytest.raises(ValidationError):
        Step(stage_name="a", unknown=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Notes(unknown=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Notes(attempts=-1)
    with pytest.raises(TypeError, match="abstract"):
        BaseStage(stage_name="a", state=Notes())  # type: ignore[abstract]


def test_attempts_are_counted_from_many_threads(memory: TaskIO) -> None:
    stage = Step(stage_name="a")
    threads = [threading.Thread(target=lambda: [stage.inc_attempts() for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.attempts == 2000


def test_a_task_of_one_stage_and_a_task_of_many(memory: TaskIO) -> None:
    for count in (1, 60):
        names = [f"s{number}" for number in range(count)]
        with engine_for(memory, steps(*names), task_id=f"n{count}") as engine:
            engine.execute()
            assert engine.task_result == engine.cumulative_attempts == count


def test_models_of_the_state_are_models() -> None:
    assert issubclass(BaseStageState, BaseModel)
    assert set(BaseStageState.model_fields) == {"status", "attempts", "history", "result"}
