"""What imports cost, as whole processes, beside a Python that imports nothing.

python benchmarks/imports.py [--rounds 15]
"""

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from machine import describe, median, table

BUDGET_MS = 150
BARE = "python -c pass"
PROGRAMS = {
    BARE: ["-c", "pass"],
    "import pydantic": ["-c", "import pydantic; pydantic.BaseModel"],
    "import checkmate": ["-c", "import checkmate"],
    "from checkmate import BaseStage": ["-c", "from checkmate import BaseStage"],
    "open a file:// store": ["-c", "from checkmate import open_task_io; open_task_io('file:///nowhere')"],
    "open an s3:// store": ["-c", "from checkmate import open_task_io; open_task_io('s3://bucket')"],
    "checkmate version": ["-m", "checkmate", "version"],
}


def seconds(program: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *program], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for name, program in PROGRAMS.items():
            taken = seconds(program) * 1000
            if number:  # the first round fills the caches
                found[name].append(taken)
    ms = {name: median(values) for name, values in found.items()}
    rows = [[f"`{name}`", f"{taken:.0f}", f"{taken - ms[BARE]:.0f}"] for name, taken in ms.items()]
    print(f"Milliseconds of a whole process, median of {rounds}.\n")
    print(table(["program", "ms", "above bare Python"], rows))
    cost = ms["import checkmate"] - ms[BARE]
    print(f"\n`import checkmate` costs {cost:.0f} ms; the budget is {BUDGET_MS} ms.\n")
    print(describe(Path.cwd(), "checkmate", "pydantic", "tenacity", "s3fs"))


if __name__ == "__main__":
    main()
