"""Starting, stopping and killing workers, each a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .pipeline import Job

PROGRAM = Path(__file__).with_name("pipeline.py")
TIMEOUT = 120.0
TOOK_OVER = "took over"


@dataclass
class Tally:
    """What the process tests did, and what went wrong."""

    starts: int = 0
    kills: int = 0
    take_overs: int = 0
    executions: int = 0
    commits: int = 0
    lost: int = 0
    doubled: int = 0


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
    def took_over(self) -> bool:
        return TOOK_OVER in self.errors


class Worker:
    """One process of `pipeline`, idle until it gets a job."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._ended: Ended | None = None
        tally.starts += 1

    def give(self, job: Job) -> None:
        """Give the job as soon as the worker is ready for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self._read_errors()
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone or only waits for us to note it."""
        return self._process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a worker that has ended already takes no notice."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stop the process where it is; return when it stands still."""
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def wait(self) -> Ended:
        """Wait for the end."""
        if self._ended is None:
            said, _ = self._process.communicate(timeout=TIMEOUT)
            self._ended = Ended(
                self._process.returncode, json.loads(said) if said.strip() else {}, self._read_errors()
            )
            self._tally.kills += self._ended.was_killed
            self._tally.take_overs += self._ended.took_over
        return self._ended

    def finish(self) -> Ended:
        """Wait for the end, which must be a good one."""
        ended = self.wait()
        assert ended.returncode == 0, ended
        return ended

    def close(self) -> None:
        """End the process if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def _read_errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()


class Workers:
    """Starts workers, one ahead of its use so that its imports take no time, and ends all of them."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._all: list[Worker] = []
        self._spare: Worker | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._all:
            worker.close()

    def start(self, job: Job) -> Worker:
        """A worker that does this job."""
        worker = self._spare or self._new()
        worker.give(job)
        self._spare = self._new()
        return worker

    def _new(self) -> Worker:
        worker = Worker(self._tally)
        self._all.append(worker)
        return worker


def wait_until(is_met: Callable[[], bool]) -> None:
    """Wait for a condition, with a bound that only a hang can reach."""
    deadline = time.monotonic() + TIMEOUT
    while not is_met():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
