"""A stored object that is damaged, contradicts itself or comes from a later release is refused by name."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from checkmate import (
    CheckMate,
    CorruptObjectException,
    IncompatibleTaskException,
    InvalidTransitionException,
    TaskEngineException,
    TaskIO,
    TaskStore,
)

from .pipelines import (
    LOCK,
    MANIFEST,
    TASK,
    Step,
    edit,
    engine_for,
    is_locked,
    raw,
    raw_without_locks,
    steps,
)
from .refusals import FIRST, refused, store_task

DAMAGES = {
    "empty": b"",
    "cut": b'{"format": 1, "written_by": "0.9',
    "no JSON": b"hello",
    "no UTF-8": b"\xff\xfe\x00",
    "a list": b"[1, 2]",
    "a number": b"5",
    "null": b"null",
    "no fields": b'{"format": 1}',
    "no format": b"{}",
    "very deep": b"[" * 100_000,
    "another kind": b'{"format": 1, "write_id": "x", "written_by": "0.9.0", "status": "NOT A STATUS"}',
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [MANIFEST, FIRST, LOCK])
def test_a_damaged_object_is_refused_by_name(io: TaskIO, name: str, damage: str) -> None:
    store_task(io)
    io.write(name, DAMAGES[damage])
    refused(io, engine_for(io), CorruptObjectException, io.build_url(name), "Nothing was changed")
    assert io.read(name).data == DAMAGES[damage]


@pytest.mark.parametrize("damage", ["empty", "cut", "no fields"])
def test_a_damaged_lock_is_never_guessed_free(io: TaskIO, damage: str) -> None:
    io.write(LOCK, DAMAGES[damage])
    for engine in (engine_for(io), engine_for(io, force_create=True)):
        with pytest.raises(CorruptObjectException, match=LOCK):
            engine.bind()
    assert raw(io) == {LOCK: DAMAGES[damage]}


def test_a_damaged_lock_is_mended_by_a_forced_unlock(io: TaskIO) -> None:
    store_task(io)
    io.write(LOCK, b"{")
    assert TaskStore(io).unlock(TASK) is None
    with engine_for(io) as engine:
        engine.execute()


@pytest.mark.parametrize("name", [MANIFEST, FIRST, LOCK])
@pytest.mark.parametrize("number", [2, 0, "1", None])
def test_an_unknown_format_is_refused_with_the_version_that_wrote_it(
    io: TaskIO, name: str, number: object
) -> None:
    store_task(io)
    edit(io, name, format=number, written_by="7.8.9")
    refused(io, engine_for(io), IncompatibleTaskException, io.build_url(name), "7.8.9")
    with pytest.raises(IncompatibleTaskException, match=r"7\.8\.9"):
        TaskStore(io).get(TASK)


@pytest.mark.parametrize("damage", ["cut", "null", "very deep"])
def test_one_damaged_manifest_does_not_hide_the_other_tasks(io: TaskIO, damage: str) -> None:
    for task_id in ("good-1", TASK, "good-2"):
        with engine_for(io, task_id=task_id):
            pass
    io.write(MANIFEST, DAMAGES[damage])
    listed = {view.task_id: view for view in TaskStore(io).list()}
    assert set(listed) == {"good-1", TASK, "good-2"}
    assert MANIFEST in str(listed[TASK].fault)
    assert listed["good-1"].fault is None


@pytest.mark.parametrize(
    "change",
    [
        {"stage_template_classes": []},
        {"stage_templates": []},
        {"stage_templates": [{}, {}, {}]},
        {"retry_policy": {}},
        {"retry_policy": {"initial": "soon"}},
        {"max_attempts": 0},
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_itself_raises_within_the_tree(
    memory: TaskIO, change: dict[str, Any]
) -> None:
    store_task(memory)
    edit(memory, MANIFEST, **change)
    before = raw(memory)
    actions: list[Callable[[], object]] = [
        lambda: CheckMate.load(memory, TASK),
        lambda: TaskStore(memory).get(TASK),
        lambda: TaskStore(memory).list(),
        lambda: TaskStore(memory).render(TASK),
    ]
    for action in actions:
        with suppress(TaskEngineException):
            action()
    assert raw(memory) == before


@pytest.mark.parametrize(
    ("first", "second"),
    [("RUNNING", "COMPLETE"), ("ERROR", "RUNNING"), ("CANCELED", "COMPLETE"), ("RETRY", "ERROR")],
)
def test_impossible_neighbours_are_refused_and_the_lock_is_given_back(
    io: TaskIO, first: str, second: str
) -> None:
    with engine_for(io) as engine:
        engine.execute()
    edit(io, FIRST, status=first)
    edit(io, f"{TASK}/stages/001-b.json", status=second)
    refused(io, engine_for(io), InvalidTransitionException, TASK, first, second)
    cm = CheckMate[Step, Any](io, TASK, steps())
    before = raw_without_locks(io)
    with pytest.raises(InvalidTransitionException):
        cm.run()
    assert not cm.is_bound
    assert not is_locked(io)
    assert raw_without_locks(io) == before
