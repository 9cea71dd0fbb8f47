"""Starting, stopping and killing workers, each a process of its own."""

import json
import multiprocessing
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any

from .pipeline import Job, work
from .tallies import Tally

TIMEOUT = 120.0
TOOK_OVER = "took over"
BY_LEASE = "its lease of"

# Workers are forked from a process that has imported what takes long: most of a worker's life would
# be imports otherwise.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        *("pytest", "checkmate_core.testing", work.__module__),
        *("checkmate_io_s3.s3", "checkmate_io_gcs.gcs", "checkmate_io_azure.azure"),
    ]
)
# Each start asks after all earlier workers, and two threads that ask after one lose its exit code.
_starting = threading.Lock()


@dataclass(frozen=True)
class Ended:
    """How a worker ended.

    Attributes:
        returncode: Its exit code; negative for a signal.
        said: The line of JSON that it printed; empty if it was killed.
        errors: Its standard error.
    """

    returncode: int
    said: dict[str, Any]
    errors: str

    @property
    def was_killed(self) -> bool:
        return self.returncode == -signal.SIGKILL

    @property
    def was_fenced(self) -> bool:
        return self.said.get("error") == "LockLostException"

    @property
    def took_over(self) -> bool:
        return TOOK_OVER in self.errors

    @property
    def took_over_by_lease(self) -> bool:
        return any(BY_LEASE in line for line in self.errors.splitlines() if TOOK_OVER in line)


class Worker:
    """One process that does one job."""

    def __init__(self, job: Job, folder: Path, tally: Tally) -> None:
        self._tally = tally
        self._said, self._errors = folder / "said", folder / "errors"
        self._process = _context.Process(
            target=work, args=(job, dict(os.environ), str(self._said), str(self._errors))
        )
        self._ended: Ended | None = None
        with _starting:
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        tally.starts += 1

    @property
    def has_ended(self) -> bool:
        return bool(wait([self._process.sentinel], 0))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a worker that has ended already takes no notice."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self) -> None:
        """Stop the process where it is, but not within a change of files; return when it stands still.

        Who is stopped there holds up everybody else for as long as that: it would be another test.
        """
        while True:
            self.signal(signal.SIGSTOP)
            wait_until(lambda: _state(self.pid).startswith("T"))
            if not _holds_file_locks(self.pid):
                return
            self.signal(signal.SIGCONT)

    def wait(self) -> Ended:
        """Wait for the end."""
        if self._ended is None:
            assert wait([self._process.sentinel], TIMEOUT), f"it goes on for ever: {self.errors}"
            with _starting:
                returncode = self._process.exitcode
            assert returncode is not None
            said = self._said.read_text() if self._said.exists() else ""
            self._ended = Ended(returncode, json.loads(said) if said.strip() else {}, self.errors)
            self._tally.kills += self._ended.was_killed
            self._tally.take_overs += self._ended.took_over
            self._tally.by_lease += self._ended.took_over_by_lease
            self._tally.fenced += self._ended.was_fenced
        return self._ended

    def finish(self) -> Ended:
        """Wait for the end, which must be a good one."""
        ended = self.wait()
        assert ended.returncode == 0, ended
        return ended

    @property
    def errors(self) -> str:
        """What it has written to its standard error."""
        return self._errors.read_text() if self._errors.exists() else ""

    def close(self) -> None:
        """End the process if it has not ended."""
        self.signal(signal.SIGKILL)
        assert wait([self._process.sentinel], TIMEOUT)
        with _starting:
            self._process.join()
            self._process.close()


class Workers:
    """Starts workers, and ends all of them."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._all: list[Worker] = []
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._all:
            worker.close()
        self._folder.cleanup()

    def start(self, job: Job) -> Worker:
        """A worker that does this job."""
        folder = Path(self._folder.name, str(len(self._all)))
        folder.mkdir()
        worker = Worker(job, folder, self._tally)
        self._all.append(worker)
        return worker


def wait_until(is_met: Callable[[], bool]) -> None:
    """Wait for a condition, with a bound that only a hang can reach."""
    deadline = time.monotonic() + TIMEOUT
    while not is_met():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def _state(pid: int) -> str:
    """Of a process: T is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        shown = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True)
        return shown.stdout.strip()


def _holds_file_locks(pid: int) -> bool:
    try:
        table = Path("/proc/locks").read_text()
    except FileNotFoundError:
        return False  # this system has no such table; there, the next one waits
    return any(
        fields[1] == "FLOCK" and fields[4] == str(pid) for fields in map(str.split, table.splitlines())
    )
