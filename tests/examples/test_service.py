"""The example service's own tests, run as its author would run them."""

import subprocess
import sys
from pathlib import Path

SERVICE = Path(__file__).resolve().parents[2] / "examples/service"


def test_the_services_own_tests_pass() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            ".",
            ".",
        ],
        cwd=SERVICE,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout
