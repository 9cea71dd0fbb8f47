"""What holds for the client of every remote backend: one for each store and process, closed where it was made.

That a store works after a fork, in a running event loop and between processes that race is in the conformance kit.
"""

import copy
import pickle
import threading

import pytest

from checkmate_core.errors import VersionConflictException
from checkmate_core.io.registry import open_task_io
from checkmate_core.types import ABSENT
from checkmate_io_fsspec.remote import RemoteTaskIO
from tests.backends.processes import script

OPEN = """
import asyncio, gc, os, sys, threading
from checkmate_core.io.registry import open_task_io
def opened(): return type(store).from_base_url(store.base_url, **store._options)
def say(*words): print(*words, flush=True)
store = open_task_io(sys.argv[1])
"""


@pytest.fixture(params=["checkmate_s3_url", "checkmate_gcs_url", "checkmate_azure_url"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty store; the environment, which child processes inherit, has what it takes to open it."""
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(url: str) -> RemoteTaskIO:
    # Opened stores are shared in a process.
    io = copy.copy(open_task_io(url))
    assert isinstance(io, RemoteTaskIO)
    return io


def test_32_threads_share_one_client(store: RemoteTaskIO, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = type(store)._make_filesystem
    monkeypatch.setattr(type(store), "_make_filesystem", lambda self: made.append(1) or real(self))  # type: ignore[func-returns-value]
    start = threading.Barrier(32)
    failures: list[BaseException] = []
    won: list[int] = []

    def work(n: int) -> None:
        try:
            start.wait()
            store.write(f"own/{n}", b"%d" % n)
            assert store.read(f"own/{n}").data == b"%d" % n
            try:
                store.write("shared", b"%d" % n, expect=ABSENT)
                won.append(n)
            except VersionConflictException:
                pass
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(won) == 1
    assert len(made) == 1
    assert len(store.read_many([f"own/{n}" for n in range(40)])) == 32


def test_a_copy_or_pickle_has_a_client_of_its_own(store: RemoteTaskIO) -> None:
    store.write("x", b"1")
    for other in (copy.copy(store), copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        assert other._filesystem is None
        assert other.read("x").data == b"1"
        assert other.base_url == store.base_url


def test_a_forked_child_has_a_client_of_its_own_and_ends_well(url: str, store: RemoteTaskIO) -> None:
    source = """
store.write("parent", b"1")
busy = True
def work():
    while busy: store.write(f"busy", b"1")
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for n in range(5):
    if os.fork() == 0:
        store.write(f"child/{n}", b"1")
        assert store.read("parent").data == b"1"
        os._exit(0)
    say(os.wait()[1])
busy = False
for thread in threads: thread.join()
# A child that ends as any process does, its parent's client still in its memory.
if os.fork() == 0:
    store.write("child/exit", b"1")
    sys.exit(0)
say(os.wait()[1])
if os.fork() == 0: sys.exit(0)
say(os.wait()[1])
# And one that collects it.
if os.fork() == 0:
    del store
    gc.collect()
    sys.exit(0)
say(os.wait()[1])
say(store.read("parent").data)
"""
    with script(OPEN + source, url) as parent:
        assert [parent.hear() for _ in range(9)] == ["0"] * 8 + ["b'1'"]
        assert parent.end() == ""
    assert len(list(store.list("child/"))) == 6


def test_the_interpreter_ends_in_silence(url: str) -> None:
    source = """
store.write("x", b"1"); list(store.list()); store.read_many(["x", "y"])
for n in range(3):
    opened().read("x")
    gc.collect()
async def within_a_loop_of_the_user():
    other = opened()
    other.read("x")
    del other
    gc.collect()
    assert len(asyncio.all_tasks()) == 1
asyncio.run(within_a_loop_of_the_user())
"""
    with script(OPEN + source, url) as other:
        assert other.end() == ""
