"""The second half of a key's rotation: what an earlier key sealed is sealed by the newest."""

import itertools
from typing import Any

import pytest

from checkmate import (
    ArtifactRef,
    BindException,
    PersistenceDataNotFoundException,
    SealedObjectException,
    StageFailedException,
    StageStatus,
    TaskEngineException,
    TaskIO,
    TaskStore,
    UnsupportedBackendException,
    VersionConflictException,
    open_task_io,
)
from checkmate_core.artifacts import TaskArtifacts
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import CallBefore, FaultyTaskIO, LoseResponse, RaiseBefore, writes_to
from checkmate_core.types import Capability
from checkmate_io_sealed.reseal import ResealedTask, ResealOutcome, ResealReport, reseal_tasks
from checkmate_io_sealed.sealed import SealedTaskIO
from tests.engine.albums import CONTENT, PART, album_engine
from tests.engine.pipelines import TASK, Crash, Failing, Limited, engine_for, steps

from .keys import NEW, OLD, OTHER, id_of, key_ids, opened, stored

BOTH = [NEW, OLD]


@pytest.fixture
def url(checkmate_memory_url: str) -> str:
    """A store, sealed by the old key, with tasks in every kind of state, and garbage."""
    io = open_task_io(checkmate_memory_url, key=OLD)
    finish(io, "done")
    with (
        pytest.raises(StageFailedException),
        engine_for(io, steps(action=Failing()), task_id="failed") as engine,
    ):
        engine.execute()
    with engine_for(io, task_id="waiting"):
        pass
    gone = finish(io, "gone")
    gone.bind()
    gone.unbind(clean=True)
    io.write("never-begun/stages/000-a.json", b"{}")
    return checkmate_memory_url


def finish(io: TaskIO, task_id: str) -> Any:
    engine = engine_for(io, task_id=task_id)
    with engine:
        engine.execute()
    return engine


def outcomes(report: ResealReport) -> dict[str, ResealOutcome]:
    return {task.task_id: task.outcome for task in report.tasks}


def check_finishes(io: TaskIO) -> None:
    for task_id in ("failed", "waiting"):
        finish(io, task_id)
    assert {(task.task_id, task.status) for task in TaskStore(io).list()} == {
        (name, StageStatus.COMPLETE) for name in ("done", "failed", "waiting")
    }


def test_afterwards_the_newest_key_is_enough(url: str) -> None:
    bodies = {name: opened(url, key=OLD).read(name).data for name in stored(url)}
    assert set(key_ids(url).values()) == {id_of(OLD)}
    seen: list[ResealedTask] = []
    report = reseal_tasks(opened(url, compress="zstd", key=BOTH), on_task=seen.append)
    assert report.is_complete
    assert report.key_id == id_of(NEW)
    assert outcomes(report) == dict.fromkeys(
        ["", "done", "failed", "gone", "waiting"], ResealOutcome.RESEALED
    )
    assert sorted(seen, key=lambda task: task.task_id) == list(report.tasks)
    assert (
        sum(task.resealed for task in report.tasks)
        == sum(task.objects for task in report.tasks)
        == len(bodies)
    )
    assert set(key_ids(url).values()) == {id_of(NEW)}
    new = opened(url, key=NEW)
    # The locks were taken and given back; nothing else was changed but the seal.
    assert {name: new.read(name).data for name in bodies if not name.startswith("_locks/")} == {
        name: body for name, body in bodies.items() if not name.startswith("_locks/")
    }
    assert stored(url).keys() == bodies.keys()
    check_finishes(new)


def test_a_second_time_it_only_reads(url: str) -> None:
    reseal_tasks(opened(url, key=BOTH))
    before = stored(url)
    report = reseal_tasks(opened(url, key=BOTH))
    assert set(outcomes(report).values()) == {ResealOutcome.CURRENT}
    assert stored(url) == before


def test_a_task_that_is_held_is_left_to_its_worker(url: str) -> None:
    worker = engine_for(opened(url, key=BOTH), task_id="waiting")
    old = {name: data for name, data in stored(url).items() if name.startswith("waiting/")}
    worker.bind()
    report = reseal_tasks(opened(url, key=BOTH))
    assert not report.is_complete
    [held] = report.failed
    assert held.task_id == "waiting"
    assert isinstance(held.error, BindException)
    assert set(old.items()) <= set(stored(url).items())
    left = {name for name, key in key_ids(url).items() if key != id_of(NEW)}
    assert left == set(old)
    worker.execute()
    worker.unbind()
    assert reseal_tasks(opened(url, key=BOTH)).is_complete
    assert set(key_ids(url).values()) == {id_of(NEW)}


def test_a_worker_that_binds_meanwhile_waits_its_turn(url: str) -> None:
    refused: list[BindException] = []

    def bind(_: object) -> None:
        with pytest.raises(BindException) as caught:
            engine_for(opened(url, key=BOTH), task_id="waiting").bind()
        refused.append(caught.value)

    faulty = FaultyTaskIO(open_task_io(url))
    faulty.plan(writes_to("waiting/"), CallBefore(bind))
    assert reseal_tasks(SealedTaskIO(faulty, key=BOTH), ["waiting"]).is_complete
    assert len(refused) == 1
    check_finishes(opened(url, key=BOTH))


def test_what_is_written_meanwhile_is_not_written_over(url: str) -> None:
    theirs = b'{"theirs": 1}'

    def write(_: object) -> None:
        opened(url, key=OLD).write("done/task.json", theirs)

    faulty = FaultyTaskIO(open_task_io(url))
    faulty.plan(writes_to("done/task.json"), CallBefore(write))
    assert reseal_tasks(SealedTaskIO(faulty, key=BOTH), ["done"]).is_complete
    assert opened(url, key=NEW).read("done/task.json").data == theirs


def test_an_object_that_never_stands_still_is_reported(url: str) -> None:
    faulty = FaultyTaskIO(open_task_io(url))
    for _ in range(5):
        faulty.plan(
            writes_to("done/task.json"),
            CallBefore(lambda _: opened(url, key=OLD).write("done/task.json", b"{}")),
        )
    [task] = reseal_tasks(SealedTaskIO(faulty, key=BOTH), ["done"]).failed
    assert isinstance(task.error, VersionConflictException)
    assert "done/task.json was written 5 times" in str(task.error)


def test_a_lost_answer_is_looked_after(url: str) -> None:
    faulty = FaultyTaskIO(open_task_io(url))
    faulty.plan(writes_to("done/task.json"), LoseResponse())
    faulty.plan(writes_to("waiting/task.json"), RaiseBefore())
    assert reseal_tasks(SealedTaskIO(faulty, key=BOTH)).is_complete
    assert set(key_ids(url).values()) == {id_of(NEW)}


def reseal_and_die(io: TaskIO, request: int) -> None:
    """Reseal in a process that dies before this request: none of a later number is sent either."""
    faulty = FaultyTaskIO(io)
    for number in range(request, request + 200):
        faulty.plan(number, RaiseBefore(Crash()))
    reseal_tasks(SealedTaskIO(faulty, key=BOTH), concurrency=1)


def test_cut_off_at_any_request_it_goes_on(url: str) -> None:
    before = stored(url)
    left_locks = 0
    for request in itertools.count(1):
        below = MemoryTaskIO()
        for name, data in before.items():
            below.write(name, data)
        store = TaskStore(SealedTaskIO(below, key=BOTH))
        try:
            reseal_and_die(below, request)
        except Crash:
            for task in store.list():
                assert task.fault is None
                # The dead holder is this very process, so nobody can prove that it is dead.
                left_locks += bool(task.holder and store.unlock(task.task_id))
            assert reseal_tasks(store.io).is_complete
            check_finishes(SealedTaskIO(below, key=NEW))
        else:
            break
    assert request > 40
    assert left_locks > 5


def test_an_object_of_an_unknown_key_fails_its_task_alone(url: str) -> None:
    finish(opened(url, key=OTHER), "foreign")
    report = reseal_tasks(opened(url, key=BOTH))
    [foreign] = report.failed
    assert foreign.task_id == "foreign"
    assert isinstance(foreign.error, SealedObjectException)
    assert id_of(OTHER) in str(foreign.error)
    assert {key for name, key in key_ids(url).items() if "foreign" not in name} == {id_of(NEW)}


def test_artifacts_are_sealed_and_sealed_anew(
    checkmate_memory_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskArtifacts, "part_size", PART)
    with album_engine(opened(checkmate_memory_url, compress="zstd", key=OLD)) as engine:
        engine.execute()
    kept = {name: data for name, data in stored(checkmate_memory_url).items() if "/artifacts/" in name}
    assert len(kept) == 12
    assert not any(CONTENT[:PART] in data for data in kept.values())
    assert reseal_tasks(opened(checkmate_memory_url, key=BOTH)).is_complete
    new = opened(checkmate_memory_url, key=NEW)
    ref = ArtifactRef.model_validate(TaskStore(new).get(TASK).stages[-1].state["photo"])
    assert TaskStore(new).artifacts(TASK).read(ref) == CONTENT
    with pytest.raises(SealedObjectException, match=id_of(NEW)):
        TaskStore(opened(checkmate_memory_url, key=OLD)).artifacts(TASK)


def test_a_plain_store_is_sealed_in_its_place(checkmate_memory_url: str) -> None:
    plain = open_task_io(checkmate_memory_url)
    finish(plain, "done")
    with engine_for(plain, task_id=TASK):
        pass
    refused = reseal_tasks(opened(checkmate_memory_url, key=NEW))
    assert all(isinstance(task.error, SealedObjectException) for task in refused.tasks)
    assert reseal_tasks(opened(checkmate_memory_url, key=NEW, allow_plain=True)).is_complete
    assert set(key_ids(checkmate_memory_url).values()) == {id_of(NEW)}
    finish(opened(checkmate_memory_url, key=NEW), TASK)


def test_a_store_is_compressed_in_its_place(checkmate_memory_url: str) -> None:
    finish(open_task_io(checkmate_memory_url), "done")
    size = sum(map(len, stored(checkmate_memory_url).values()))
    assert reseal_tasks(opened(checkmate_memory_url, compress="zstd")).is_complete
    assert sum(map(len, stored(checkmate_memory_url).values())) < size
    assert TaskStore(checkmate_memory_url, compress="zstd").get("done").status is StageStatus.COMPLETE


@pytest.mark.parametrize("removes", [True, False])
def test_the_lock_of_a_finished_task_still_says_that_it_is_finished(removes: bool) -> None:
    below = MemoryTaskIO() if removes else Limited(Capability.REMOVE_IF)
    finish(SealedTaskIO(below, key=OLD), TASK)
    had_lock = f"_locks/{TASK}.lock" in below.objects
    assert had_lock is not removes
    assert reseal_tasks(SealedTaskIO(below, key=BOTH)).is_complete
    new = SealedTaskIO(below, key=NEW)
    assert (f"_locks/{TASK}.lock" in below.objects) == had_lock
    assert not had_lock or b'"finished":true' in new.read(f"_locks/{TASK}.lock").data


@pytest.mark.parametrize(
    ("store", "task_ids", "error", "said"),
    [
        (MemoryTaskIO("memory://plain"), None, UnsupportedBackendException, r"without key= .*\?key=env:NAME"),
        (
            SealedTaskIO(Limited(Capability.SWAP), key=NEW),
            None,
            UnsupportedBackendException,
            "cannot swap.*copy",
        ),
        (SealedTaskIO(MemoryTaskIO(), key=NEW), ["../x"], TaskEngineException, "is refused"),
    ],
)
def test_what_cannot_be_resealed_is_refused(
    store: TaskIO, task_ids: list[str] | None, error: type[TaskEngineException], said: str
) -> None:
    with pytest.raises(error, match=said):
        reseal_tasks(store, task_ids)


def test_a_task_that_is_not_there_is_reported(url: str) -> None:
    report = reseal_tasks(opened(url, key=BOTH), ["done", "nobody"])
    assert outcomes(report) == {"done": ResealOutcome.RESEALED, "nobody": ResealOutcome.FAILED}
    assert isinstance(report.failed[0].error, PersistenceDataNotFoundException)
    assert key_ids(url)["failed/task.json"] == id_of(OLD)
