import pytest

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    VersionConflictException,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.io.protocol import TaskIO
from checkmate_core.testing import (
    ApplyLater,
    Call,
    CallAfter,
    CallBefore,
    FaultyTaskIO,
    LoseResponse,
    Operation,
    RaiseBefore,
    writes_to,
)
from checkmate_core.types import ABSENT


@pytest.fixture
def store() -> MemoryTaskIO:
    return MemoryTaskIO("memory://faults")


@pytest.fixture
def faulty(store: MemoryTaskIO) -> FaultyTaskIO:
    return FaultyTaskIO(store)


def test_it_is_a_task_io_and_keeps_a_journal(faulty: FaultyTaskIO) -> None:
    assert isinstance(faulty, TaskIO)
    faulty.write("dir/a", b"1")
    faulty.exists("dir/a")
    faulty.read_many(["dir/a", "dir/b"])
    assert [info.name for info in faulty.list("dir/")] == ["dir/a"]
    faulty.remove("dir/a")

    assert faulty.calls == [
        Call(1, Operation.WRITE, "dir/a"),
        Call(2, Operation.EXISTS, "dir/a"),
        Call(3, Operation.READ, "dir/a"),
        Call(4, Operation.READ, "dir/b"),
        Call(5, Operation.LIST, "dir/"),
        Call(6, Operation.REMOVE, "dir/a"),
    ]


def test_raise_before_applies_nothing(faulty: FaultyTaskIO, store: MemoryTaskIO) -> None:
    faulty.plan(2, RaiseBefore())
    faulty.write("a", b"1")
    with pytest.raises(StorageUnavailableException, match="planned fault"):
        faulty.write("a", b"2")
    assert store.read("a").data == b"1"
    faulty.write("a", b"3")
    assert store.read("a").data == b"3"


def test_a_fault_may_be_any_error(faulty: FaultyTaskIO) -> None:
    faulty.plan(1, RaiseBefore(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        faulty.exists("a")


def test_a_lost_response_was_applied(faulty: FaultyTaskIO, store: MemoryTaskIO) -> None:
    faulty.plan(writes_to("dir/"), LoseResponse())
    faulty.write("other", b"")
    with pytest.raises(StorageUnavailableException):
        faulty.write("dir/a", b"mine", expect=ABSENT)
    assert store.read("dir/a").data == b"mine"
    with pytest.raises(VersionConflictException):
        faulty.write("dir/a", b"mine", expect=ABSENT)


def test_a_late_write_comes_when_it_is_due(faulty: FaultyTaskIO, store: MemoryTaskIO) -> None:
    faulty.plan(1, ApplyLater(2))
    with pytest.raises(StorageUnavailableException):
        faulty.write("a", b"late", expect=ABSENT)
    assert not faulty.exists("a")
    assert faulty.read("a").data == b"late"


def test_a_late_write_comes_when_it_is_told_to(faulty: FaultyTaskIO, store: MemoryTaskIO) -> None:
    faulty.plan(writes_to("a"), ApplyLater(), times=2)
    for body in (b"first", b"second"):
        with pytest.raises(StorageUnavailableException):
            faulty.write("a", body, expect=ABSENT)
    assert not faulty.exists("a")
    assert faulty.deliver_late() == 1, "the second one's precondition does not hold any more"
    assert store.read("a").data == b"first"
    assert faulty.deliver_late() == 0


def test_somebody_overtakes_a_request(faulty: FaultyTaskIO, store: MemoryTaskIO) -> None:
    faulty.plan(2, CallBefore(lambda call: store.write(call.name, b"theirs")))
    seen = faulty.write("a", b"mine")
    with pytest.raises(VersionConflictException):
        faulty.write("a", b"mine again", expect=seen)
    assert store.read("a").data == b"theirs"


def test_somebody_comes_after_a_request(faulty: FaultyTaskIO, store: MemoryTaskIO) -> None:
    faulty.plan(1, CallAfter(lambda call: store.remove(call.name)))
    version = faulty.write("a", b"mine")
    with pytest.raises(PersistenceDataNotFoundException):
        faulty.read("a")
    with pytest.raises(VersionConflictException):
        faulty.write("a", b"mine again", expect=version)


def test_a_callback_that_raises_is_a_crash(faulty: FaultyTaskIO, store: MemoryTaskIO) -> None:
    def crash(call: Call) -> None:
        raise SystemExit(call.number)

    faulty.plan(1, CallAfter(crash))
    with pytest.raises(SystemExit):
        faulty.write("a", b"applied")
    assert store.read("a").data == b"applied"


def test_a_callback_may_use_the_very_client(faulty: FaultyTaskIO) -> None:
    faulty.plan(1, CallBefore(lambda _: faulty.write("b", b"from the callback")))
    faulty.write("a", b"")
    assert [call.name for call in faulty.calls] == ["a", "b"]


def test_times_bounds_how_often_a_fault_strikes(faulty: FaultyTaskIO) -> None:
    faulty.plan(lambda call: call.operation is Operation.EXISTS, RaiseBefore(), times=2)
    for _ in range(2):
        with pytest.raises(StorageUnavailableException):
            faulty.exists("a")
    assert not faulty.exists("a")

    faulty.plan(lambda call: call.number >= 5, RaiseBefore(TaskIOException("gone")), times=None)
    assert not faulty.exists("a")
    for _ in range(10):
        with pytest.raises(TaskIOException, match="gone"):
            faulty.exists("a")


def test_the_first_plan_strikes_and_the_second_waits(faulty: FaultyTaskIO) -> None:
    faulty.plan(writes_to(""), RaiseBefore(TaskIOException("first")))
    faulty.plan(writes_to(""), RaiseBefore(TaskIOException("second")))
    for text in ("first", "second"):
        with pytest.raises(TaskIOException, match=text):
            faulty.write("a", b"")
    faulty.write("a", b"")


def test_read_many_is_struck_name_by_name(faulty: FaultyTaskIO) -> None:
    faulty.plan(lambda call: call.name == "b", RaiseBefore())
    with pytest.raises(StorageUnavailableException):
        faulty.read_many(["a", "b", "c"])
    assert [call.name for call in faulty.calls] == ["a", "b"]
