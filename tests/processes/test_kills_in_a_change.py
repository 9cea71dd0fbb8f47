"""Processes that die by SIGKILL at each write of a migration and of a fork, and others that go on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_migration_and_a_fork_are_whole_whichever_write_their_process_dies_at(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.processes.die_in_a_change", str(tmp_path / "store")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    # Before and after each write of the mark, the manifest, four stages' beginnings and ends, and the lock.
    assert len(ended["migrations"]) >= 20
    assert set(ended["migrations"]) == {0}
    assert ended["statuses"] == ["COMPLETE"]
    assert len(ended["forks"]) >= 20
    assert set(ended["forks"]) == {0}
