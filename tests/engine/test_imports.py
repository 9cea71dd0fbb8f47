"""What importing the front door costs."""

import subprocess
import sys

import pytest

HEAVY = ["pydantic", "tenacity", "click", "rich", "fsspec", "s3fs", "boto3", "aiobotocore", "checkmate_core", "checkmate_io_fsspec",
         "checkmate_io_s3", "checkmate.cli", "checkmate.demo", "checkmate.testing", "pytest", "zoneinfo"]  # fmt: skip


def loaded_by(code: str) -> set[str]:
    script = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_importing_checkmate_loads_next_to_nothing() -> None:
    found = loaded_by("import checkmate")
    assert not found & set(HEAVY)
    assert "checkmate" in found


@pytest.mark.parametrize(
    "code",
    [
        "from checkmate import CheckMate, BaseStage, RetryPolicy",
        "import checkmate_core, checkmate_core.testing",
    ],
)
def test_the_core_loads_no_backend_no_sdk_and_no_command_line(code: str) -> None:
    found = loaded_by(code)
    assert "pydantic" in found
    assert not found & (set(HEAVY) - {"pydantic", "tenacity", "checkmate_core", "zoneinfo"})


def test_a_store_of_files_loads_no_cloud_sdk() -> None:
    found = loaded_by("from checkmate import open_task_io; open_task_io('/tmp/nowhere')")
    assert "checkmate_io_fsspec" in found
    assert not found & {"s3fs", "boto3", "aiobotocore", "checkmate_io_s3", "click", "rich"}


def test_a_store_in_memory_loads_no_other_backend() -> None:
    found = loaded_by("from checkmate import open_task_io; open_task_io('memory://x')")
    assert not found & {"checkmate_io_fsspec", "checkmate_io_s3", "fsspec", "s3fs"}
