"""Seeds of the simulator: in each, every guarantee holds, whatever goes wrong."""

import logging
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from checkmate_core.session import TaskSession
from checkmate_core.status import StageStatus
from checkmate_core.testing import Scenario, ViolationError, simulate, simulate_scenario
from checkmate_core.testing.simulation import Faults, Habits
from checkmate_core.testing.simulation.__main__ import main

from .weakenings import WEAKENINGS, Weakening, upgraded

FOUND_DURING_DEVELOPMENT = [
    # Whoever had read that a task is over took the lock of its next life.
    *(72, 81, 87, 158, 795),
    # A cleaner listed what to remove once the tombstone stood, and removed the stages of the next life.
    *(1047, 1759, 3890),
    # A canceler died before it noted the end.
    *(18, 847, 903),
]
"""Seeds that once failed. What a seed does changes with the engine, so each fault has its own test too."""

CHUNK = 50
QUICK = 3
MANY = 9


def run_seeds(start: int, totals: Counter[str]) -> None:
    for seed in range(start, start + CHUNK):
        totals["seeds"] += 1
        totals.update(simulate(seed).totals)


def first_violation(weakening: Weakening) -> ViolationError | None:
    for seed in range(weakening.seeds):
        try:
            simulate_scenario(weakening.adapt(replace(Scenario.draw(seed), upgrade=None)))
        except ViolationError as violation:
            if any(fault.startswith(weakening.violates) for fault in violation.faults):
                return violation
    return None


@pytest.mark.parametrize("start", range(0, QUICK * CHUNK, CHUNK))
def test_every_guarantee_holds(start: int, totals: Counter[str]) -> None:
    run_seeds(start, totals)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(QUICK * CHUNK, (QUICK + MANY) * CHUNK, CHUNK))
def test_every_guarantee_holds_for_many_more_seeds(start: int, totals: Counter[str]) -> None:
    run_seeds(start, totals)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_every_guarantee_holds_while_workers_of_two_releases_have_a_task(
    at: int, totals: Counter[str]
) -> None:
    for seed in range(40):
        totals["seeds"] += 1
        totals.update(simulate_scenario(upgraded(Scenario.draw(seed), at)).totals)
    assert totals["migrations"] > 5, totals
    assert totals["refused releases"] > 20, totals


@pytest.mark.parametrize("seed", FOUND_DURING_DEVELOPMENT)
def test_seeds_that_once_failed_do_not(seed: int) -> None:
    simulate(seed)


def test_a_seed_repeats_its_run_exactly() -> None:
    for seed in range(20):
        run = simulate(seed)
        assert simulate(seed).trace.text() == run.trace.text()
        assert run.trace.lines(), "nothing happened"


def test_a_seed_repeats_its_run_in_any_process() -> None:
    code = "from checkmate_core.testing import simulate; print(simulate(11).trace.digest())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert found == {simulate(11).trace.digest()}


def test_seeds_differ() -> None:
    assert len({simulate(seed).trace.digest() for seed in range(10)}) == 10


def test_every_kind_of_fault_and_of_work_happens() -> None:
    totals: Counter[str] = Counter()
    traces = ""
    for seed in range(120):
        run = simulate(seed)
        totals.update(run.totals)
        traces += run.trace.text()
    for fault in fields(Faults):
        assert totals[fault.name] > 5, f"{fault.name} hardly ever happens: {totals}"
    for what in ("take-overs", "fenced", "commits", "executions", "lives", "items", "saves", "undone"):
        assert totals[what] > 20, f"{what}: {totals}"
    for what in ("suspended", "events taken", "rolled back", "artifacts", "migrations", "refused releases"):
        assert totals[what] > 5, f"{what}: {totals}"
    for habit in fields(Habits):
        if habit.name != "fail":
            assert f"wants to {habit.name} " in traces
            assert f"{habit.name} t0 is done" in traces
    for stored in (*set(StageStatus) - {"UNBOUND", "CREATED"}, "REMOVING", "tombstone", "released"):
        assert f"{stored}" in traces


def test_nothing_goes_wrong_in_a_calm_world() -> None:
    run = simulate_scenario(Scenario(seed=1))
    assert set(run.totals) == {"changes of the store", "commits", "executions", "lives"}
    assert run.totals["commits"] == run.totals["executions"] == 3


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if each.is_slow else ()) for name, each in WEAKENINGS.items()],
)
def test_a_weakened_protocol_fails_within_a_bounded_number_of_seeds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weakening = WEAKENINGS[name]
    weakening.apply(monkeypatch)
    violation = first_violation(weakening)
    assert violation is not None, f"{name} was not found in {weakening.seeds} seeds"


def test_a_violation_says_which_guarantee_which_seed_and_what_happened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    WEAKENINGS["no fence"].apply(monkeypatch)
    violation = first_violation(WEAKENINGS["no fence"])
    assert violation is not None
    text = str(violation)
    assert text.startswith(f"seed {violation.seed} violates\nG1 (complete_is_final): change ")
    assert violation.faults[0] in text
    assert "lock: held by owner1 epoch 1" in violation.trace.text()


def test_a_run_leaves_the_process_as_it_was() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    logging.disable(logging.DEBUG)
    before = threading.active_count()
    try:
        simulate(3)
        assert random.random() == expected
        assert logging.root.manager.disable == logging.DEBUG
    finally:
        logging.disable(logging.NOTSET)
    for thread in threading.enumerate():
        if thread.name.startswith(("worker", "finisher", "checkmate renews")):
            thread.join(10)
    assert threading.active_count() <= before


def test_threads_that_wait_for_each_other_are_found_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, store_stage = threading.Lock(), TaskSession.store_stage

    def weak(self: TaskSession, index: int, stage_name: str, state: Any, notes: Any) -> None:
        with lock:
            store_stage(self, index, stage_name, state, notes)

    monkeypatch.setattr(TaskSession, "store_stage", weak)
    monkeypatch.setattr("checkmate_core.testing.simulation.scheduler._WATCHDOG_S", 0.5)
    with pytest.raises(ViolationError, match="threads wait for each other:\nfinisher") as caught:
        simulate_scenario(Scenario(seed=1, tasks=2))
    assert "in store_stage" in str(caught.value)


def test_the_program_counts_what_it_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "5", "--start", "100"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("5 seeds in ")
    assert "failing seeds: none" in printed
    assert main(["--minutes", "0.01"]) == 0
    assert main(["--seed", "3", "--trace"]) == 0
    assert "wants to" in capsys.readouterr().out


def test_the_program_keeps_failing_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    WEAKENINGS["no fence"].apply(monkeypatch)
    kept = tmp_path / "failing"
    assert main(["--seeds", "8", "--keep", str(kept)]) == 1
    printed = capsys.readouterr().out
    lines = kept.read_text().splitlines()
    assert lines
    seed, _, fault = lines[0].partition("  ")
    assert f"failing seeds: {seed}" in printed
    assert fault in printed
    assert main(["--seed", seed]) == 1
    assert fault in capsys.readouterr().out


def test_the_program_runs_as_a_module() -> None:
    command = [sys.executable, "-W", "error", "-m", "checkmate_core.testing.simulation", "--seeds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("2 seeds")
    assert done.stderr == ""
