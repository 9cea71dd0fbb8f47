"""Any other fsspec URL: which are served, SFTP and HTTP against real servers, archives and chains."""

import copy
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.sftp import SFTPFileSystem
from hypothesis import given
from hypothesis import strategies as st

from checkmate import BaseStage, BaseStageState, CheckMate, CheckMateEngine, TaskStore
from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
)
from checkmate_core.io import registry
from checkmate_core.io.names import check_object_name
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import known_schemes, open_task_io
from checkmate_core.io.url import parse_store_url
from checkmate_core.types import ABSENT, Version
from checkmate_io_fsspec import _opening
from checkmate_io_fsspec._filesystems import TRAITS, traits_of
from checkmate_io_fsspec.generic import FsspecTaskIO
from tests.backends.processes import script
from tests.backends.sftp_server import PASSWORD, USER, SftpServer, sftp_server


class Cargo(BaseStageState):
    trail: list[str] = []  # noqa: RUF012 - pydantic copies it


class Load(BaseStage[Cargo]):
    state: Cargo = Cargo()

    def execute_stage(self, previous_state_copy: Cargo) -> None:
        self.state.trail.append(self.stage_name)
        self.state.result = ",".join(self.state.trail)


def stages() -> list[Load]:
    return [Load(stage_name=name) for name in ("fetch", "embed", "export")]


# Which URLs are served


@pytest.mark.parametrize(
    ("scheme", "fix"),
    [
        *((scheme, "checkmate[gcs]") for scheme in ("gs", "gcs")),
        *((scheme, "checkmate[azure]") for scheme in ("az", "abfs", "abfss")),
        *((scheme, "checkmate[s3]") for scheme in ("s3", "s3a")),
        ("file", "checkmate-io-fsspec"),
    ],
)
def test_a_scheme_with_a_distribution_of_its_own_never_falls_through(
    scheme: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generic = EntryPoint("*", "checkmate_io_fsspec.generic:FsspecTaskIO", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "_scan", lambda: {"*": generic})
    registry._backend.cache_clear()
    try:
        assert isinstance(open_task_io("sftp://host/jobs"), FsspecTaskIO)
        with pytest.raises(UnsupportedBackendException) as caught:
            open_task_io(f"{scheme}://bucket/x")
    finally:
        registry._backend.cache_clear()
    assert str(caught.value) == f"no backend for {scheme}://: pip install '{fix}'"


def test_a_missing_package_is_named() -> None:
    with pytest.raises(UnsupportedBackendException, match=r"^no backend for dvc://: Install dvc "):
        open_task_io("dvc://repository/jobs")


def test_a_scheme_that_nobody_knows_is_said_to_be_so() -> None:
    with pytest.raises(UnsupportedBackendException, match=r"^no backend for s4://: .*file, .*memory"):
        open_task_io("s4://bucket/jobs")


def test_the_schemes_that_are_known_are_schemes() -> None:
    assert {"file", "memory"} <= set(known_schemes())
    assert "*" not in known_schemes()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("sftp://host", "sftp://host/FOLDER"),
        ("sftp://host/a/../b", "no place"),
        ("sftp://user:pw@host/jobs", "credentials"),
        ("sftp://host/jobs?password=pw", "secret 'password'"),
        ("sftp://host/jobs#x", "fragment"),
        ("dir://x::sftp://user:pw@host/jobs", "sftp://host/jobs carries credentials"),
        ("dir::sftp://host/jobs?port=22", r"sftp=\{'port': 2222\}"),
        ("simplecache::https://host/jobs", "answers from a cache"),
        ("zip://x::filecache::https://host/jobs.zip", "answers from a cache"),
        ("local:///srv/jobs", "file:///FOLDER"),
        ("dir://x::file:///srv/jobs", "file:///FOLDER"),
        ("zip://*.json::file:///srv/jobs.zip", "no single folder"),
        ("s3::https://host/jobs", "s3:// stands alone"),
        ("file::https://host/jobs", "file:// stands alone"),
        ("s3://bucket/x::https://host/jobs", "s3:// stands alone"),
    ],
)
def test_what_makes_no_store_is_refused_at_once(url: str, word: str) -> None:
    with pytest.raises(UnsupportedBackendException, match=word) as caught:
        open_task_io(url)
    assert "pw" not in str(caught.value)


def test_a_folder_may_have_a_name_like_a_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_task_io("./dir::x").write("a", b"1")
    assert (tmp_path / "dir::x" / "a").read_bytes() == b"1"


def test_options_of_the_url_are_the_filesystems_own() -> None:
    url = "sftp://host/jobs?port=2222&username=0123&timeout=5&compress=true"
    options = FsspecTaskIO.from_base_url(url, password="0123")._place._options
    # What a password or a name looks like, it is a text.
    expected = {"port": 2222, "username": "0123", "timeout": 5, "compress": True, "password": "0123"}
    assert {name: options[name] for name in expected} == expected
    assert open_task_io(url).base_url == "sftp://host/jobs"


# SFTP


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SftpServer]:
    with sftp_server(tmp_path) as running:
        yield running


def opened(server: SftpServer, **options: Any) -> FsspecTaskIO:
    return FsspecTaskIO.from_base_url(server.url, **{"password": PASSWORD, **options})


@pytest.fixture
def store(server: SftpServer) -> FsspecTaskIO:
    return opened(server)


def test_opening_and_naming_connect_nowhere(server: SftpServer) -> None:
    io = open_task_io(server.url, password=PASSWORD)
    assert io.build_url("t/x") == f"sftp://127.0.0.1:{server.port}/base/t/x"
    assert io.capabilities == frozenset()
    assert server.logins == 0


def test_a_lock_is_refused_and_the_reason_named(server: SftpServer, store: FsspecTaskIO) -> None:
    engine = CheckMateEngine(store, "t", stages())
    with pytest.raises(UnsupportedBackendException) as caught:
        engine.bind()
    assert store.base_url in str(caught.value)
    assert "no exclusive create and no compare-and-swap for sftp://" in str(caught.value)
    assert "no_lock=True" in str(caught.value)
    assert not server.base.exists(), "nothing was written"


def test_a_condition_is_refused_before_anything_is_sent(server: SftpServer, store: FsspecTaskIO) -> None:
    conditional: tuple[Callable[[], object], ...] = (
        lambda: store.write("t/x", b"1", expect=ABSENT),
        lambda: store.write("t/x", b"1", expect=Version("v")),
        lambda: store.remove("t/x", expect=Version("v")),
    )
    for request in conditional:
        with pytest.raises(UnsupportedBackendException, match="on a condition"):
            request()
    assert server.logins == 0


def test_without_a_lock_a_task_is_created_executed_and_looked_at(
    server: SftpServer, store: FsspecTaskIO
) -> None:
    checkmate = CheckMate(store, "t", stages(), no_lock=True)
    assert checkmate.run() == "fetch,embed,export"
    task = TaskStore(store).get("t")
    assert (task.status, task.stages_complete) == ("COMPLETE", 3)
    assert [task.task_id for task in TaskStore(open_task_io(server.url, password=PASSWORD)).list()] == ["t"]
    assert (server.base / "t" / "task.json").exists()


PIPELINE = """
import os, signal, sys
from checkmate import BaseStage, BaseStageState, CheckMateEngine, open_task_io
class Cargo(BaseStageState):
    trail: list[str] = []
class Load(BaseStage[Cargo]):
    state: Cargo = Cargo()
    def execute_stage(self, previous_state_copy):
        print(self.stage_name, flush=True)
        if self.stage_name == sys.argv[3]: os.kill(os.getpid(), signal.SIGKILL)
        self.state.trail.append(self.stage_name)
        self.state.result = ",".join(self.state.trail)
stages = [Load(stage_name=name) for name in ("fetch", "embed", "export")]
io = open_task_io(sys.argv[1], password=sys.argv[2])
engine = CheckMateEngine(io, "t", stages, no_lock=True)
engine.bind()
engine.execute(strict_recovery=True)
print(engine.task_result, flush=True)
engine.unbind()
"""


def test_a_killed_task_is_resumed_behind_its_last_completed_stage(server: SftpServer) -> None:
    with script(PIPELINE, server.url, PASSWORD, "embed") as worker:
        assert [worker.hear(), worker.hear()] == ["fetch", "embed"]
        assert worker.process.wait() == -signal.SIGKILL
        assert worker.process.communicate()[0] == ""
    (interrupted,) = TaskStore(opened(server)).list()
    assert [stage.status for stage in interrupted.stages] == ["COMPLETE", "RUNNING", "CREATED"]
    with script(PIPELINE, server.url, PASSWORD, "") as worker:
        heard = [worker.hear() for _ in range(3)]
        worker.process.wait()
    assert heard == ["embed", "export", "fetch,embed,export"]


def test_a_write_is_made_aside_and_moved_into_its_place(server: SftpServer, store: FsspecTaskIO) -> None:
    store.write("t/x", b"old")
    server.requests.clear()
    store.write("t/x", b"new")
    opens = [request for request in server.requests if request.startswith("open")]
    assert len(opens) == 1
    assert opens[0].startswith("open /base/.checkmate/")
    assert any(request.startswith("posix_rename /base/.checkmate/") for request in server.requests)
    assert (server.base / "t" / "x").read_bytes() == b"new"
    assert list((server.base / ".checkmate").iterdir()) == []
    with pytest.raises(TaskIOException, match="CheckMate's own folder"):
        store.read(".checkmate/x")


def test_a_failed_move_leaves_the_old_object_and_no_rest(
    server: SftpServer, store: FsspecTaskIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("t/x", b"old")

    def fail(*_: object) -> None:
        raise OSError("Failure")

    monkeypatch.setattr(SFTPFileSystem, "mv", fail)
    with pytest.raises(StorageUnavailableException, match=r"cannot write sftp://.*/t/x: Failure"):
        store.write("t/x", b"new")
    assert store.read("t/x").data == b"old"
    assert list((server.base / ".checkmate").iterdir()) == []


def test_a_connection_that_was_cut_is_made_again(server: SftpServer, store: FsspecTaskIO) -> None:
    store.write("t/x", b"1")
    operations: tuple[Callable[[], object], ...] = (
        lambda: store.read("t/x"),
        lambda: store.exists("t/x"),
        lambda: store.read_many(["t/x", "t/y"]),
        lambda: list(store.list()),
        lambda: store.write("t/x", b"2"),
        lambda: store.remove("t/x"),
    )
    for operation in operations:
        server.disconnect()
        operation()
    assert not store.exists("t/x")


def test_a_server_that_is_gone_is_unavailability(tmp_path: Path) -> None:
    with sftp_server(tmp_path) as server:
        store = opened(server)
        store.write("t/x", b"1")
    for operation in (lambda: store.read("t/x"), lambda: store.exists("t/x"), lambda: list(store.list())):
        with pytest.raises(StorageUnavailableException, match="Check the address") as caught:
            operation()
        assert caught.value.__cause__ is not None


def test_a_refused_login_tells_no_secret(server: SftpServer) -> None:
    store = opened(server, password="not-the-right-one")
    with pytest.raises(StorageUnavailableException, match="AuthenticationException") as caught:
        store.read("t/x")
    for text in (str(caught.value), repr(store), repr(caught.value)):
        assert "not-the-right-one" not in text


def test_what_may_not_be_seen_is_not_taken_for_missing(server: SftpServer, store: FsspecTaskIO) -> None:
    store.write("t/x", b"1")
    server.denied = "/base/t"
    operations: dict[str, Callable[[], object]] = {
        "read": lambda: store.read("t/x"),
        "read ": lambda: store.read_many(["t/x", "t/y"]),
        "look for": lambda: store.exists("t/x"),
        "list": lambda: list(store.list()),
        "write": lambda: store.write("t/x", b"2"),
        "remove": lambda: store.remove("t/x"),
    }
    for what, operation in operations.items():
        with pytest.raises(
            StorageUnavailableException, match=rf"cannot {what.strip()} sftp://.*/base/t"
        ) as caught:
            operation()
        assert "EACCES" in str(caught.value)
        assert "Give the account" in str(caught.value)
    server.denied = ""
    assert store.read("t/x").data == b"1"


def test_an_object_that_goes_during_a_listing_hides_no_other(
    store: FsspecTaskIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("t/x", b"1")
    store.write("t/y", b"1")
    real = SFTPFileSystem.ls
    calls: list[str] = []

    def ls(filesystem: SFTPFileSystem, path: str, detail: bool) -> object:
        # As fsspec's SMB does, which looks at each name in turn.
        calls.append(path)
        if calls.count(path) < 3:
            raise FileNotFoundError(2, "No such file", f"{path}/gone")
        return real(filesystem, path, detail=detail)

    monkeypatch.setattr(SFTPFileSystem, "ls", ls)
    assert sorted(info.name for info in store.list()) == ["t/x", "t/y"]


@given(st.text())
def test_what_is_escaped_in_a_path_is_the_same_name_again(name: str) -> None:
    with suppress(TaskIOException):
        check_object_name(name)
        for scheme in (*TRAITS, "unknown"):
            traits = traits_of(scheme)
            assert traits.unescape(traits.escape(name)) == name
    shared = traits_of("smb").escape(name)
    assert not any(segment.endswith((" ", ".")) for segment in shared.split("/"))
    assert not set('<>:"|?*') & set(shared)


def test_a_filesystem_that_bears_no_fork_refuses_a_child(
    server: SftpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    unforkable = replace(traits_of("sftp"), survives_fork=False)
    monkeypatch.setattr(_opening, "traits_of", lambda _: unforkable)
    monkeypatch.setattr(_opening, "_connected_in", {})
    store = opened(server)
    store.write("x", b"1")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    store._connections._forget()
    with pytest.raises(UnsupportedBackendException, match=r"forked child .*'spawn'"):
        store.read("x")


def test_threads_share_a_few_connections(server: SftpServer, store: FsspecTaskIO) -> None:
    def work(number: int) -> bytes:
        store.write(f"own/{number}", b"%d" % number)
        return store.read(f"own/{number}").data

    with ThreadPoolExecutor(16) as workers:
        assert list(workers.map(work, range(40))) == [b"%d" % number for number in range(40)]
    assert len(store.read_many([f"own/{number}" for number in range(50)])) == 40
    assert server.logins <= 4


def test_a_copy_or_pickle_has_connections_of_its_own(server: SftpServer, store: FsspecTaskIO) -> None:
    store.write("x", b"1")
    for other in (copy.copy(store), copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        before = server.logins
        assert other.read("x").data == b"1"
        assert server.logins == before + 1


FORKING = """
import os, sys, threading
from checkmate_core.io.registry import open_task_io
store = open_task_io(sys.argv[1], password=sys.argv[2])
def say(*words): print(*words, flush=True)
store.write("parent", b"1")
busy = True
def work():
    while busy: store.write("busy", b"1")
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for n in range(3):
    if os.fork() == 0:
        store.write(f"child/{n}", b"1")
        assert store.read("parent").data == b"1"
        os._exit(0)
    say(os.wait()[1])
busy = False
for thread in threads: thread.join()
# A child that ends as any process does, its parent's connections still in its memory.
if os.fork() == 0: sys.exit(0)
say(os.wait()[1])
say(store.read("parent").data)
"""


def test_a_forked_child_has_a_connection_of_its_own(server: SftpServer, store: FsspecTaskIO) -> None:
    with script(FORKING, server.url, PASSWORD) as parent:
        assert [parent.hear() for _ in range(5)] == ["0"] * 4 + ["b'1'"]
        assert parent.end() == ""
    assert len(list(store.list("child/"))) == 3


def test_a_folder_of_a_filesystem_is_a_store_like_it(server: SftpServer) -> None:
    url = parse_store_url(server.url)
    login = {"username": USER, "password": PASSWORD, "look_for_keys": False}
    chained = open_task_io(f"dir://sub::{url.location}", sftp=login)
    chained.write("t/x", b"1")
    assert (server.base / "sub" / "t" / "x").read_bytes() == b"1"
    assert [info.name for info in chained.list()] == ["t/x"]
    assert any(request.startswith("posix_rename") for request in server.requests)
    whole = open_task_io(f"dir::{url.location}", sftp=login)
    assert [info.name for info in whole.list()] == ["sub/t/x"]


# HTTP, read-only


class Pages(ThreadingHTTPServer):
    """A web server that shows a folder; `broken` makes it answer 500."""

    daemon_threads = False
    broken = False

    def __init__(self, folder: Path) -> None:
        self.seen: list[str] = []
        super().__init__(("127.0.0.1", 0), partial(_Page, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/jobs"


class _Page(SimpleHTTPRequestHandler):
    server: Pages

    def send_head(self) -> Any:
        self.server.seen.append(f"{self.command} {self.path}")
        if self.server.broken:
            self.send_error(500)
            return None
        return super().send_head()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[Pages]:
    with Pages(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two finished tasks and one that was begun, made as local files."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    io = open_task_io(str(tmp_path / "served" / "jobs"))
    for task_id in ("one", "two.x"):
        CheckMate(io, task_id, stages()).run()
    with CheckMateEngine(io, "begun", stages()):
        pass
    return tmp_path / "served"


@pytest.fixture
def pages(jobs: Path) -> Iterator[Pages]:
    with serving(jobs) as server:
        yield server


def described(io: TaskIO) -> list[tuple[Any, ...]]:
    return sorted(
        (task.task_id, task.status, task.result, [stage.state for stage in task.stages])
        for task in TaskStore(io).list()
    )


def test_a_web_server_shows_the_tasks_of_its_folder(jobs: Path, pages: Pages) -> None:
    local, remote = open_task_io(str(jobs / "jobs")), open_task_io(pages.url)
    assert len(described(remote)) == 3
    assert described(remote) == described(local)
    assert TaskStore(remote).get("one").result == "fetch,embed,export"
    assert {info.name for info in remote.list()} == {info.name for info in local.list()}
    assert {info.name for info in remote.list("two")} == {info.name for info in local.list("two")}


def test_a_web_server_is_asked_anew_each_time(jobs: Path, pages: Pages) -> None:
    store = open_task_io(pages.url)
    assert not store.exists("new/x")
    assert list(store.list("new/")) == []
    for body in (b"1", b"22"):
        open_task_io(str(jobs / "jobs")).write("new/x", body)
        assert store.exists("new/x")
        assert store.read("new/x").data == body
        assert [info.name for info in store.list("new/")] == ["new/x"]


def test_names_are_escaped_for_a_web_server(jobs: Path, pages: Pages) -> None:
    names = ["n/a b", "n/100%", "n/x%2Fy", "n/ü?#&=.json", "n/a+b", "n/a;b", "n/[a]", "n/it's"]
    local, remote = open_task_io(str(jobs / "jobs")), open_task_io(pages.url)
    for name in names:
        local.write(name, name.encode())
    found = remote.read_many([*names, "n/gone"])
    assert {name: stored.data for name, stored in found.items()} == {name: name.encode() for name in names}
    assert sorted(info.name for info in remote.list("n/")) == sorted(names)


def test_a_web_server_is_read_only(pages: Pages) -> None:
    store = open_task_io(pages.url)
    changes: tuple[Callable[[], object], ...] = (
        lambda: store.write("t/x", b"1"),
        lambda: store.write("t/x", b"1", expect=ABSENT),
        lambda: store.remove("t/x"),
        lambda: TaskStore(store).unlock("begun"),
    )
    for change in changes:
        with pytest.raises(UnsupportedBackendException, match="http:// is read-only here"):
            change()
    assert pages.seen == []
    with pytest.raises(UnsupportedBackendException, match="cannot hold a lock: http:// is read-only here"):
        CheckMateEngine(store, "t", stages()).bind()
    with pytest.raises(UnsupportedBackendException, match="execute them in another store"):
        CheckMateEngine(store, "t", stages(), no_lock=True).bind()
    assert not any(request.startswith(("PUT", "POST", "DELETE")) for request in pages.seen)


def test_a_web_server_in_trouble_is_unavailability_and_hides_nothing(pages: Pages) -> None:
    store = open_task_io(pages.url)
    with pytest.raises(PersistenceDataNotFoundException):
        store.read("nobody/task.json")
    pages.broken = True
    operations: tuple[Callable[[], object], ...] = (
        lambda: store.read("one/task.json"),
        lambda: store.exists("one/task.json"),
        lambda: store.read_many(["one/task.json", "nobody/task.json"]),
        lambda: list(store.list()),
    )
    for operation in operations:
        with pytest.raises(StorageUnavailableException, match="500"):
            operation()


def test_the_interpreter_ends_in_silence(server: SftpServer, jobs: Path, pages: Pages) -> None:
    source = """
import sys
from checkmate import TaskStore, open_task_io
sftp = open_task_io(sys.argv[1], password=sys.argv[2])
sftp.write("x", b"1"); sftp.read_many(["x", "y"]); list(sftp.list())
print(len(TaskStore(sys.argv[3]).list()))
login = {"username": sys.argv[5], "password": sys.argv[2], "look_for_keys": False}
print(len(TaskStore(open_task_io(sys.argv[4], sftp=login)).list()))
"""
    shutil.make_archive(str(server.root / "old"), "zip", jobs / "jobs")
    archive = f"zip::sftp://127.0.0.1:{server.port}/old.zip"
    with script(source, server.url, PASSWORD, pages.url, archive, USER) as other:
        assert [other.hear(), other.hear()] == ["3", "3"]
        assert other.end() == ""


# Archives


@pytest.mark.parametrize("chain", ["zip://jobs::file://{}", "zip://jobs::{}", "tar://jobs::file://{}"])
def test_the_tasks_of_an_archive_can_be_looked_at(jobs: Path, tmp_path: Path, chain: str) -> None:
    archive = shutil.make_archive(str(tmp_path / "old"), chain[:3], jobs, "jobs")
    store = open_task_io(chain.format(archive))
    assert described(store) == described(open_task_io(str(jobs / "jobs")))
    with pytest.raises(PersistenceDataNotFoundException):
        store.read("nobody/task.json")
    for change in (lambda: store.write("x", b"1"), lambda: store.remove("one/task.json")):
        with pytest.raises(UnsupportedBackendException, match="an archive can only be read"):
            change()
    with pytest.raises(UnsupportedBackendException, match="an archive can only be read"):
        CheckMateEngine(store, "t", stages()).bind()


def test_an_archive_may_lie_on_a_server(jobs: Path, server: SftpServer) -> None:
    shutil.make_archive(str(server.root / "base"), "zip", jobs / "jobs")
    login = {"username": USER, "password": PASSWORD, "look_for_keys": False}
    store = open_task_io(f"zip::{parse_store_url(server.url).location}.zip", sftp=login)
    assert described(store) == described(open_task_io(str(jobs / "jobs")))
