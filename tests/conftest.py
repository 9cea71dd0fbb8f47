pytest_plugins = ["checkmate.testing", "pytester", "tests.processes.tallies", "tests.simulation.totals"]
