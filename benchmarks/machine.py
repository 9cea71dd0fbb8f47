"""What a measurement was made on, so that two of them can be compared."""

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe(folder: Path, *packages: str) -> str:
    """The machine, the file system below ``folder``, and the versions of Python and these packages."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [f"{name} {installed}" for name in packages if (installed := _version(name))]
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return "\n".join(
        [
            f"- Machine: {_cpu()}, {cores} cores, {platform.system()} {platform.release().partition('-')[0]}{load}",
            f"- File system: {_file_system(folder)}",
            f"- Python {platform.python_version()}, {', '.join(found)}",
        ]
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """Type of the file system that holds ``folder``."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in mounts:
        _, point, found, *_ = line.split()
        point = point.replace("\\040", " ")
        is_above = folder.resolve().is_relative_to(point)
        if is_above and len(point) >= len(best):
            best, kind = point, found
    return kind
