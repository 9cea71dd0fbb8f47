"""Tasks that an earlier CheckMate stored are read and resumed, and today's are stored the same way."""

import json
import shutil
from math import inf
from pathlib import Path
from typing import Any

import pytest

from checkmate_core import (
    BindException,
    BindOutcome,
    IncompatibleTaskException,
    InterruptedStageException,
    PersistenceDataNotFoundException,
    StageChanges,
    StageStatus,
    TaskCanceledException,
    TaskStore,
)

from .generate import FOLDER, HOLDER, HOST, fresh_objects, golden_objects
from .pipeline import (
    AWKWARD_NAMES,
    PLAIN_NAMES,
    GoldenStage,
    GoldenTask,
    Part,
    SpecialPart,
    cm_factory_golden,
)

# What may differ between two stores of the same tasks: ids, times, releases, words for people.
VARYING = {"written_by", "write_id", "owner", "message", "begin", "end", "created", "ended", "removed"}
VARYING |= {"acquired_at", "renewed_at"}

# What format 1 has gained since; where it is missing, a reader takes the defaults.
ADDED = {
    "notes",
    "on_error",
    "max_interruptions",
    "schema_version",
    "schema_versions",
    "stage_objects",
    "stages_epoch",
    "migrating",
}

RESULT = {"seen": 3, "last": "finish"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A copy of the golden store."""
    return shutil.copytree(FOLDER, tmp_path / "store").as_uri()


@pytest.fixture(autouse=True)
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that were executed."""
    names: list[str] = []
    monkeypatch.setattr(GoldenStage, "executed", names)
    return names


def _statuses(url: str, task_id: str) -> str:
    return " ".join(stage.status for stage in TaskStore(url).get(task_id).stages)


def _contents(url: str) -> dict[Path, bytes]:
    folder = Path(url.removeprefix("file://"))
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".checkmate" not in path.parts
    }


def test_all_tasks_are_listed_and_looking_changes_nothing(url: str) -> None:
    before = _contents(url)
    store = TaskStore(url)
    found = {task.task_id: (str(task.status), task.is_removing) for task in store.list()}
    assert found == {
        "awkward": ("COMPLETE", False),
        "canceled": ("CANCELED", False),
        "complete": ("COMPLETE", False),
        "crashed": ("RUNNING", False),
        "enqueued": ("CREATED", False),
        "failed": ("ERROR", False),
        "interrupted": ("RUNNING", False),
        "leased": ("RUNNING", False),
        "removing": ("CREATED", True),
        "retrying": ("RETRY", False),
    }
    for task_id in found:
        store.render(task_id)
        store.dump(task_id)
    assert _contents(url) == before


def test_a_complete_task_is_read_whole_and_not_run_again(url: str, executed: list[str]) -> None:
    before = _contents(url)
    with GoldenTask.load(url, "complete") as task:
        assert task.check_sync()
        task.execute()
        assert task.task_result == RESULT
        state = task.stages[-1].state
    assert executed == []
    assert _contents(url) == before
    assert state.text == "input\u2028\U0001f989"
    assert (state.number, state.ratio, state.flag, state.blob) == (9, inf, True, b"\x00\xffbytes")
    assert state.when is not None
    assert state.when.isoformat() == "2024-02-29T12:30:15.250000+00:00"
    assert state.parts == [Part(name="plain"), SpecialPart(name="special", size=7, extra="kept")]
    assert state.table == {"ünï": [1, 2, 3], "": []}
    assert state.seen == PLAIN_NAMES


def test_awkward_stage_names_are_found_again(url: str, executed: list[str]) -> None:
    assert [stage.name for stage in TaskStore(url).get("awkward").stages] == AWKWARD_NAMES
    task = cm_factory_golden(url, "awkward", AWKWARD_NAMES)
    assert task.run() == {"seen": len(AWKWARD_NAMES), "last": AWKWARD_NAMES[-1]}
    assert task.state.model_dump()["seen"] == AWKWARD_NAMES
    assert executed == []


def test_an_enqueued_task_is_loaded_and_run(url: str, executed: list[str]) -> None:
    task = GoldenTask.load(url, "enqueued")
    assert task.max_attempts == 3
    assert task.retry_policy == cm_factory_golden(url, "enqueued").retry_policy
    assert task.run() == RESULT
    assert executed == PLAIN_NAMES


@pytest.mark.parametrize(
    ("task_id", "before", "history"),
    [
        ("failed", "COMPLETE ERROR CREATED", "RUNNING ERROR RUNNING COMPLETE"),
        ("interrupted", "COMPLETE RUNNING CREATED", "RUNNING RUNNING COMPLETE"),
    ],
)
def test_an_unfinished_task_resumes_where_it_stood(
    url: str, executed: list[str], task_id: str, before: str, history: str
) -> None:
    assert _statuses(url, task_id) == before
    assert cm_factory_golden(url, task_id).run() == RESULT
    assert executed == PLAIN_NAMES[1:]
    task = TaskStore(url).get(task_id)
    assert task.status is StageStatus.COMPLETE
    assert " ".join(entry.status for entry in task.stages[1].history) == history
    assert [entry.epoch for entry in task.stages[1].history][-2:] == [2, 2]


@pytest.mark.parametrize(
    ("task_id", "before", "history"),
    [
        ("crashed", "COMPLETE RUNNING CREATED", "RUNNING RUNNING COMPLETE"),
        ("retrying", "COMPLETE RETRY CREATED", "RUNNING RETRY RUNNING COMPLETE"),
    ],
)
def test_a_crashed_task_stays_locked_until_it_is_unlocked(
    url: str, executed: list[str], task_id: str, before: str, history: str
) -> None:
    assert _statuses(url, task_id) == before
    stored = _contents(url)
    with pytest.raises(BindException, match=f"{HOST} pid {HOLDER.pid}"):
        cm_factory_golden(url, task_id).run()
    assert _contents(url) == stored
    assert f"{HOST} pid {HOLDER.pid}" in str(TaskStore(url).unlock(task_id))
    if task_id == "crashed":
        with cm_factory_golden(url, task_id) as task, pytest.raises(InterruptedStageException):
            task.execute()
    assert executed == []
    assert cm_factory_golden(url, task_id).run() == RESULT
    assert executed == PLAIN_NAMES[1:]
    found = TaskStore(url).get(task_id)
    assert " ".join(entry.status for entry in found.stages[1].history) == history
    epochs = [entry.epoch for entry in found.stages[1].history]
    assert epochs[0] == 1
    assert all(epoch and epoch > 1 for epoch in epochs[-2:])


def test_a_crashed_task_with_a_lease_is_free_once_that_has_run_out(url: str, executed: list[str]) -> None:
    task = cm_factory_golden(url, "leased")
    assert task.run(wait=60.0) == RESULT
    assert executed == PLAIN_NAMES[1:]
    assert [entry.epoch for entry in TaskStore(url).get("leased").stages[1].history] == [1, 2, 2]


def test_a_canceled_task_stays_canceled(url: str, executed: list[str]) -> None:
    assert _statuses(url, "canceled") == "COMPLETE CANCELED CREATED"
    with pytest.raises(TaskCanceledException):
        cm_factory_golden(url, "canceled").run()
    assert executed == []


@pytest.mark.parametrize("task_id", ["removed", "removing"])
def test_a_removed_task_begins_a_new_life(url: str, executed: list[str], task_id: str) -> None:
    manifest = Path(url.removeprefix("file://")) / task_id / "task.json"
    old = json.loads(manifest.read_bytes())
    if task_id == "removed":
        with pytest.raises(PersistenceDataNotFoundException):
            TaskStore(url).get(task_id)
    else:
        TaskStore(url).unlock(task_id)
    assert cm_factory_golden(url, task_id).run() == RESULT
    assert executed == PLAIN_NAMES
    new = json.loads(manifest.read_bytes())
    assert new["removed"] is None
    assert new["base_epoch"] > old["epoch"]


def test_todays_tasks_are_stored_in_the_same_shape() -> None:
    golden, fresh = golden_objects(), fresh_objects()
    assert list(fresh) == list(golden)
    for name, data in fresh.items():
        assert _masked(json.loads(data)) == _masked(json.loads(golden[name])), name


def test_no_golden_file_tells_where_it_was_made() -> None:
    for name, data in golden_objects().items():
        assert f'"host":"{HOST}"'.encode() in data or name.endswith("task.json"), name
        assert b"/" not in data.replace(b"a/b", b"").replace(b"../../up", b"").replace(
            b"AP9ieXRlcw==", b""
        ), name


def _masked(value: Any, key: str = "") -> Any:
    """The document with its varying values replaced by their types."""
    if isinstance(value, dict):
        return {name: _masked(each, name) for name, each in value.items() if name not in ADDED}
    if isinstance(value, list):
        return [_masked(each, key) for each in value]
    return type(value).__name__ if key in VARYING else value


@pytest.mark.parametrize("task_id", ["failed", "interrupted", "enqueued"])
def test_a_task_of_before_is_migrated_and_forked(url: str, executed: list[str], task_id: str) -> None:
    names = ["load", "work", "check", "finish"]
    begun = [] if task_id == "enqueued" else ["load"]

    def code(changes: StageChanges | None) -> GoldenTask:
        made = cm_factory_golden(url, task_id, names)
        return GoldenTask(url, task_id, made.task_state.stage_templates, changes=changes)

    with pytest.raises(IncompatibleTaskException, match="'fetch' is now 'load', it seems"):
        code(None).run()
    task = code(StageChanges(renamed={"fetch": "load"}, added={"check"}))
    assert task.preview().outcome is BindOutcome.MIGRATED
    assert task.run() == {"seen": 4, "last": "finish"}
    assert executed == names[len(begun) :]
    new = TaskStore(url).fork("complete", "work", set={"number": 40})
    assert GoldenTask.load(url, new).run() == RESULT
    assert TaskStore(url).get(new).stages[-1].state["number"] == 43
    assert executed == [*names[len(begun) :], "finish"]
