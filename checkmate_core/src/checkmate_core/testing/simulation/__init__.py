"""The real engine, many of it at once, in a world where everything goes wrong.

`simulate` runs what one seed stands for: workers on one store under one virtual clock, with requests
that are delayed, reordered, lost, refused and repeated, and processes that crash, stand still past
their lease and come back. Afterwards every guarantee is checked from what the store applied. As a
program:

    python -m checkmate_core.testing.simulation --seeds 1000
"""

from checkmate_core.testing.simulation.run import Run, ViolationError, simulate, simulate_scenario
from checkmate_core.testing.simulation.scenario import Faults, Habits, Kind, Scenario, Upgrade

__all__ = [
    "Faults",
    "Habits",
    "Kind",
    "Run",
    "Scenario",
    "Upgrade",
    "ViolationError",
    "simulate",
    "simulate_scenario",
]
