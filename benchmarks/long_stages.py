"""What saving costs a long stage, and for how long an event loop is blocked by a task's storage work.

    python benchmarks/long_stages.py [--seconds 10] [--tasks 20]

Of a loop by `resumable` at its own pace, beside a bare one: the time that requests take, to that of the bodies of the
loop; and what an item costs above that. The lag is how late a timer of a millisecond comes in an event loop in which tasks
are executed, beside the same loop with nothing to do, by turns. Neighbours make timers late, too; so the CPU time of
the longest callback is told as well: what the loop's own thread did at a stretch.
"""

import argparse
import asyncio
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from machine import describe, table
from moto_server import moto_server
from pydantic import Field

from checkmate_core import BaseStage, BaseStageState, CheckMate, TaskIO, open_task_io

BLOCK = bytes(1_000_000)
STATE = "".join(chr(ord("a") + index % 26) for index in range(1000))
SHARE_BUDGET = 0.02
LAG_BUDGET_MS = 5.0
TICK = 0.001


class Kilobyte(BaseStageState):
    text: str = STATE
    number: int = 0


class Timed:
    """A store that counts how long its requests take."""

    def __init__(self, io: TaskIO) -> None:
        self._io = io
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._io, name)
        if name not in ("read", "write", "exists"):
            return found

        def timed(*args: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            try:
                return found(*args, **options)
            finally:
                self.seconds += time.perf_counter() - begin

        return timed


class Spent:
    """How long the bodies of a loop took, its requests, and all of it."""

    def __init__(self, io: Timed) -> None:
        self.work = self.whole = self.requests = 0.0
        self.items = 0
        self._io = io

    def loop(self, items: Iterable[int], seconds: float) -> None:
        """Hash a megabyte, some half a millisecond, for each item until the time is over."""
        before = self._io.seconds
        begin = time.perf_counter()
        for _ in items:
            started = time.perf_counter()
            sha256(BLOCK).digest()
            self.items += 1
            ended = time.perf_counter()
            self.work += ended - started
            if ended - begin > seconds:
                break
        self.whole = time.perf_counter() - begin
        self.requests = self._io.seconds - before

    @property
    def share(self) -> float:
        return self.requests / self.work

    @property
    def per_item(self) -> float:
        return (self.whole - self.work - self.requests) / self.items


class Long(BaseStage[Kilobyte]):
    stage_name: str = "long"
    state: Kilobyte = Field(default_factory=Kilobyte)
    body: Any = Field(default=None, exclude=True)

    def execute_stage(self, previous_state_copy: Kilobyte) -> None:
        self.body(self)


class Saving(BaseStage[Kilobyte]):
    state: Kilobyte = Field(default_factory=Kilobyte)

    async def execute_stage(self, previous_state_copy: Kilobyte) -> None:
        for number in range(5):
            self.state.number = number
            await self.acheckpoint()


def spent(io: TaskIO, seconds: float, items: Callable[[Long], Iterable[int]]) -> Spent:
    """Run a stage that loops."""
    timed = Timed(io)
    found = Spent(timed)
    stage = Long(body=lambda stage: found.loop(items(stage), seconds))
    CheckMate(cast("TaskIO", timed), uuid4().hex, [stage]).run()
    return found


@contextmanager
def longest_callback() -> Iterator[list[float]]:
    """CPU milliseconds of the longest callback of an event loop in this thread."""
    longest = [0.0]
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        begin = time.thread_time()
        run(handle)
        if threading.current_thread() is threading.main_thread():
            longest[0] = max(longest[0], (time.thread_time() - begin) * 1000)

    asyncio.Handle._run = timed  # type: ignore[assignment,method-assign]
    try:
        yield longest
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]


async def lags(io: TaskIO | None, tasks: int, seconds: float) -> list[float]:
    """Milliseconds that each timer came late while tasks were executed, one after another."""
    found: list[float] = []
    is_over = False

    async def tick() -> None:
        while not is_over:
            begin = time.perf_counter()
            await asyncio.sleep(TICK)
            found.append((time.perf_counter() - begin - TICK) * 1000)

    ticking = asyncio.create_task(tick())
    if io is None:
        await asyncio.sleep(seconds)
    else:
        for _ in range(tasks):
            await CheckMate(
                io, uuid4().hex, [Saving(stage_name=f"stage-{number}") for number in range(5)]
            ).arun()
    is_over = True
    await ticking
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a loop runs")
    parser.add_argument("--tasks", type=int, default=20, help="tasks of 5 stages with 5 checkpoints each")
    parser.add_argument("--folder", type=Path, help="where files are written (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name, moto_server() as endpoint:
        folder = Path(name)
        s3 = open_task_io("s3://benchmark/tasks", endpoint_url=endpoint, region="us-east-1")
        make_bucket(endpoint)
        stores = {"file": open_task_io((folder / "store").as_uri()), "S3, moto": s3}
        shares, blocked = [], []
        for store, io in stores.items():
            for loop, items in LOOPS.items():
                one = spent(io, arguments.seconds, items)
                shares.append(
                    [store, loop, f"{one.items}", f"{100 * one.share:.2f} %", f"{one.per_item * 1e6:.1f}"]
                )
            asyncio.run(lags(io, 1, 0))
            for what, where in (("nothing", None), ("tasks", io)):
                # Only this thread's loop: those of SDKs run in threads of their own.
                with longest_callback() as longest:
                    found = asyncio.run(lags(where, arguments.tasks, arguments.seconds))
                p99, worst = found[len(found) * 99 // 100], found[-1]
                over = sum(lag > LAG_BUDGET_MS for lag in found)
                blocked.append(
                    [
                        store,
                        what,
                        f"{len(found)}",
                        f"{found[len(found) // 2]:.2f}",
                        f"{p99:.2f}",
                        f"{worst:.2f}",
                        f"{over}",
                        f"{longest[0]:.2f}",
                    ]
                )
        print(
            f"A loop over items of some half a millisecond, for {arguments.seconds:g} s. The budget is "
            f"{100 * SHARE_BUDGET:g} % of the work.\n"
        )
        print(table(["store", "loop", "items", "requests, of the work", "us an item beside"], shares))
        print(
            f"\nMilliseconds that a timer of 1 ms comes late in an event loop that executes {arguments.tasks} tasks of 5 "
            f"stages with 5 checkpoints each. The budget is {LAG_BUDGET_MS:g} ms.\n"
        )
        print(
            table(
                [
                    "store",
                    "the loop has",
                    "timers",
                    "median",
                    "p99",
                    "max",
                    "above the budget",
                    "longest callback, CPU",
                ],
                blocked,
            )
        )
        print(f"\n{describe(folder, 'checkmate-core', 's3fs', 'aiobotocore', 'moto')}")


def make_bucket(endpoint: str) -> None:
    """By a request of its own, which moto lets anybody send."""
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/benchmark", method="PUT")).close()


LOOPS: dict[str, Callable[[Long], Iterable[int]]] = {
    "bare": lambda stage: range(10**9),
    "resumable()": lambda stage: stage.resumable(range(10**9)),
    "resumable() and progress()": lambda stage: telling(stage),
}


def telling(stage: Long) -> Iterable[int]:
    for number in stage.resumable(range(10**9)):
        stage.progress(number, 10**9)
        yield number


if __name__ == "__main__":
    main()
