"""What `import checkmate` does not load. Each import is tried in an interpreter of its own."""

import json
import subprocess
import sys

import pytest

BACKENDS = (
    "checkmate_io_fsspec",
    "checkmate_io_s3",
    "checkmate_io_gcs",
    "checkmate_io_azure",
    "checkmate_io_sealed",
)
SDKS = (
    "fsspec",
    "s3fs",
    "gcsfs",
    "adlfs",
    "aiobotocore",
    "botocore",
    "boto3",
    "aiohttp",
    "cryptography",
    "zstandard",
    # What artifacts may be made of
    "numpy",
    "pyarrow",
)
CLI = ("click", "rich", "checkmate.cli")


def _loaded(code: str) -> set[str]:
    program = f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(names)


@pytest.mark.parametrize("absent", [*BACKENDS, *SDKS, *CLI, "pydantic", "tenacity", "checkmate_core"])
def test_import_checkmate_loads_next_to_nothing(imported: set[str], absent: str) -> None:
    assert absent not in imported


@pytest.fixture(scope="module")
def imported() -> set[str]:
    return _loaded("import checkmate")


def test_the_public_names_load_the_core_and_no_backend() -> None:
    loaded = _loaded("from checkmate import *; from checkmate import BaseStage, CheckMate")
    assert {"checkmate_core", "pydantic"} <= loaded
    assert loaded.isdisjoint({*BACKENDS, *SDKS, *CLI})


@pytest.mark.parametrize(
    ("url", "present", "absent"),
    [
        ("memory://", "checkmate_core.io.memory", {*BACKENDS, *SDKS}),
        ("file:///nowhere", "checkmate_io_fsspec.local", {"checkmate_io_s3", *SDKS}),
        ("s3://bucket", "checkmate_io_s3", {"gcsfs", "adlfs", "boto3"}),
    ],
)
def test_a_url_loads_its_own_backend_alone(url: str, present: str, absent: set[str]) -> None:
    loaded = _loaded(f"from checkmate import open_task_io; open_task_io({url!r})")
    assert present in loaded
    assert loaded.isdisjoint({*absent, *CLI})
