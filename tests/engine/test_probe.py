"""A store that ignores the conditions that locks are made of is found out before the first lock."""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import pytest

from checkmate import (
    BindLock,
    StorageUnavailableException,
    TaskIO,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
    open_task_io,
)
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.probe import require_honest_conditions
from checkmate_core.testing import Call, CallBefore, FaultyTaskIO, LoseResponse, Operation, RaiseBefore
from checkmate_core.types import ANY, Capability, Expect, Version
from tests.conformance.planted import SoundIO, World, preconditions

from .pipelines import engine_for, raw

NUMBERS = count()


def foreign(backend: type[SoundIO] = SoundIO, world: World | None = None) -> SoundIO:
    """A store that nobody knows to be good, and that was not probed yet."""
    io = backend(world or World())
    io.SCOPE = f"http://planted-{next(NUMBERS)} bucket"
    return io


def lock(io: TaskIO, name: str = "_locks/t.lock") -> None:
    with BindLock(io, name, lease=None):
        pass


def probes(io: FaultyTaskIO) -> list[Call]:
    return [call for call in io.calls if call.name.startswith("_probe/")]


class RefusesEverySwap(SoundIO):
    """As behind a proxy that changes every ETag."""

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        if isinstance(expect, str):
            raise VersionConflictException(f"{obj_name} has another version")
        return super().write(obj_name, data, expect=expect)


FAULTS: dict[type[SoundIO], str] = {
    preconditions.CreateOverwrites: "ignored the condition of a create where an object exists",
    preconditions.SwapIgnoresTheVersion: "ignored the condition of a swap on an old version",
    preconditions.SwapCreatesWhatIsMissing: "ignored the condition of a swap of a removed object",
    preconditions.RefusedSwapIsAppliedAllTheSame: "refused a create where an object exists, and yet applied it",
    preconditions.RemoveIgnoresTheVersion: "ignored the condition of a removal on an old version",
    preconditions.CapabilityDeclaredButNotThere: "claims to do a conditional remove and does not",
}


@pytest.mark.parametrize("backend", FAULTS, ids=lambda backend: backend.__name__)
def test_an_ignored_condition_is_found_before_anything_of_the_task_is_written(backend: type[SoundIO]) -> None:
    io = FaultyTaskIO(foreign(backend))
    with pytest.raises(UnsupportedBackendException, match="cannot hold a lock") as caught:
        engine_for(io).bind()
    message = str(caught.value)
    assert FAULTS[backend] in message
    assert io.base_url in message
    assert "no_lock=True" in message
    assert {call.operation for call in io.calls if call not in probes(io)} <= {Operation.READ}
    assert raw(io) == {}


@pytest.mark.parametrize("backend", FAULTS, ids=lambda backend: backend.__name__)
def test_who_works_without_a_lock_is_not_hindered(backend: type[SoundIO]) -> None:
    io = FaultyTaskIO(foreign(backend))
    with engine_for(io, no_lock=True) as engine:
        engine.execute()
    assert probes(io) == []


def test_a_condition_that_is_not_declared_is_not_probed() -> None:
    class RemovesUnconditionally(preconditions.RemoveIgnoresTheVersion):
        CAPABILITIES = frozenset(Capability) - {Capability.REMOVE_IF}

    lock(foreign(RemovesUnconditionally))


def test_a_store_is_probed_once_and_keeps_nothing_of_it() -> None:
    world = World()
    first = FaultyTaskIO(foreign(world=world))
    lock(first)
    assert probes(first)
    assert {name.split("/")[0] for name in raw(first)} == {"_locks"}
    again = SoundIO(world)
    again.SCOPE = first.probe_scope
    second = FaultyTaskIO(again)
    before = len(first.calls)
    lock(first)
    lock(second)
    assert probes(second) == []
    assert probes(first) == [call for call in first.calls[:before] if call in probes(first)]


def test_32_threads_wait_for_one_probe() -> None:
    alone, crowded = FaultyTaskIO(foreign()), FaultyTaskIO(foreign())
    lock(alone)
    line = threading.Barrier(32)

    def acquire(number: int) -> None:
        line.wait(60)
        lock(crowded, f"_locks/t{number}.lock")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(acquire, range(32)))
    assert len(probes(crowded)) == len(probes(alone))
    first_lock = next(call.number for call in crowded.calls if call.name.startswith("_locks/"))
    assert all(call.number < first_lock for call in probes(crowded))


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_stores_that_are_known_to_be_honest_are_not_probed(kind: str, request: pytest.FixtureRequest) -> None:
    io = FaultyTaskIO(open_task_io(request.getfixturevalue(f"checkmate_{kind}_url")))
    assert io.probe_scope is None
    with engine_for(io) as engine:
        engine.execute()
    assert probes(io) == []


def test_a_store_that_was_found_out_is_refused_again_without_a_request() -> None:
    io = FaultyTaskIO(foreign(preconditions.SwapIgnoresTheVersion))
    for _ in range(2):
        with pytest.raises(UnsupportedBackendException, match="swap on an old version"):
            lock(io)
    made = len(io.calls)
    with pytest.raises(UnsupportedBackendException, match="swap on an old version"):
        lock(io, "_locks/other.lock")
    assert len(io.calls) == made


def test_a_store_that_did_not_answer_is_asked_again() -> None:
    io = FaultyTaskIO(foreign())
    io.plan(lambda call: call.operation is Operation.READ and call.name.startswith("_probe/"), RaiseBefore())
    with pytest.raises(StorageUnavailableException, match="planned fault"):
        lock(io)
    assert raw(io) == {}
    lock(io)
    assert len(probes(io)) > len(io.calls) / 2


def test_a_lost_answer_condemns_no_honest_store() -> None:
    sound = FaultyTaskIO(foreign())
    lock(sound)
    assert len(probes(sound)) > 10
    for number in range(1, len(probes(sound)) + 1):
        io = FaultyTaskIO(foreign())
        io.plan(number, LoseResponse())
        with suppress(StorageUnavailableException):
            require_honest_conditions(io)
        assert raw(io) == {}, f"something is left when the answer to {io.calls[number - 1]} is lost"
        require_honest_conditions(io)


def test_a_store_that_refuses_every_swap_can_hold_no_lock() -> None:
    with pytest.raises(UnsupportedBackendException, match="refused a write whose condition held"):
        lock(foreign(RefusesEverySwap))


def test_what_cannot_be_removed_is_logged_and_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    class KeepsProbes(SoundIO):
        CAPABILITIES = frozenset({Capability.CREATE})

        def remove(self, obj_name: str, **options: object) -> None:
            raise TaskIOException("not today")

    io = foreign(KeepsProbes)
    with caplog.at_level(logging.WARNING):
        require_honest_conditions(io)
    (left,) = raw(io)
    assert f"could not remove {io.build_url(left)}" in caplog.text
    assert "not today" in caplog.text


def test_an_interrupted_probe_leaves_nothing_and_is_made_again() -> None:
    io = FaultyTaskIO(foreign())
    io.plan(3, RaiseBefore(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        lock(io)
    assert raw(io) == {}
    lock(io)


def test_a_child_forked_during_a_probe_makes_its_own() -> None:
    io = FaultyTaskIO(foreign())
    begun, go_on = threading.Event(), threading.Event()

    def pause(_: Call) -> None:
        begun.set()
        go_on.wait(60)

    io.plan(2, CallBefore(pause))
    prober = threading.Thread(target=lock, args=(io,))
    prober.start()
    assert begun.wait(60)
    pid = os.fork()
    if pid == 0:
        _exit_after(lambda: lock(SameScope(io)))
    go_on.set()
    prober.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class SameScope(SoundIO):
    def __init__(self, io: TaskIO) -> None:
        super().__init__(World())
        self.SCOPE = io.probe_scope


def _exit_after(action: Callable[[], object]) -> None:
    threading.Thread(target=_exit_late, daemon=True).start()
    try:
        action()
        os._exit(0)
    finally:
        os._exit(1)


def _exit_late() -> None:
    threading.Event().wait(60)
    os._exit(2)


def test_a_probe_is_no_task(checkmate_memory_url: str) -> None:
    from checkmate import TaskStore
    from checkmate_core.layout import probe_object_name

    io = open_task_io(checkmate_memory_url)
    assert isinstance(io, MemoryTaskIO)
    io.write(probe_object_name(), b"{}")
    assert TaskStore(io).list() == []
