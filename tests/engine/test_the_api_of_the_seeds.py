"""Every name, argument and default of the two seed documents."""

import inspect
from typing import Any

import pytest
from pydantic import BaseModel

import checkmate
from checkmate import (
    ACTIVE_STATES,
    CANCELABLE_STATES,
    INACTIVE_STATES,
    LOCK_EXTENSION,
    STAGE_NAME_MAX_LENGTH,
    BaseStage,
    BaseStageState,
    BindLock,
    CheckMate,
    CheckMateEngine,
    RetryPolicy,
    StageStateHistoryEntry,
    StageStatus,
    TaskEngineState,
)
from checkmate_core.status import _StageStateMachine

REQUIRED = inspect.Parameter.empty
WHITE = "\033[97m"

SIGNATURES: dict[Any, dict[str, Any]] = {
    CheckMateEngine.__init__: {
        "io": REQUIRED,
        "task_id": None,
        "stage_templates": None,
        "retry_policy": RetryPolicy.NONE,
        "max_attempts": 1,
        "bind_lock_timeout": None,
        "auto_cleanup": False,
        "no_lock": False,
        "force_create": False,
    },
    CheckMateEngine.bind: {},
    CheckMateEngine.unbind: {"clean": False},
    CheckMateEngine.execute: {"strict_recovery": False},
    CheckMateEngine.cancel: {},
    CheckMateEngine.check_sync: {},
    CheckMateEngine.dump_stages: {
        "source": "memory",
        "color": WHITE,
        "basenames_only": False,
        "source_in_heading": False,
    },
    CheckMateEngine.log_stages: {"source": "memory", "color": WHITE, "basenames_only": False},
    CheckMateEngine.__enter__: {},
    CheckMateEngine.__exit__: {"exc_type": REQUIRED, "exc_value": REQUIRED, "traceback": REQUIRED},
    BindLock.__init__: {"task_io": REQUIRED, "obj_name": REQUIRED, "acquire_timeout": None},
    BindLock.acquire: {},
    BindLock.__enter__: {},
    BindLock.__exit__: {"exc_type": REQUIRED, "exc_value": REQUIRED, "traceback": REQUIRED},
    BaseStage.bind_to_engine: {"task_engine": REQUIRED},
    BaseStage.cancel: {},
    BaseStage.execute_stage: {"previous_state_copy": REQUIRED},
    BaseStage.rollback_stage: {"previous_state_copy": REQUIRED},
    BaseStage.gen_obj_name: {"engine": None},
    BaseStage.inc_attempts: {},
    BaseStage.persistence_file_exists: {},
    BaseStage.update_status: {"message": REQUIRED, "status": REQUIRED, "begin_ts": REQUIRED, "end_ts": None},
}


@pytest.mark.parametrize("method", SIGNATURES, ids=lambda method: method.__qualname__)
def test_arguments_and_defaults_are_those_of_the_seed(method: Any) -> None:
    found = {
        name: parameter.default
        for name, parameter in inspect.signature(method).parameters.items()
        if name != "self" and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    }
    assert found == SIGNATURES[method]
    assert list(found) == list(SIGNATURES[method]), "the order, for positional use"


def test_whatever_goes_beyond_the_seed_is_keyword_only() -> None:
    extra = set(inspect.signature(BindLock.__init__).parameters) - {"self", *SIGNATURES[BindLock.__init__]}
    for name in extra:
        assert inspect.signature(BindLock.__init__).parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert "min_epoch" in extra


def test_the_hook_takes_the_stage() -> None:
    assert list(inspect.signature(CheckMateEngine.state_update_hook).parameters) == ["self", "stage"]


@pytest.mark.parametrize(
    "name", ["cumulative_attempts", "has_lockfile", "lock_obj_name", "status", "task_result"]
)
def test_properties_of_the_engine(name: str) -> None:
    assert isinstance(inspect.getattr_static(CheckMateEngine, name), property)


@pytest.mark.parametrize("name", ["obj_name", "url", "attempts", "status", "engine"])
def test_properties_of_a_stage(name: str) -> None:
    assert isinstance(inspect.getattr_static(BaseStage, name), property)


def test_fields_of_a_stage() -> None:
    fields = BaseStage.model_fields
    assert BaseStage.model_config["extra"] == "forbid"
    assert fields["stage_name"].is_required()
    assert fields["state"].is_required()
    assert (fields["description"].default, fields["timezone"].default) == ("", "UTC")
    assert fields["description"].title == "Stage Description"
    assert fields["stage_name"].title == "Stage Name"
    assert fields["state"].title == "Stage State"
    assert fields["timezone"].title == "Timezone"
    assert fields["volatile_engine_ref"].title == "Task"
    assert fields["volatile_engine_ref"].default is None
    assert fields["volatile_engine_ref"].exclude is True
    assert inspect.isabstract(BaseStage)
    assert BaseStage.__abstractmethods__ == {"execute_stage"}


def test_fields_of_a_state() -> None:
    state = BaseStageState()
    assert (state.status, state.attempts, state.history, state.result) == (StageStatus.UNBOUND, 0, [], None)
    assert not [name for name, field in BaseStageState.model_fields.items() if field.is_required()]


def test_a_history_entry_has_what_the_design_says() -> None:
    assert {"begin", "end", "message", "status", "host", "epoch"} <= set(StageStateHistoryEntry.model_fields)


def test_fields_of_the_task_state() -> None:
    fields = TaskEngineState.model_fields
    assert issubclass(TaskEngineState, BaseModel)
    assert list(fields) == ["stage_template_classes", "stage_templates"]
    assert all(field.is_required() for field in fields.values())
    assert fields["stage_templates"].title == "Stage Templates"


def test_attributes_of_a_lock() -> None:
    from checkmate_core.io.memory import MemoryTaskIO

    io = MemoryTaskIO()
    lock = BindLock(io, "_locks/x.lock", 5.0)
    assert (lock.task_io, lock.obj_name, lock.acquire_timeout) == (io, "_locks/x.lock", 5.0)
    assert lock._is_locked is False
    with lock:
        assert lock._is_locked is True
    assert lock._is_locked is False
    assert lock._thread_lock is not None


def test_constants() -> None:
    assert STAGE_NAME_MAX_LENGTH == 150
    assert LOCK_EXTENSION == "lock"
    assert {str(status) for status in ACTIVE_STATES} == {"CREATED", "RUNNING", "RETRY", "ROLLING_BACK"}
    assert {str(status) for status in INACTIVE_STATES} == {
        *("COMPLETE", "CANCELED", "ERROR"),
        *("SUSPENDED", "ROLLED_BACK"),
    }
    assert {str(status) for status in CANCELABLE_STATES} == {
        *("UNBOUND", "CREATED", "RUNNING", "RETRY"),
        "SUSPENDED",
    }
    assert {str(status) for status in StageStatus} == {
        "UNBOUND", "CREATED", "RUNNING", "RETRY", "COMPLETE", "CANCELED", "ERROR",
        "SUSPENDED", "ROLLING_BACK", "ROLLED_BACK",
    }  # fmt: skip
    assert _StageStateMachine is not None
    assert issubclass(CheckMate, CheckMateEngine)


TREE = {
    "TaskEngineException": "Exception",
    "BindException": "TaskEngineException",
    "LockLostException": "BindException",
    "StageTimeoutException": "TaskEngineException",
    "TaskRolledBackException": "TaskEngineException",
    "TaskSuspendedException": "TaskEngineException",
    "MissingStateException": "TaskEngineException",
    "InvalidTransitionException": "TaskEngineException",
    "InterruptedStageException": "TaskEngineException",
    "StageFailedException": "TaskEngineException",
    "TaskCanceledException": "TaskEngineException",
    "IncompatibleTaskException": "TaskEngineException",
    "TaskIOException": "TaskEngineException",
    "PersistenceDataNotFoundException": "TaskIOException",
    "VersionConflictException": "TaskIOException",
    "UnsupportedBackendException": "TaskIOException",
    "StorageUnavailableException": "TaskIOException",
}


@pytest.mark.parametrize("name", TREE)
def test_the_tree_of_errors(name: str) -> None:
    error = getattr(checkmate, name)
    assert [base.__name__ for base in error.__bases__] == [TREE[name]]


def test_every_public_error_is_in_the_tree() -> None:
    for name in checkmate.__all__:
        found = getattr(checkmate, name)
        # Suspend is no error: it must pass an `except Exception`.
        if isinstance(found, type) and issubclass(found, BaseException) and found is not checkmate.Suspend:
            assert issubclass(found, checkmate.TaskEngineException)


def test_every_public_name_can_be_had_and_is_told_of() -> None:
    assert sorted(checkmate.__all__) == sorted(set(checkmate.__all__))
    assert set(checkmate.__all__) <= set(dir(checkmate))
    for name in checkmate.__all__:
        assert getattr(checkmate, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        getattr(checkmate, "nothing_of_the_kind")  # noqa: B009
