"""Writes the golden store: one task in every state in which a task can be found.

    python -m tests.golden.generate

writes ``format-1/`` anew, from the repository's root. Do so only to add a task. The files are what a
released CheckMate wrote, so what exists already must not change; a new format number gets a folder
of its own, and the old one stays.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from checkmate_core import StageFailedException, TaskIO
from checkmate_core.clock import Tick
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.journal import TaskJournal
from checkmate_core.process import ProcessIdentity

from .pipeline import AWKWARD_NAMES, GoldenStage, GoldenTask, cm_factory_golden

FOLDER = Path(__file__).with_name("format-1")
HOST = "golden.example"
# A process of no machine that a test could run on, so that nobody can prove it dead.
HOLDER = ProcessIdentity(
    host=HOST,
    boot_id="11111111-2222-4333-8444-555555555555",
    pid_ns="pid:[4026531836]",
    pid=4711,
    pid_started=815,
)


class DiedError(BaseException):
    """The process died here, as far as the store can tell."""


class FixedClock:
    """A second later at every look; never waits."""

    def __init__(self) -> None:
        self._seconds = itertools.count(1_700_000_000)

    def now(self) -> float:
        return float(next(self._seconds))

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        pass

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def repeat(self, tick: Tick, after: float, name: str) -> Callable[[], None]:
        return lambda: None


@contextmanager
def fixed_world() -> Iterator[None]:
    """Ids, times and the process are the same at every generation."""
    numbers = itertools.count(1)

    def urandom(size: int) -> bytes:
        return next(numbers).to_bytes(size, "big")

    with ExitStack() as stack:
        stack.enter_context(patch("os.urandom", urandom))
        stack.enter_context(patch("checkmate_core.stage.HOST", HOST))
        stack.enter_context(patch.object(ProcessIdentity, "current", lambda: HOLDER))
        stack.enter_context(patch.object(GoldenTask, "clock", FixedClock()))
        yield


def write_store(io: TaskIO) -> None:
    """Store one task of each kind."""
    with fixed_world():
        cm_factory_golden(io, "complete").run()
        cm_factory_golden(io, "awkward", AWKWARD_NAMES).run()
        with cm_factory_golden(io, "enqueued"):
            pass
        with suppress(StageFailedException):
            cm_factory_golden(io, "failed", on_execute=_raise_in_work(ValueError("no good"))).run()
        _crash(cm_factory_golden(io, "crashed", on_execute=_raise_in_work(DiedError())))
        with patch.object(FixedClock, "sleep", _die):
            _crash(cm_factory_golden(io, "retrying", on_execute=_raise_in_work(OSError("flaky"))))
        with suppress(DiedError):
            cm_factory_golden(io, "interrupted", on_execute=_raise_in_work(DiedError())).run()
        canceled = cm_factory_golden(io, "canceled", on_execute=_raise_in_work(DiedError()))
        with suppress(DiedError):
            canceled.run()
        canceled.cancel()
        for _ in range(2):  # the second life begins over the tombstone of the first
            removed = cm_factory_golden(io, "removed")
            removed.auto_cleanup = True
            removed.run()
        removing = cm_factory_golden(io, "removing", on_execute=_raise_in_work(ValueError("no good")))
        with suppress(StageFailedException):
            removing.run()
        removing.bind()
        with suppress(DiedError), patch.object(TaskJournal, "bury", _die):
            removing.session.remove_task()
        _crash(cm_factory_golden(io, "leased", on_execute=_raise_in_work(DiedError()), lease=0.25))


def golden_objects() -> dict[str, bytes]:
    """The golden store, by object name."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_bytes()
        for path in sorted(FOLDER.rglob("*"))
        if path.is_file()
    }


def fresh_objects() -> dict[str, bytes]:
    """What this CheckMate writes for the same tasks, by object name."""
    io = MemoryTaskIO("memory://golden")
    write_store(io)
    return {name: data for name, (data, _) in sorted(io.objects.items())}


def _crash(task: GoldenTask) -> None:
    """Run until the process dies: without releasing the lock."""
    task.bind()
    with suppress(DiedError):
        task.execute()


def _die(*_: Any) -> None:
    raise DiedError


def _raise_in_work(error: BaseException) -> Any:
    def on_execute(stage: GoldenStage) -> None:
        if stage.stage_name == "work":
            raise error

    return on_execute


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, data in fresh_objects().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
