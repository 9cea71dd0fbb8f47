"""Examples run as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def command(name: str, *arguments: object) -> list[str]:
    """The command line of an example."""
    script = EXAMPLES / name / f"{name}_cm.py"
    return [sys.executable, "-W", "error", str(script), *map(str, arguments)]


def run(name: str, *arguments: object, status: int = 0) -> str:
    """Run an example to its end, and return what it prints."""
    return _run(command(name, *arguments), status)


def checkmate(*arguments: object, status: int = 0) -> str:
    """Run the command line of checkmate."""
    return _run([sys.executable, "-W", "error", "-m", "checkmate", *map(str, arguments)], status)


def die(name: str, folder: Path) -> dict[str, Any]:
    """Run the script of deaths of an example."""
    script = ROOT / "tests" / "examples" / f"die_in_{name}.py"
    path = os.pathsep.join([str(ROOT), str(EXAMPLES / name), os.environ.get("PYTHONPATH", "")])
    said = _run(
        [sys.executable, "-W", "error", str(script), str(folder)], 0, {**os.environ, "PYTHONPATH": path}
    )
    document: dict[str, Any] = json.loads(said)
    return document


def _run(arguments: list[str], status: int, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=env, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status >= 0 else done.stdout + done.stderr
