"""What is particular to `file://`: the disk, the lock files, and processes that die or stop."""

import os
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import pytest

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.registry import open_task_io
from checkmate_core.types import ABSENT, ANY, Expect, Version
from checkmate_io_fsspec._locks import LOCK_COUNT
from checkmate_io_fsspec.local import LocalTaskIO
from tests.backends.processes import script, scripts

OPEN = """
import os, signal, sys, threading
from checkmate_core.errors import *
from checkmate_core.types import *
from checkmate_io_fsspec.local import LocalTaskIO
store = LocalTaskIO(sys.argv[1])
def say(*words): print(*words, flush=True)
def hear(): return sys.stdin.readline().strip()
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalTaskIO:
    return LocalTaskIO(tmp_path / "base")


def base(store: LocalTaskIO) -> Path:
    return Path(store.base_url.removeprefix("file://"))


def temp_files(store: LocalTaskIO) -> list[str]:
    folder = base(store) / ".checkmate" / "tmp"
    return os.listdir(folder) if folder.exists() else []


# Opening


@pytest.mark.parametrize(
    "url", ["{}/a b/é", "file://{}/a%20b/%C3%A9", "file://localhost{}/a%20b/%C3%A9/", "{}/x/../a b//é/"]
)
def test_spellings_of_one_folder_are_one_base(tmp_path: Path, url: str) -> None:
    store = open_task_io(url.format(tmp_path))
    assert store.base_url == (tmp_path / "a b" / "é").as_uri()
    assert store.build_url("t/ü?#%.json") == f"{store.base_url}/t/%C3%BC%3F%23%25.json"
    store.write("t/ü?#%.json", b"1")
    assert (tmp_path / "a b" / "é" / "t" / "ü?#%.json").read_bytes() == b"1"
    assert LocalTaskIO.from_base_url(store.base_url).read("t/ü?#%.json").data == b"1"


def test_a_plain_path_may_be_relative_or_start_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_task_io("tasks").base_url == (tmp_path / "tasks").as_uri()
    assert open_task_io("~/tasks").base_url == (tmp_path / "home" / "tasks").as_uri()


def test_a_path_may_hold_what_a_url_may_not(tmp_path: Path) -> None:
    store = LocalTaskIO.from_base_url(f"{tmp_path}/100%?#")
    store.write("x", b"1")
    assert (tmp_path / "100%?#" / "x").exists()
    assert LocalTaskIO.from_base_url(store.base_url).exists("x")


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("file://tasks", "file:///tasks"),
        ("file://host/tasks", "file:///host/tasks"),
        ("file:tasks", "file:///tasks"),
        ("file:///tasks?x=1", "%3F"),
        ("file:///tasks%00", "no folder"),
        ("", "./tasks"),
    ],
)
def test_a_url_that_names_no_folder_is_refused_with_the_fix(url: str, fix: str) -> None:
    with pytest.raises(UnsupportedBackendException) as caught:
        LocalTaskIO.from_base_url(url)
    assert fix in str(caught.value)


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedBackendException, match=r"'mode'.*lock_timeout"):
        open_task_io(str(tmp_path), mode=3)
    for wrong in (0, -1, True, "3", float("nan")):
        with pytest.raises(UnsupportedBackendException, match="lock_timeout"):
            open_task_io(str(tmp_path), lock_timeout=wrong)


def test_only_a_write_makes_something(store: LocalTaskIO) -> None:
    assert not store.exists("x")
    assert list(store.list()) == []
    assert store.read_many(["x"]) == {}
    store.remove("x")
    with pytest.raises(PersistenceDataNotFoundException):
        store.read("x")
    with pytest.raises(VersionConflictException):
        store.write("x", b"", expect=Version("0"))
    assert not base(store).exists()


def test_opening_local_files_imports_no_fsspec(tmp_path: Path) -> None:
    with script(OPEN + "say('fsspec' in sys.modules, 'filelock' in sys.modules)", str(tmp_path)) as other:
        assert other.hear() == "False False"


# The private folder


def test_the_private_folder_is_hidden_and_refused(store: LocalTaskIO) -> None:
    store.write("x", b"1")
    assert [info.name for info in store.list()] == ["x"]
    for prefix in (".", ".checkmate", ".checkmate/", ".checkmate/locks/"):
        assert list(store.list(prefix)) == []
    for name in (".checkmate", ".checkmate/locks/00.lock", ".CheckMate/x", "task/.checkmate/x"):
        for operation in (
            store.read,
            store.exists,
            store.remove,
            store.build_url,
            lambda n: store.write(n, b""),
        ):
            with pytest.raises(TaskIOException, match="refused"):
                operation(name)


def test_a_base_below_another_is_hidden_from_it(store: LocalTaskIO) -> None:
    LocalTaskIO(base(store) / "inner").write("x", b"1")
    assert [info.name for info in store.list()] == ["inner/x"]


def test_lock_files_are_few_and_stay(store: LocalTaskIO) -> None:
    for n in range(5 * LOCK_COUNT):
        store.write(f"t/{n}", b"1")
        store.remove(f"t/{n}")
    locks = base(store) / ".checkmate" / "locks"
    assert sorted(os.listdir(locks)) == [f"{n:02d}.lock" for n in range(LOCK_COUNT)]


def test_temporary_files_of_the_dead_are_removed_after_a_day(store: LocalTaskIO) -> None:
    folder = base(store) / ".checkmate" / "tmp"
    folder.mkdir(parents=True)
    (folder / "old").touch()
    os.utime(folder / "old", (time.time() - 90_000,) * 2)
    (folder / "new").touch()
    (folder / "odd").mkdir()
    os.utime(folder / "odd", (time.time() - 90_000,) * 2)
    store.write("x", b"1")
    assert sorted(os.listdir(folder)) == ["new", "odd"]


# Folders


def test_removing_the_last_object_removes_its_folders(store: LocalTaskIO) -> None:
    store.write("a/b/c/x", b"1")
    store.write("a/y", b"1")
    store.remove("a/b/c/x")
    assert [path.name for path in base(store).iterdir() if path.name != ".checkmate"] == ["a"]
    assert os.listdir(base(store) / "a") == ["y"]
    store.remove("a/y")
    assert os.listdir(base(store)) == [".checkmate"]


def test_folders_that_come_and_go_fail_no_write(store: LocalTaskIO) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(100):
                version = store.write(name, b"1", expect=ABSENT)
                store.remove(name, expect=version)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(f"a/b/{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(base(store)) == [".checkmate"]


def test_a_base_that_is_removed_meanwhile_is_made_again(store: LocalTaskIO) -> None:
    store.write("t/x", b"1")
    base(store).rename(base(store).with_name("gone"))
    assert not store.exists("t/x")
    store.write("t/x", b"2", expect=ABSENT)
    assert store.read("t/x").data == b"2"


def test_a_listing_survives_what_vanishes(store: LocalTaskIO) -> None:
    for name in ("a/1", "b/1", "b/2", "c"):
        store.write(name, b"1")
    listing = store.list()
    next(listing)
    for name in ("a/1", "b/1", "b/2", "c"):
        store.remove(name)
    list(listing)
    assert list(store.list()) == []


def test_a_listing_leaves_out_what_is_no_object(store: LocalTaskIO) -> None:
    store.write("t/x", b"1")
    (base(store) / "t" / "empty").mkdir()
    (base(store) / "t" / "back\\slash").touch()
    (base(store) / "t" / "dangling").symlink_to("nowhere")
    (base(store) / "t" / "loop").symlink_to(".")
    os.mkfifo(base(store) / "t" / "pipe")
    assert [info.name for info in store.list("t/")] == ["t/x"]


def test_an_object_replaced_all_the_time_is_always_listed_once(store: LocalTaskIO) -> None:
    for n in range(20):
        store.write(f"t/{n}", b"1")
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            store.write("t/7", os.urandom(8))

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(200):
            assert len([info.name for info in store.list("t/")]) == 20
    finally:
        stop.set()
        writer.join()


# Failures


@pytest.mark.parametrize("expect", [ABSENT, ANY])
def test_a_name_that_files_cannot_hold_says_why(store: LocalTaskIO, expect: Expect) -> None:
    store.write("t/x", b"1")
    for name, reason in (("t", "EISDIR"), ("t/x/y", "EEXIST|ENOTDIR"), ("t/x/y/z", "EEXIST|ENOTDIR")):
        assert not store.exists(name)
        store.remove(name)
        with pytest.raises(PersistenceDataNotFoundException):
            store.read(name)
        with pytest.raises(StorageUnavailableException, match=reason) as caught:
            store.write(name, b"2", expect=expect)
        assert store.build_url(name) in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
    assert store.read("t/x").data == b"1"
    assert temp_files(store) == []


def test_a_path_too_long_for_the_system_says_so(tmp_path: Path) -> None:
    store = LocalTaskIO(tmp_path / "/".join(["x" * 200] * 40))
    for operation in (store.read, store.exists, store.remove, lambda name: store.write(name, b"")):
        with pytest.raises(StorageUnavailableException, match=r"ENAMETOOLONG.*shorter"):
            operation("x")


def test_a_folder_without_permission_says_so(store: LocalTaskIO) -> None:
    store.write("t/x", b"1")
    base(store).chmod(0o700)
    source = """
if os.geteuid() == 0: os.setuid(65534)
else: os.chmod(sys.argv[1], 0)
for operation in (store.read, store.exists, store.remove, lambda n: store.write(n, b"2"), lambda n: list(store.list())):
    try: operation("t/x")
    except StorageUnavailableException as exc: say("EACCES" in str(exc), "access" in str(exc), store.base_url in str(exc))
    else: say("no error")
"""
    with script(OPEN + source, str(base(store))) as other:
        assert [other.hear() for _ in range(5)] == ["True True True"] * 5
    base(store).chmod(0o700)
    assert store.read("t/x").data == b"1"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, as pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
        for each in [path for path in (folder / "base", *folder.rglob("*")) if path.is_dir()]:
            each.chmod(0o777)


@pytest.mark.parametrize(
    ("denied", "mode", "operation", "obstacle"),
    [
        (".", 0o666, "read", "folder . enter it (x)"),
        ("t", 0o666, "exists", "folder t enter it (x)"),
        ("t/x", 0o222, "read", "file t/x read it (r)"),
        ("t", 0o111, "list", "folder t list and enter it (rx)"),
        ("t", 0o555, "create", "folder t write and enter it (wx)"),
        ("t", 0o555, "swap", "folder t write and enter it (wx)"),
        ("t", 0o555, "remove", "folder t write and enter it (wx)"),
        (".", 0o555, "create elsewhere", "folder . write and enter it (wx)"),
        (".checkmate/tmp", 0o555, "swap", "folder .checkmate/tmp write and enter it (wx)"),
        (".checkmate/locks/*", 0o444, "swap", "file .checkmate/locks/* read and write it (rw)"),
    ],
)
def test_a_denied_operation_names_the_obstacle_and_the_right(
    open_folder: Path, denied: str, mode: int, operation: str, obstacle: str
) -> None:
    store = LocalTaskIO(open_folder / "base")
    store.write("t/x", b"1")
    for path in (base(store), *base(store).rglob("*")):
        path.chmod(0o777)
    for path in base(store).glob(denied) if "*" in denied else [base(store) / denied]:
        path.chmod(mode)
    source = """
OPERATIONS = {"read": lambda: store.read("t/x"), "exists": lambda: store.exists("t/x"),
    "list": lambda: list(store.list()), "create": lambda: store.write("t/y", b"2", expect=ABSENT),
    "swap": lambda: store.write("t/x", b"2", expect=store.read("t/x").version),
    "remove": lambda: store.remove("t/x"), "create elsewhere": lambda: store.write("u/y", b"2", expect=ABSENT)}
if os.geteuid() == 0: os.setuid(65534)  # root may do anything
try: OPERATIONS[sys.argv[2]]()
except StorageUnavailableException as exc: say(exc)
"""
    with script(OPEN + source, str(base(store)), operation) as other:
        message = other.hear()
    kind, name, right = obstacle.split(" ", 2)
    assert "EACCES" in message
    user = os.geteuid() or 65534
    assert f"; give user {user} access to the {kind} {base(store)}" in message
    named = message.partition(f"access to the {kind} ")[2].partition(":")[0]
    assert fnmatch(named, str(base(store) / name)), message
    assert f"the right to {right}; or use another base URL" in message


def test_a_full_disk_leaves_the_old_object_and_no_rest(store: LocalTaskIO) -> None:
    # A file size limit ends a write as a full disk does: in its middle.
    old = store.write("t/x", b"old")
    source = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for expect in (ANY, Version(sys.argv[2])):
    try: store.write("t/x", b"2" * 5000, expect=expect)
    except StorageUnavailableException as exc: say(type(exc.__cause__).__name__, "EFBIG" in str(exc))
"""
    with script(OPEN + source, str(base(store)), old) as other:
        assert [other.hear() for _ in range(2)] == ["OSError True"] * 2
    assert store.read("t/x").version == old
    assert temp_files(store) == []


def test_a_failed_rename_leaves_the_old_object_and_no_rest(
    store: LocalTaskIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store.write("x", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    for expect in (ANY, old):
        with pytest.raises(StorageUnavailableException, match=r"ENOSPC.*free some space"):
            store.write("x", b"new", expect=expect)
    monkeypatch.undo()
    assert store.read("x").data == b"old"
    assert temp_files(store) == []
    store.write("x", b"new", expect=old)


def test_a_disk_that_cannot_sync_acknowledges_nothing(
    store: LocalTaskIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageUnavailableException, match="EIO"):
        store.write("x", b"new")
    monkeypatch.undo()
    assert not store.exists("x")
    assert temp_files(store) == []


def test_where_there_are_no_hard_links_a_create_is_still_exclusive(
    store: LocalTaskIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    won = []

    def create(n: int) -> None:
        with suppress(VersionConflictException):
            won.append(store.write("t/x", b"%d" % n, expect=ABSENT))

    threads = [threading.Thread(target=create, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [store.read("t/x").version]
    assert temp_files(store) == []


def test_modes_are_what_the_umask_leaves(store: LocalTaskIO) -> None:
    before = os.umask(0o027)
    try:
        store.write("t/x", b"1")
    finally:
        os.umask(before)
    made = [base(store) / "t" / "x", *(base(store) / ".checkmate" / "locks").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o640}
    assert stat.S_IMODE((base(store) / "t").stat().st_mode) == 0o750


# Durability


def test_everything_is_synced_before_it_is_acknowledged(
    store: LocalTaskIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real: dict[str, Callable[..., None]] = {"fsync": os.fsync, "link": os.link, "replace": os.replace}
    root = base(store)

    def fsync(fd: int) -> None:
        inode = os.fstat(fd).st_ino
        known = {
            p.stat().st_ino: str(p.relative_to(root.parent)) for p in [root.parent, *root.parent.rglob("*")]
        }
        events.append("sync " + ("temp" if "tmp/" in known[inode] else known[inode]))
        real["fsync"](fd)

    monkeypatch.setattr(os, "fsync", fsync)

    def placing(call: str) -> Callable[[str, str], None]:
        def place(source: str, target: str) -> None:
            events.append(call)
            real[call](source, target)

        return place

    for call in ("link", "replace"):
        monkeypatch.setattr(os, call, placing(call))

    version = store.write("a/b/x", b"1", expect=ABSENT)
    assert events == ["sync temp", "link", "sync base/a/b", "sync base/a", "sync base", "sync ."]
    events.clear()
    store.write("a/b/x", b"2", expect=version)
    assert events == ["sync temp", "replace", "sync base/a/b"]
    events.clear()
    store.remove("a/b/x")
    assert events == ["sync base", "sync ."]
    events.clear()
    # A folder made anew is as new to the disk as the first, whatever inode it gets.
    store.write("a/b/x", b"3", expect=ABSENT)
    assert events == ["sync temp", "link", "sync base/a/b", "sync base/a", "sync base", "sync ."]
    events.clear()
    # A second process cannot know whether the first one came to sync the folders.
    LocalTaskIO(root).write("a/b/y", b"3", expect=ABSENT)
    assert events == ["sync temp", "link", "sync base/a/b", "sync base/a", "sync base", "sync ."]


def test_killed_writers_leave_whole_objects_and_lose_nothing_acknowledged(store: LocalTaskIO) -> None:
    store.write("t/x", b"0:")
    source = """
version = store.read("t/x").version
n = int(store.read("t/x").data.partition(b":")[0])
while True:
    n += 1
    version = store.write("t/x", b"%d:" % n + b"x" * 300_000, expect=version)
    say(n)
"""
    for kills in range(8):
        with script(OPEN + source, str(base(store))) as writer:
            for _ in range(kills + 1):
                acknowledged = int(writer.hear())
            writer.kill()
        number, _, body = store.read("t/x").data.partition(b":")
        assert int(number) >= acknowledged
        assert body == b"x" * 300_000
        store.write("t/x", number + b":" + body)


# Locks


HOLD = """
real = os.replace
def replace(*paths):
    say("holding")
    {wait}
    real(*paths)
os.replace = replace
"""


def test_a_stopped_holder_is_named_and_waited_for(store: LocalTaskIO) -> None:
    version = store.write("t/x", b"1")
    impatient = LocalTaskIO(base(store), lock_timeout=0.05)
    stop = HOLD.format(wait="os.kill(os.getpid(), signal.SIGSTOP)") + "store.write('t/x', b'2'); say('done')"
    with script(OPEN + stop, str(base(store))) as holder:
        assert holder.hear() == "holding"
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
        operations = (
            lambda: impatient.write("t/x", b"3"),
            lambda: impatient.write("t/x", b"3", expect=version),
            lambda: impatient.remove("t/x", expect=version),
        )
        for operation in operations:
            with pytest.raises(StorageUnavailableException) as caught:
                operation()
            assert store.build_url("t/x") in str(caught.value)
            if sys.platform == "linux":
                assert f"process {holder.pid} " in str(caught.value)
                assert "stopped" in str(caught.value)
        assert impatient.read("t/x").data == b"1"
        assert impatient.exists("t/x")
        os.kill(holder.pid, signal.SIGCONT)
        assert holder.hear() == "done"
        holder.end()
    assert store.read("t/x").data == b"2"
    assert temp_files(store) == []


def test_a_killed_holder_frees_its_lock_though_it_had_forked(store: LocalTaskIO) -> None:
    store.write("t/x", b"1")
    source = (
        HOLD.format(wait="threading.Event().wait()")
        + """
threading.Thread(target=store.write, args=("t/x", b"2"), daemon=True).start()
hear()
child = os.fork()
if child == 0:
    signal.pause()
say(child)
hear()
"""
    )
    with script(OPEN + source, str(base(store))) as holder:
        assert holder.hear() == "holding"
        holder.tell()
        child = int(holder.hear())
        try:
            os.kill(holder.pid, signal.SIGKILL)
            holder.process.wait()
            store.write("t/x", b"3")
        finally:
            os.kill(child, signal.SIGKILL)
    assert store.read("t/x").data == b"3"


def test_a_child_forked_under_a_held_lock_respects_it_and_goes_on_after_it(store: LocalTaskIO) -> None:
    store.write("t/x", b"1")
    source = (
        HOLD.format(wait="go_on.wait()")
        + """
go_on = threading.Event()
holder = threading.Thread(target=store.write, args=("t/x", b"2"))
holder.start()
hear()
child = os.fork()
if child == 0:
    os.replace = real
    store.lock_timeout = 0.05
    try: store.write("t/x", b"3")
    except StorageUnavailableException: say("excluded")
    store.lock_timeout = 60
    store.write("t/x", b"4")
    os._exit(0)
hear()
go_on.set()
holder.join()
say(os.waitpid(child, 0)[1], store.read("t/x").data)
"""
    )
    with script(OPEN + source, str(base(store))) as parent:
        assert parent.hear() == "holding"
        parent.tell()
        assert parent.hear() == "excluded"
        parent.tell()
        assert parent.hear() == "0 b'4'"
        parent.end()
    assert temp_files(store) == []


RACE = """
rounds = 25
for n in range(rounds):
    name, first = hear().split()
    expect = ABSENT if first == "ABSENT" else Version(first)
    try: version = store.write(name, os.urandom(2000), expect=expect)
    except VersionConflictException: say("lost")
    else: say(version)
"""


def race(store: LocalTaskIO, source: str, count: int) -> None:
    with scripts(source, str(base(store)), count=count) as contenders:
        versions: dict[str, str] = {}
        for number in range(25):
            name = f"t{number // 2}/x"
            for contender in contenders:
                contender.tell(f"{name} {versions.get(name, 'ABSENT')}")
            answers = [contender.hear() for contender in contenders]
            winners = [answer for answer in answers if answer != "lost"]
            assert len(winners) == 1
            assert store.read(name).version == winners[0]
            versions[name] = winners[0]
        for contender in contenders:
            contender.end()
    assert temp_files(store) == []


def test_of_processes_that_race_one_wins(store: LocalTaskIO) -> None:
    race(store, OPEN + RACE, 8)


def test_of_forked_processes_that_race_one_wins(store: LocalTaskIO) -> None:
    # Each script forks contenders from a process that used the store in several threads.
    source = (
        OPEN
        + """
used = [threading.Thread(target=store.write, args=(f"used/{os.getpid()}-{n}", b"1")) for n in range(4)]
for thread in used: thread.start()
for thread in used: thread.join()
for _ in range(25):
    name, first = hear().split()
    expect = ABSENT if first == "ABSENT" else Version(first)
    pipes = []
    for child in range(4):
        reader, writer = os.pipe()
        if os.fork() == 0:
            try: version = store.write(name, os.urandom(2000), expect=expect)
            except VersionConflictException: version = ""
            os.write(writer, version.encode() or b"lost")
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
    answers = [os.read(pipe, 100).decode() for pipe in pipes]
    for pipe in pipes: os.close(pipe); os.wait()
    won = [answer for answer in answers if answer != "lost"]
    assert len(won) < 2, won
    say(*won or ["lost"])
"""
    )
    race(store, source, 3)


def test_a_swap_and_a_remove_of_one_version_never_both_happen(store: LocalTaskIO) -> None:
    other = LocalTaskIO(base(store))
    for n in range(100):
        version = store.write("t/x", b"%d" % n, expect=ABSENT)
        done: list[str] = []

        def attempt(label: str, act: object, done: list[str] = done) -> None:
            try:
                act()  # type: ignore[operator]
            except VersionConflictException:
                return
            done.append(label)

        threads = [
            threading.Thread(
                target=attempt, args=("swap", lambda v=version: store.write("t/x", b"new", expect=v))
            ),
            threading.Thread(
                target=attempt, args=("remove", lambda v=version: other.remove("t/x", expect=v))
            ),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 1
        assert store.exists("t/x") == (done == ["swap"])
        store.remove("t/x")
