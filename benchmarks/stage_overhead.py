"""What the engine costs a stage, beside the least that the same guarantee can cost.

    python benchmarks/stage_overhead.py [--stages 10] [--rounds 30] [--peer burr]

Each round runs a new task with 1 KB of state on every store, and every floor, one after another, so
that all of them see the same machine. Printed are medians over the rounds.
"""

import argparse
import importlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from floors import bare_http, sqlite_commits, synced_files
from machine import describe, median, table
from moto_server import moto_server
from pydantic import Field

from checkmate_core import BaseStage, BaseStageState, CheckMate, TaskIO, open_task_io

STATE = "".join(chr(ord("a") + index % 26) for index in range(1000))
CPU_BUDGET_MS = 0.3
WARM_UP = 2


class Kilobyte(BaseStageState):
    text: str | None = None
    number: int | None = None


class Step(BaseStage[Kilobyte]):
    state: Kilobyte = Field(default_factory=Kilobyte)

    def execute_stage(self, previous_state_copy: Kilobyte) -> None:
        self.state.text = STATE
        self.state.number = (previous_state_copy.number or 0) + 1


def run_task(io: TaskIO, stages: int) -> tuple[float, float]:
    """Run a new task: seconds a stage of all of it, and of its execution alone."""
    task: CheckMate[Step, None] = CheckMate(
        io, uuid4().hex, [Step(stage_name=f"stage-{index}") for index in range(stages)]
    )
    begin = time.perf_counter()
    with task:
        bound = time.perf_counter()
        task.execute()
        executed = time.perf_counter()
    return (time.perf_counter() - begin) / stages, (executed - bound) / stages


def cpu_of_execution(stages: int) -> float:
    """CPU seconds a stage on memory, where storage costs next to nothing."""
    task: CheckMate[Step, None] = CheckMate(
        "memory://benchmark", None, [Step(stage_name=f"stage-{index}") for index in range(stages)]
    )
    with task:
        begin = time.process_time()
        task.execute()
        return (time.process_time() - begin) / stages


def stored_body(stages: int) -> bytes:
    """A stage object as the engine stores it."""
    io = open_task_io("memory://body")
    run_task(io, stages)
    name = next(info.name for info in io.list() if "/stages/" in info.name)
    return io.read(name).data


Measure = Callable[[], dict[str, float]]


def measures(folder: Path, endpoint: str, stages: int, body: bytes) -> Measure:
    """One round: seconds a stage of each thing that is measured."""
    memory = open_task_io("memory://benchmark")
    files = open_task_io((folder / "store").as_uri())
    s3 = open_task_io("s3://benchmark/tasks", endpoint_url=endpoint, region="us-east-1")

    def measure() -> dict[str, float]:
        found: dict[str, float] = {}
        for name, io in (("memory", memory), ("file", files), ("s3", s3)):
            found[name], found[f"{name}, execute"] = run_task(io, stages)
        found["cpu"] = cpu_of_execution(stages)
        found["synced files"] = synced_files(folder / uuid4().hex, body, stages)
        found["sqlite"] = sqlite_commits(folder / uuid4().hex, body, stages)
        with bare_http(endpoint, "floor") as bare:
            found["bare http"] = bare.puts(body, stages)
        return found

    return measure


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--stages", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--peer", choices=["burr"], help="also measure this library, if it is installed")
    parser.add_argument("--folder", type=Path, help="where files are written (default: a temporary folder)")
    return parser.parse_args()


def measure_all(arguments: argparse.Namespace, folder: Path, body: bytes) -> dict[str, float]:
    """Medians, in milliseconds a stage."""
    peer = importlib.import_module(f"peer_{arguments.peer}") if arguments.peer else None
    found: dict[str, list[float]] = defaultdict(list)
    with moto_server() as endpoint, bare_http(endpoint, "benchmark"):
        measure = measures(folder, endpoint, arguments.stages, body)
        for number in range(WARM_UP + arguments.rounds):
            measured = measure()
            if peer:
                measured |= peer.measure(folder / uuid4().hex, STATE, arguments.stages)
            if number >= WARM_UP:
                for name, seconds in measured.items():
                    found[name].append(seconds * 1000)
    return {name: median(values) for name, values in found.items()}


def report(ms: dict[str, float], arguments: argparse.Namespace, body: bytes, folder: Path) -> str:
    def row(name: str, store: str, floor: str, floor_name: str) -> list[str]:
        whole, execution, least = ms[store], ms[f"{store}, execute"], ms[floor]
        return [
            name,
            f"{whole:.3f}",
            f"{execution:.3f}",
            floor_name,
            f"{least:.3f}",
            f"{whole / least:.1f}",
            f"{execution / least:.1f}",
        ]

    files_floor = "twice tmp + fsync + rename + fsync(directory)"
    rows = [
        row("file", "file", "synced files", files_floor),
        row("file", "file", "sqlite", "one synced commit, SQLite WAL"),
        row("s3 (moto)", "s3", "bare http", "two PUTs, bare http.client"),
    ]
    header = ["store", "whole task", "execute", "floor", "floor ms", "whole / floor", "execute / floor"]
    peers = [[name, f"{ms[name]:.3f}"] for name in ms if name.startswith("burr")]
    cpu = ms["cpu"]
    return "\n\n".join(
        [
            f"Milliseconds a stage, median of {arguments.rounds} tasks of {arguments.stages} stages with 1 KB of "
            f"state (stored: {len(body)} bytes). The whole task is bind, execute and unbind.",
            table(header, rows),
            *([table(["peer, same steps", "ms a step"], peers)] if peers else []),
            f"Memory: {ms['memory']:.3f} ms a stage for the whole task, {ms['memory, execute']:.3f} for execute. "
            f"CPU of the engine: {cpu:.3f} ms a stage; the budget is {CPU_BUDGET_MS} ms: "
            f"{'kept' if cpu <= CPU_BUDGET_MS else 'NOT kept'}.",
            describe(folder, "checkmate-core", "pydantic", "s3fs", "aiobotocore", "moto", "burr"),
        ]
    )


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        body = stored_body(arguments.stages)
        ms = measure_all(arguments, Path(name), body)
        print(report(ms, arguments, body, Path(name)))


if __name__ == "__main__":
    main()
