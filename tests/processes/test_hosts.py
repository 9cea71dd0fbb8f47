"""Who is dead on this very host is replaced at once; a pid, a container or a host name alone proves nothing.

In Linux namespaces of their own, where this system lets us make them: those of pids make containers,
and a boot id mounted over the real one makes another host, on which everything else is the same.
Elsewhere the lock is edited to say what it would say there.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from checkmate_core import BindException, BindLock, TaskIO, open_task_io
from checkmate_core.layout import lock_object_name

from .workers import TIMEOUT, wait_until

LOCK = lock_object_name("t")
NOWHERE = "00000000-0000-4000-8000-000000000000"

# No lease, so that nothing but proof of a death lets anybody in. A pid of one's choice: the kernel takes
# the next one after the last one, which who owns the namespace may set.
PROGRAM = f"""
import os, signal, sys, time
from checkmate_core import BindException, BindLock, open_task_io
url, pid = sys.argv[1], int(sys.argv[2])

def take():
    lock = BindLock(open_task_io(url), {LOCK!r}, lease=None)
    try:
        lock.acquire()
    except BindException:
        print("refused", flush=True)
    else:
        print("taken", flush=True)

def fork_as(pid, do):
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(pid - 1))
    child = os.fork()
    if child == 0:
        do()
        signal.pause()
    assert child == pid, (child, pid)

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
TAKE = "take(); sys.stdin.readline()"
CONTAINER = ("--pid", "--fork", "--kill-child", "--mount-proc")
# As some containers have it: /proc tells of other processes than theirs.
FOREIGN_PROC = ("--pid", "--fork", "--kill-child")


@cache
def unshare() -> Sequence[str] | None:
    """How to make namespaces here; None if nobody lets us."""
    for command in (("unshare",), ("unshare", "--user", "--map-root-user")):
        probe = [*command, "--mount", *CONTAINER, "sh", "-c", "echo 99 > /proc/sys/kernel/ns_last_pid"]
        try:
            if subprocess.run(probe, capture_output=True, timeout=TIMEOUT).returncode == 0:
                return command
        except FileNotFoundError:
            continue
    return None


class Elsewhere:
    """A program in namespaces of its own, and what it says."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


@contextmanager
def running(
    script: str, url: str, *namespaces: str, pid: int = 0, boot: Path | None = None
) -> Iterator[Elsewhere]:
    """Run the script; it, and all that it started, are killed at the end of the block."""
    command = [sys.executable, "-c", PROGRAM + script, url, str(pid)]
    if boot is not None:
        mount = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
        command = ["sh", "-c", mount, str(boot), *command]
    if namespaces:
        command = [*(unshare() or ()), *namespaces, *command]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Elsewhere(process)
        finally:
            process.kill()


@pytest.fixture
def other_host(tmp_path: Path) -> Path:
    """The boot id of another host of the same name."""
    path = tmp_path / "boot_id"
    path.write_text(f"{NOWHERE}\n")
    return path


@pytest.fixture
def io(checkmate_file_url: str) -> TaskIO:
    return open_task_io(checkmate_file_url)


def edit(io: TaskIO, **changes: object) -> None:
    io.write(LOCK, json.dumps({**json.loads(io.read(LOCK).data), **changes}).encode())


def refused(io: TaskIO) -> bool:
    try:
        BindLock(io, LOCK).acquire()
    except BindException:
        return True
    return False


def dead_pid() -> int:
    """The pid of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(TIMEOUT)
    return process.pid


def leave_dead_holder(url: str) -> None:
    with running(TAKE, url) as holder:
        assert holder.read() == "taken"


def test_who_died_here_is_replaced_at_once(checkmate_file_url: str, io: TaskIO) -> None:
    """Without this, the tests below would pass if nobody was ever found dead."""
    leave_dead_holder(checkmate_file_url)
    assert not refused(io)


def test_who_died_in_this_container_is_replaced_by_another_in_it(checkmate_file_url: str, io: TaskIO) -> None:
    if unshare() is None:
        leave_dead_holder(checkmate_file_url)
        assert not refused(io)
        return
    with running(
        "fork_as(pid, take); sys.stdin.readline(); end(pid); take()", checkmate_file_url, *CONTAINER, pid=500
    ) as container:
        assert container.read() == "taken"
        container.go_on()
        assert container.read() == "taken"


def test_a_pid_that_was_used_again_is_a_dead_holder(checkmate_file_url: str, io: TaskIO) -> None:
    if unshare() is None:
        BindLock(io, LOCK, lease=None).acquire()
        edit(io, pid_started=json.loads(io.read(LOCK).data)["pid_started"] - 1)
        assert not refused(io)
        return
    script = """
fork_as(pid, take)
sys.stdin.readline()
end(pid)
time.sleep(0.1)  # the kernel tells when a process started to a hundredth of a second
fork_as(pid, lambda: print("lives", flush=True))
sys.stdin.readline()
take()
"""
    with running(script, checkmate_file_url, *CONTAINER, pid=500) as container:
        assert container.read() == "taken"
        container.go_on()
        assert container.read() == "lives"
        container.go_on()
        assert container.read() == "taken"


def test_who_lives_in_a_container_is_not_dead_because_its_pid_is_dead_here(
    checkmate_file_url: str, io: TaskIO
) -> None:
    if unshare() is None:
        leave_dead_holder(checkmate_file_url)
        edit(io, pid_ns="pid:[1]")
        assert refused(io)
        return
    with running(
        "fork_as(pid, take); sys.stdin.readline()", checkmate_file_url, *CONTAINER, pid=dead_pid()
    ) as container:
        assert container.read() == "taken"
        assert refused(io)


def test_who_lives_here_is_not_dead_because_its_pid_is_dead_in_a_container(
    checkmate_file_url: str, io: TaskIO
) -> None:
    if unshare() is None:
        leave_dead_holder(checkmate_file_url)
        edit(io, pid_ns="pid:[1]")
        assert refused(io)
        return
    with running(TAKE, checkmate_file_url) as holder:
        assert holder.read() == "taken"
        with running("take()", checkmate_file_url, *CONTAINER) as container:
            assert container.read() == "refused"


def test_two_containers_with_equal_pids_are_told_apart(checkmate_file_url: str, io: TaskIO) -> None:
    if unshare() is None:
        leave_dead_holder(checkmate_file_url)
        edit(io, pid_ns="pid:[1]")
        assert refused(io)
        return
    with running("fork_as(pid, take); sys.stdin.readline()", checkmate_file_url, *CONTAINER, pid=500) as one:
        assert one.read() == "taken"
        # There, this pid is another process, which started at another time.
        script = "fork_as(pid, lambda: print('lives', flush=True)); sys.stdin.readline(); take()"
        with running(script, checkmate_file_url, *CONTAINER, pid=500) as other:
            assert other.read() == "lives"
            other.go_on()
            assert other.read() == "refused"


def test_who_died_on_another_host_of_this_name_is_not_taken_for_dead_here(
    checkmate_file_url: str, io: TaskIO, other_host: Path
) -> None:
    """The other host's processes have the same pid namespace: every host's first one is called the same."""
    if unshare() is None:
        leave_dead_holder(checkmate_file_url)
        edit(io, boot_id=NOWHERE)
    else:
        with running(TAKE, checkmate_file_url, "--mount", boot=other_host) as holder:
            assert holder.read() == "taken"
    lock = json.loads(io.read(LOCK).data)
    assert lock["boot_id"] == NOWHERE
    assert refused(io)


def test_who_died_here_is_not_taken_for_dead_on_another_host_of_this_name(
    checkmate_file_url: str, io: TaskIO, other_host: Path
) -> None:
    leave_dead_holder(checkmate_file_url)
    if unshare() is None:
        edit(io, boot_id=NOWHERE)
        assert refused(io)
        return
    with running("take()", checkmate_file_url, "--mount", boot=other_host) as other:
        assert other.read() == "refused"


def test_where_proc_tells_of_other_processes_nobody_is_found_dead(
    checkmate_file_url: str, io: TaskIO
) -> None:
    """In it, the holder's pid is that of an outsider, whose death is not the holder's."""
    if unshare() is None:
        leave_dead_holder(checkmate_file_url)
        edit(io, pid_ns=None)
        assert refused(io)
        return
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as outsider:
        script = "fork_as(pid, take); sys.stdin.readline(); take()"
        with running(script, checkmate_file_url, *FOREIGN_PROC, pid=outsider.pid) as container:
            assert container.read() == "taken"
            assert json.loads(io.read(LOCK).data)["pid"] == outsider.pid
            outsider.kill()
            # Dead, and not waited for.
            stat = Path(f"/proc/{outsider.pid}/stat")
            wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
            container.go_on()
            assert container.read() == "refused"
