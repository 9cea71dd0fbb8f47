pytest_plugins = [
    "checkmate.testing",
    "pytester",
    "tests.backends.seaweed",
    "tests.processes.tallies",
    "tests.simulation.totals",
]
