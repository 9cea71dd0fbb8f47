"""Runs as many seeds as one likes, and keeps the failing ones."""

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from checkmate_core.testing.simulation.run import ViolationError, simulate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 1 if a seed violated a guarantee, else 0."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _run_one(options.seed, show=options.trace)
    failed: list[int] = []
    totals: Counter[str] = Counter()
    began = time.monotonic()
    count = 0
    for seed in _seeds(options, began):
        count += 1
        try:
            totals += simulate(seed).totals
        except ViolationError as violation:
            failed.append(seed)
            print(f"{violation}\n", flush=True)
            if options.keep:
                with options.keep.open("a") as kept:
                    kept.write(f"{seed}  {violation.faults[0]}\n")
    minutes = (time.monotonic() - began) / 60
    print(f"{count} seeds in {minutes:.1f} minutes, {count / max(minutes, 1e-9):.0f} a minute")
    print(describe(totals))
    print(f"failing seeds: {', '.join(map(str, failed)) or 'none'}")
    return 1 if failed else 0


def describe(totals: Counter[str]) -> str:
    """What happened how often, in one line."""
    return ", ".join(f"{name} {totals[name]}" for name in sorted(totals))


def _seeds(options: argparse.Namespace, began: float) -> Iterator[int]:
    for number in itertools.count():
        if options.minutes is None and number == options.seeds:
            return
        if options.minutes is not None and time.monotonic() - began > 60 * options.minutes:
            return
        yield options.start + number


def _run_one(seed: int, *, show: bool) -> int:
    try:
        run = simulate(seed)
    except ViolationError as violation:
        print(f"seed {seed} violates", *violation.faults, sep="\n")
        if show:
            print(violation.trace.text())
        return 1
    if show:
        print(run.trace.text())
    print(f"seed {seed}: every guarantee held; {describe(run.totals)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m checkmate_core.testing.simulation",
        description="Runs the engine in simulated worlds, one a seed, and checks every guarantee.",
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--start", type=int, default=0, metavar="N", help="the first one (default: 0)")
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="as many as fit into so many minutes instead"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="only this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happened")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="append the failing seeds to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
