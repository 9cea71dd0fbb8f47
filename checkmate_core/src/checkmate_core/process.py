"""Which process is this, and is that one dead?"""

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PROC = Path("/proc")


class ProcessIdentity(BaseModel):
    """A process, told apart from every other one on every host.

    A pid alone proves nothing: it is reused, it means another process in another container, and
    host names repeat. The boot id tells boots (and so machines) apart, the pid namespace tells
    containers apart, the start time tells two processes with one pid apart.

    Attributes:
        host: Host name, for people.
        boot_id: Identity of this boot of this kernel; None where the system does not tell.
        pid_ns: Identity of the pid namespace.
        pid: Process id within that namespace.
        pid_started: Start time in clock ticks since boot.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    boot_id: str | None = None
    pid_ns: str | None = None
    pid: int
    pid_started: int | None = None

    @classmethod
    def current(cls) -> "ProcessIdentity":
        """This process."""
        pid = os.getpid()
        stat = _stat(pid)
        return cls(
            host=HOST,
            boot_id=_boot_id(),
            pid_ns=_pid_namespace(),
            pid=pid,
            pid_started=stat[1] if stat else None,
        )

    def is_dead_here(self) -> bool:
        """Whether this process is proven to have ended, on this very host and in this pid namespace.

        False whenever there is any doubt: another host, another container, another boot (whose
        processes are all dead, but a shared boot id is what proves the host), or a system that does
        not tell.
        """
        if self.boot_id is None or self.pid_ns is None or self.pid_started is None:
            return False
        if (self.boot_id, self.pid_ns) != (_boot_id(), _pid_namespace()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # somebody else's process: it lives, but may be a later one under the same pid
        stat = _stat(self.pid)
        if stat is None:
            return False
        state, started = stat
        # A killed child that its parent has not waited for yet still has its pid.
        return started != self.pid_started or state in ("Z", "X")


HOST = socket.gethostname()


def _boot_id() -> str | None:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        # A /proc of another namespace, as some containers mount it, tells of other processes than ours.
        is_ours = os.readlink(_PROC / "self") == str(os.getpid())
        return os.readlink(_PROC / "self/ns/pid") if is_ours else None
    except OSError:
        return None


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time of a process; None if there is no such process or it cannot be told."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command name, in parentheses, may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])
