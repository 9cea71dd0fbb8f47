"""Observers load what they need when they are asked for, and say what is missing."""

import subprocess
import sys

import pytest

import checkmate.observers


def output(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        ("log_events", "checkmate_core", ("rich", "opentelemetry")),
        ("RichProgress", "rich.progress", ("opentelemetry",)),
        ("OpenTelemetryObserver", "opentelemetry.trace", ("rich", "opentelemetry.sdk")),
    ],
)
def test_an_observer_loads_no_library_but_its_own(name: str, present: str, absent: tuple[str, ...]) -> None:
    code = f"""
import sys
import checkmate.observers
before = set(sys.modules)
from checkmate.observers import {name}
print({present!r} in sys.modules, {present!r} in before, [each for each in {absent} if each in sys.modules])
"""
    assert output(code) == "True False []\n"


def test_a_missing_library_is_named_with_the_fix() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
try:
    from checkmate.observers import OpenTelemetryObserver
except ImportError as exc:
    print(exc)
"""
    [line] = output(code).splitlines()
    assert line.endswith("pip install 'checkmate[otel]'")


def test_every_observer_is_listed() -> None:
    assert set(checkmate.observers.__all__) <= set(dir(checkmate.observers))
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = checkmate.observers.Nothing
