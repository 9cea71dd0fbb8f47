"""Tasks copied from one store to another: what arrives, what is refused, and what a cut-off leaves."""

import itertools
import threading
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

import pytest

from checkmate import (
    BindException,
    BindLock,
    CopiedTask,
    CopyOutcome,
    CopyReport,
    CorruptObjectException,
    IncompatibleTaskException,
    PersistenceDataNotFoundException,
    StageStatus,
    StorageUnavailableException,
    TaskEngineException,
    TaskIO,
    TaskStore,
    VersionConflictException,
    copy_tasks,
    open_task_io,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import (
    CallAfter,
    CallBefore,
    CountingTaskIO,
    FaultyTaskIO,
    LoseResponse,
    Operation,
    RaiseBefore,
    writes_to,
)
from checkmate_core.types import ANY, Capability, Expect, Version

from .leftovers import (
    left_canceled,
    left_complete,
    left_created,
    left_in_error,
    left_in_retry,
    left_running,
)
from .pipelines import (
    LOCK,
    MANIFEST,
    TASK,
    Crash,
    Limited,
    Logged,
    bury_holder,
    document,
    edit,
    engine_for,
    is_locked,
    raw,
    raw_without_locks,
    steps,
)

UNFINISHED = [left_created, left_running, left_in_retry, left_in_error]
FINISHED = [left_complete, left_canceled]


@pytest.fixture
def target() -> MemoryTaskIO:
    return MemoryTaskIO("memory://target")


def read_only(io: TaskIO) -> FaultyTaskIO:
    client = FaultyTaskIO(io)
    changes = (Operation.WRITE, Operation.REMOVE)
    client.plan(
        lambda call: call.operation in changes,
        RaiseBefore(AssertionError("the source was changed")),
        times=None,
    )
    return client


def copy(source: TaskIO, target: TaskIO, *task_ids: str, **options: Any) -> CopyReport:
    before = raw(source)
    report = copy_tasks(read_only(source), target, task_ids or None, **options)
    assert raw(source) == before
    return report


def the_one(report: CopyReport) -> CopiedTask:
    (task,) = report.tasks
    return task


def refusal(report: CopyReport, error: type[TaskEngineException]) -> str:
    task = the_one(report)
    assert (task.outcome, task.sha256) == (CopyOutcome.FAILED, "")
    assert not report.is_complete
    assert type(task.error) is error, repr(task.error)
    return str(task.error)


def finish(io: TaskIO, log: Logged | None = None) -> tuple[int, Any, list[str]]:
    """The fencing token, the result and the trail of the task after it was executed to its end."""
    engine = engine_for(io, steps(action=log))
    with engine:
        engine.execute(strict_recovery=True)
        assert engine.status is StageStatus.COMPLETE
        assert engine.check_sync()
        token = engine.fencing_token
        assert token is not None
        return token, engine.task_result, engine.stages[-1].state.trail


def removed(io: TaskIO, task_id: str) -> None:
    engine = engine_for(io, task_id=task_id)
    engine.bind()
    engine.unbind(clean=True)


def names_of(io: TaskIO) -> set[str]:
    return {info.name for info in io.list()}


@pytest.mark.parametrize("leave", UNFINISHED)
def test_an_unfinished_task_arrives_byte_for_byte_and_goes_on_there(
    io: TaskIO, target: MemoryTaskIO, leave: Callable[[TaskIO], None]
) -> None:
    leave(io)
    report = copy(io, target)

    task = the_one(report)
    assert (task.task_id, task.outcome) == (TASK, CopyOutcome.COPIED)
    assert report.is_complete
    assert (report.source, report.destination) == (io.base_url, "memory://target")
    assert raw_without_locks(target) == raw_without_locks(io)
    assert task.written == task.objects == len(raw_without_locks(io))
    assert task.size == sum(map(len, raw_without_locks(io).values()))
    assert names_of(target) == names_of(io), "the list of locks is the list of unfinished tasks, there too"
    assert not is_locked(target)
    assert str(TaskStore(target).get(TASK).status) == str(TaskStore(io).get(TASK).status)

    last_token = document(io, LOCK)["epoch"]
    ran_there, ran_here = Logged(), Logged()
    there, here = finish(target, ran_there), finish(io, ran_here)
    assert there[0] > last_token, "the fencing token goes on rising behind the move"
    assert there[1:] == here[1:]
    assert ran_there.names == ran_here.names


@pytest.mark.parametrize("leave", FINISHED)
def test_a_finished_task_arrives_without_a_lock(
    io: TaskIO, target: MemoryTaskIO, leave: Callable[[TaskIO], None]
) -> None:
    leave(io)
    assert the_one(copy(io, target)).outcome is CopyOutcome.COPIED
    assert raw(target) == raw(io)
    assert LOCK not in names_of(target)


def test_a_token_that_only_the_lock_of_a_finished_task_remembers_is_not_forgotten(
    io: TaskIO, target: MemoryTaskIO
) -> None:
    left_complete(io)
    late = BindLock(io, LOCK, min_epoch=9)
    late.acquire()
    late.release()
    assert copy(io, target).is_complete
    assert document(target, LOCK)["epoch"] >= 9
    assert not is_locked(target)


def test_a_half_finished_task_moves_from_files_to_s3(checkmate_file_url: str, checkmate_s3_url: str) -> None:
    source = open_task_io(checkmate_file_url)
    left_in_error(source)
    report = copy_tasks(checkmate_file_url, checkmate_s3_url)
    s3 = open_task_io(checkmate_s3_url)
    assert report.is_complete
    assert raw_without_locks(s3) == raw_without_locks(source)
    assert the_one(copy_tasks(checkmate_file_url, checkmate_s3_url)).outcome is CopyOutcome.ALREADY_THERE
    last_token = document(source, LOCK)["epoch"]
    ran = Logged()
    there, here = finish(s3, ran), finish(source)
    assert ran.names == ["b", "c"]
    assert there[1:] == here[1:]
    assert there[0] > last_token


def test_tokens_rise_though_earlier_owners_left_no_trace_but_in_the_lock(
    io: TaskIO, target: MemoryTaskIO
) -> None:
    for _ in range(5):
        with engine_for(io) as engine:
            token = engine.fencing_token
    assert token
    assert document(io, MANIFEST)["epoch"] < token
    copy(io, target)
    assert finish(target)[0] > token


def test_what_is_there_already_is_not_written_again(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    first = the_one(copy(io, target))
    counting = CountingTaskIO(target)
    again = the_one(copy(io, counting))
    assert (again.outcome, again.objects, again.written, again.size) == (
        CopyOutcome.ALREADY_THERE,
        first.objects,
        0,
        0,
    )
    assert again.sha256 == first.sha256
    assert counting.counts.writes == counting.counts.removes == 0


def test_a_copy_that_went_on_is_refused_and_left_alone(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    copy(io, target)
    finish(target)
    before = raw(target)
    assert "another state of this one" in refusal(copy(io, target), VersionConflictException)
    assert raw(target) == before


@pytest.mark.parametrize("name", ["stages/000-a.json", "artifacts/0", "artifacts/extra"])
def test_a_single_other_byte_is_another_task(io: TaskIO, target: MemoryTaskIO, name: str) -> None:
    left_in_error(io)
    io.write(f"{TASK}/artifacts/0", b"large value")
    copy(io, target)
    old = raw(target).get(f"{TASK}/{name}", b"")
    target.write(f"{TASK}/{name}", old.replace(b"a", b"e", 1) if old else b"extra")
    refusal(copy(io, target), VersionConflictException)


def test_a_tombstone_in_the_destination_is_not_written_over(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    removed(target, TASK)
    before = raw(target)
    assert "tombstone" in refusal(copy(io, target), VersionConflictException)
    assert raw(target) == before


def test_a_removed_task_is_no_task(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    removed(io, "other")
    BindLock(io, "_locks/never-started.lock").acquire()
    io.write("_probe/0123", b"no task either")
    report = copy(io, target)
    assert report.is_complete
    assert the_one(report).task_id == TASK
    for task_id in ("other", "never-started", "nobody"):
        message = refusal(copy(io, target, task_id), PersistenceDataNotFoundException)
        assert task_id in message
        assert io.base_url in message


def test_what_cannot_be_a_task_id_is_refused_before_anything_is_copied(
    io: TaskIO, target: MemoryTaskIO
) -> None:
    left_in_error(io)
    with pytest.raises(TaskEngineException, match="is refused"):
        copy(io, target, TASK, "../evil")
    assert names_of(target) == set()


def test_a_task_that_is_worked_on_is_copied_only_if_told(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    with engine_for(io):
        message = refusal(copy(io, target), BindException)
        assert "is held by" in message
        assert "even_if_locked" in message
        assert names_of(target) == set()
        task = the_one(copy(io, target, even_if_locked=True))
        assert task.outcome is CopyOutcome.COPIED
        assert raw_without_locks(target) == raw_without_locks(io)
        assert not is_locked(target), "a copy starts unlocked"
        token = document(io, LOCK)["epoch"]
    assert finish(target)[0] > token


def test_a_lock_that_nobody_keeps_alive_refuses_nobody(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    BindLock(io, LOCK).acquire()
    edit(io, LOCK, lease_s=1e-9, host="elsewhere", boot_id="another")
    assert is_locked(io)
    assert the_one(copy(io, target)).outcome is CopyOutcome.COPIED


def test_a_task_that_is_locked_in_the_destination_is_refused(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    other = BindLock(target, LOCK)
    other.acquire()
    before = raw(target)
    for options in ({}, {"even_if_locked": True}):
        assert "memory://target/_locks/" in refusal(copy(io, target, **options), BindException)
    assert raw(target) == before
    other.release()
    assert copy(io, target).is_complete


def goes_on(io: TaskIO) -> None:
    edit(io, f"{TASK}/stages/000-a.json", write_id=str(next(COUNT)))


COUNT = itertools.count()


def test_a_task_that_goes_on_meanwhile_is_copied_again(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    client = FaultyTaskIO(target)
    client.plan(writes_to(f"{TASK}/stages/"), CallAfter(lambda _: goes_on(io)), times=2)
    report = copy_tasks(io, client, concurrency=1)
    assert the_one(report).outcome is CopyOutcome.COPIED
    assert raw_without_locks(target) == raw_without_locks(io), "one state of the task, and its last one"


def test_a_task_that_never_stands_still_is_refused(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    client = FaultyTaskIO(target)
    client.plan(writes_to(f"{TASK}/stages/"), CallAfter(lambda _: goes_on(io)), times=None)
    assert "changed 5 times" in refusal(copy_tasks(io, client), VersionConflictException)
    assert TaskStore(target).list() == []


def test_a_worker_that_comes_meanwhile_is_noticed(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    client = FaultyTaskIO(target)
    worker = engine_for(io)
    client.plan(writes_to(f"{TASK}/stages/"), CallBefore(lambda _: worker.bind()))
    assert "is held by" in refusal(copy_tasks(io, client, concurrency=1), BindException)
    assert TaskStore(target).list() == []
    worker.unbind()
    assert copy(io, target).is_complete


def dies_at(io: TaskIO, number: int, moment: str) -> FaultyTaskIO:
    def die(*_: object) -> None:
        raise Crash

    client = FaultyTaskIO(io)
    client.plan(number, CallBefore(die) if moment == "before" else CallAfter(die))
    client.plan(lambda call: call.number > number, RaiseBefore(Crash()), times=None)
    return client


@pytest.mark.parametrize("leave", [left_in_error, left_complete])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_request_it_is_simply_made_again(leave: Callable[[TaskIO], None], moment: str) -> None:
    source = MemoryTaskIO("memory://source")
    leave(source)
    source.write(f"{TASK}/artifacts/0", b"large value")
    probe = FaultyTaskIO(MemoryTaskIO())
    copy(source, probe, concurrency=1)
    assert len(probe.calls) > 12
    was_cut_off = 0
    for number in range(1, len(probe.calls) + 1):
        target = MemoryTaskIO("memory://target")
        with pytest.raises(Crash):
            copy(source, dies_at(target, number, moment), concurrency=1)
        left = raw_without_locks(target)
        is_whole = left == raw_without_locks(source)
        assert bool(TaskStore(target).list()) is is_whole, "a half copied task is no task"
        was_cut_off += bool(left) and not is_whole
        bury_holder(target)

        counting = CountingTaskIO(target)
        again = the_one(copy(source, counting))
        assert again.outcome is (CopyOutcome.ALREADY_THERE if is_whole else CopyOutcome.COPIED)
        assert again.written == len(raw_without_locks(source)) - len(left), (
            "what was there is not written again"
        )
        assert raw_without_locks(target) == raw_without_locks(source)
        if leave is left_in_error:
            token = document(source, LOCK)["epoch"]
            assert finish(target)[0] > token
    assert was_cut_off > 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_task_begun_on_what_was_half_copied_takes_nothing_of_it(moment: str) -> None:
    source = MemoryTaskIO("memory://source")
    for _ in range(3):
        removed(source, TASK)  # so that the copied epochs are higher than a new task's first
    left_in_error(source)
    probe = FaultyTaskIO(MemoryTaskIO())
    copy(source, probe, concurrency=1)
    was_cut_off = 0
    for number in range(1, len(probe.calls) + 1):
        target = MemoryTaskIO("memory://target")
        with pytest.raises(Crash):
            copy(source, dies_at(target, number, moment), concurrency=1)
        if target.exists(MANIFEST):
            continue
        was_cut_off += any(name.startswith(f"{TASK}/stages/") for name in names_of(target))
        if target.exists(LOCK):
            bury_holder(target)
        ran = Logged()
        assert finish(target, ran)[2] == ["a", "b", "c"]
        assert ran.names == ["a", "b", "c"], f"it took a stage from an interrupted copy: {number} {moment}"
    assert was_cut_off > 2


@pytest.mark.parametrize("side", ["source", "target"])
def test_an_answer_lost_at_any_request_is_made_up_for(side: str) -> None:
    source = MemoryTaskIO("memory://source")
    left_in_error(source)

    def clients(target: TaskIO) -> tuple[FaultyTaskIO, FaultyTaskIO]:
        return FaultyTaskIO(source), FaultyTaskIO(target)

    probes = clients(MemoryTaskIO())
    copy_tasks(*probes)
    for number in range(1, len(probes[side == "target"].calls) + 1):
        target = MemoryTaskIO("memory://target")
        pair = clients(target)
        pair[side == "target"].plan(number, LoseResponse())
        report = copy_tasks(*pair)
        assert report.is_complete, f"{number}: {report}"
        assert raw_without_locks(target) == raw_without_locks(source)
        assert not is_locked(target)


class Mangling(MemoryTaskIO):
    """A store that answers well and keeps something else."""

    def __init__(self, prefix: str) -> None:
        super().__init__("memory://mangling")
        self.prefix = prefix

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        is_struck = obj_name.startswith(self.prefix)
        return super().write(obj_name, data[:-1] if is_struck else data, expect=expect)


@pytest.mark.parametrize("name", ["stages/001-b.json", "artifacts/0", "task.json"])
def test_a_store_that_does_not_keep_what_it_is_given_is_found_out(io: TaskIO, name: str) -> None:
    left_in_error(io)
    io.write(f"{TASK}/artifacts/0", b"large value")
    mangling = Mangling(f"{TASK}/{name}")
    message = refusal(copy(io, mangling), CorruptObjectException)
    assert f"memory://mangling/{TASK}/{name}" in message
    assert "SHA-256" in message
    if name != "task.json":
        assert TaskStore(mangling).list() == []
        mangling.prefix = "nothing"
        assert copy(io, mangling).is_complete
        assert raw_without_locks(mangling) == raw_without_locks(io)


def test_what_another_task_left_in_its_place_is_refused(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    target.write(f"{TASK}/stages/002-other.json", b"{}")
    message = refusal(copy(io, target), VersionConflictException)
    assert "memory://target/task-1/stages/002-other.json" in message
    assert not target.exists(MANIFEST)


def test_large_and_many_objects_go_in_batches(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    for number in range(150):
        io.write(f"{TASK}/artifacts/{number:03}", b"%d" % number)
    for number in range(3):
        io.write(f"{TASK}/artifacts/large-{number}", bytes([number]) * (9 * 1024 * 1024))
    source = FaultyTaskIO(io)
    sizes: list[int] = []

    class Watched(FaultyTaskIO):
        def read_many(self, obj_names: Any) -> Any:
            found = super().read_many(obj_names)
            sizes.append(sum(len(stored.data) for stored in found.values()))
            return found

    report = copy_tasks(Watched(source), target)
    assert report.is_complete
    assert raw_without_locks(target) == raw_without_locks(io)
    assert max(sizes) <= 16 * 1024 * 1024


def test_a_store_without_atomic_writes_can_be_copied_to(io: TaskIO) -> None:
    left_in_error(io)
    limited = Limited(Capability.CREATE, Capability.SWAP, Capability.REMOVE_IF)
    assert copy(io, limited).is_complete
    assert raw(limited) == raw_without_locks(io)
    assert the_one(copy(io, limited)).outcome is CopyOutcome.ALREADY_THERE


def test_many_tasks_are_copied_and_told_of_one_by_one(target: MemoryTaskIO) -> None:
    source = MemoryTaskIO("memory://source")
    ids = [f"task-{number:03}" for number in range(60)]
    for task_id in ids:
        with engine_for(source, task_id=task_id) as engine, suppress(TaskEngineException):
            engine.execute()
    told: list[str] = []

    def on_task(task: CopiedTask) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(task.task_id)

    report = copy(source, target, on_task=on_task)
    assert report.is_complete
    assert [task.task_id for task in report.tasks] == ids
    assert sorted(told) == ids
    assert raw(target) == raw(source)
    assert len({task.sha256 for task in report.tasks}) == 60
    chosen = copy(source, target, "task-007", "task-003", "task-007")
    assert [task.task_id for task in chosen.tasks] == ["task-007", "task-003"]


def test_a_task_that_cannot_be_read_does_not_stop_the_others(io: TaskIO, target: MemoryTaskIO) -> None:
    for task_id in ("corrupt", "newer", "sound", "torn"):
        with engine_for(io, task_id=task_id) as engine:
            engine.execute()
    io.write("corrupt/task.json", b"{")
    io.write("newer/stages/001-b.json", b'{"format": 99, "written_by": "9.9"}')
    io.write("torn/stages/002-c.json", b"")
    report = copy(io, target)
    assert {task.task_id: type(task.error) for task in report.tasks} == {
        "corrupt": CorruptObjectException,
        "newer": IncompatibleTaskException,
        "sound": type(None),
        "torn": CorruptObjectException,
    }
    assert [task.task_id for task in report.failed] == ["corrupt", "newer", "torn"]
    assert [task.task_id for task in TaskStore(target).list()] == ["sound"]


def test_once_a_store_is_out_of_reach_no_further_task_is_begun(io: TaskIO, target: MemoryTaskIO) -> None:
    for number in range(4):
        with engine_for(io, task_id=f"task-{number}"):
            pass
    client = FaultyTaskIO(target)
    client.plan(lambda call: call.name.startswith(("task-1", "task-2", "task-3")), RaiseBefore(), times=None)
    report = copy_tasks(io, client, concurrency=1)
    assert [(task.task_id, task.outcome) for task in report.tasks[:2]] == [
        ("task-0", CopyOutcome.COPIED),
        ("task-1", CopyOutcome.FAILED),
    ]
    assert isinstance(report.tasks[1].error, StorageUnavailableException)
    assert "task-3" in report.not_tried
    assert not report.is_complete
    assert copy(io, target).is_complete


def test_a_second_copy_at_the_same_time_is_refused_or_late(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    client = FaultyTaskIO(target)
    others: list[CopyReport] = []
    client.plan(writes_to(f"{TASK}/stages/"), CallBefore(lambda _: others.append(copy_tasks(io, target))))
    report = copy_tasks(io, client, concurrency=1)
    assert report.is_complete
    assert "is held by" in refusal(others[0], BindException)
    assert raw_without_locks(target) == raw_without_locks(io)


def test_the_digest_of_a_task_is_that_of_its_names_and_digests(io: TaskIO, target: MemoryTaskIO) -> None:
    left_in_error(io)
    objects = sorted(raw_without_locks(io).items())
    lines = "".join(f"{name} {sha256(data).hexdigest()}\n" for name, data in objects)
    assert the_one(copy(io, target)).sha256 == sha256(lines.encode()).hexdigest()
