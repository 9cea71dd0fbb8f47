"""The example backend as a third party's users get it: its wheel, found by its entry point."""

import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from checkmate_core.testing.conformance import GROUPS, cases

from .conftest import ROOT, Distribution
from .installed import PIPELINE, Environment, empty_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLE = Distribution(
    "checkmate-io-sqlite-example", "checkmate_io_sqlite_example", ROOT / "examples" / "sqlite_backend"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return EXAMPLE.build("wheel", tmp_path_factory.mktemp("example-wheel"))


@pytest.fixture(scope="module")
def environment(
    wheel: Path,
    wheelhouse: Path,
    clean_environ: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Environment:
    environment = empty_environment(tmp_path_factory.mktemp("with-example"), clean_environ)
    links = ("--find-links", wheelhouse, "--find-links", wheel.parent)
    environment.output("pip", "install", *links, f"{EXAMPLE.name}[test]")
    environment.output("pip", "check")
    return environment


def test_the_wheel_passes_the_kit(environment: Environment, tmp_path: Path) -> None:
    with tarfile.open(EXAMPLE.build("sdist", tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    where = environment.script("where.py", f"import {EXAMPLE.package} as package\nprint(package.__file__)\n")
    assert Path(environment.output("python", where).strip()).is_relative_to(environment.folder)

    said = environment.output("python", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", source)

    assert "races prove the store: SQLite's file locks decide" in said
    passed = re.search(r"^(\d+) passed in ", said, re.MULTILINE)
    assert passed, f"something did not pass:\n{said}"
    assert int(passed[1]) > sum(len(list(cases(group))) for group in GROUPS)


def test_a_task_is_killed_and_resumes_there(environment: Environment, tmp_path: Path) -> None:
    url = f"sqlite-example://{tmp_path}/jobs.db?timeout=60"
    script = environment.script("pipeline.py", PIPELINE)
    assert "sqlite-example://" in environment.output("checkmate", "version")
    killed = environment.run("python", script, url, "--die")
    assert (killed.returncode, killed.stdout.split()) == (-9, ["fetching", "measuring"]), killed.stderr
    assert environment.output("python", script, url).splitlines() == ["measuring", "result 7"]
    assert "COMPLETE" in environment.output("checkmate", "ls", url)
    assert (tmp_path / "jobs.db").is_file()
