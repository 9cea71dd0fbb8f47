"""The wheels as a user gets them: from a wheelhouse, in an empty environment, outside the repository."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from .conftest import Built
from .installed import PIPELINE, Environment, empty_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WHERE = """
import importlib, json
print(json.dumps({name: importlib.import_module(name).__file__ for name in PACKAGES}))
"""

STORE = """
import sys
from checkmate_core.io.registry import open_task_io
io = open_task_io(sys.argv[1])
version = io.write("some/object", b"body")
found = io.read("some/object")
assert (found.data, found.version) == (b"body", version), found
"""


@pytest.fixture(scope="module")
def with_s3(
    wheelhouse: Path, clean_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    environment = empty_environment(tmp_path_factory.mktemp("with-s3"), clean_environ)
    environment.output("pip", "install", "--find-links", wheelhouse, "checkmate[s3]")
    return environment


@pytest.fixture(scope="module")
def with_all(
    wheelhouse: Path, clean_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    environment = empty_environment(tmp_path_factory.mktemp("with-all"), clean_environ)
    environment.output("pip", "install", "--find-links", wheelhouse, "checkmate[all]")
    return environment


@pytest.fixture(scope="module")
def without_extras(
    wheelhouse: Path, clean_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    environment = empty_environment(tmp_path_factory.mktemp("without-extras"), clean_environ)
    environment.output("pip", "install", "--find-links", wheelhouse, "checkmate")
    return environment


def ours_in(environment: Environment) -> dict[str, str]:
    listed: list[dict[str, Any]] = json.loads(environment.output("pip", "list", "--format", "json"))
    return {entry["name"]: entry["version"] for entry in listed if entry["name"].startswith("checkmate")}


def test_it_is_our_checkmate_that_was_installed(with_all: Environment, built: dict[str, Built]) -> None:
    version = built["checkmate"].wheel.name.split("-")[1]
    assert ours_in(with_all) == dict.fromkeys(built, version)
    said = with_all.output("checkmate", "version")
    assert version in said
    assert all(f"{scheme}://" in said for scheme in ("s3", "gs", "az", "file", "memory"))


def test_an_extra_brings_its_own_backend_alone(with_s3: Environment) -> None:
    assert set(ours_in(with_s3)) == {"checkmate", "checkmate-core", "checkmate-io-fsspec", "checkmate-io-s3"}


def test_packages_live_in_site_packages(with_all: Environment, built: dict[str, Built]) -> None:
    packages = [each.distribution.package for each in built.values()]
    script = with_all.script("where.py", WHERE.replace("PACKAGES", repr(packages)))
    for package, file in json.loads(with_all.output("python", script)).items():
        assert Path(file).parts[-3:] == ("site-packages", package, "__init__.py")
        assert Path(file).is_relative_to(with_all.folder)


def test_dependencies_are_complete(
    with_s3: Environment, with_all: Environment, without_extras: Environment
) -> None:
    with_all.output("pip", "check")
    with_s3.output("pip", "check")
    without_extras.output("pip", "check")


def test_s3_opens(with_s3: Environment, s3_url: str) -> None:
    with_s3.output("python", with_s3.script("store.py", STORE), s3_url)


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_pipeline_is_killed_and_resumes(with_s3: Environment, s3_url: str, tmp_path: Path, kind: str) -> None:
    url = s3_url if kind == "s3" else tmp_path.as_uri()
    script = with_s3.script("pipeline.py", PIPELINE)
    killed = with_s3.run("python", script, url, "--die")
    assert (killed.returncode, killed.stdout.split()) == (-9, ["fetching", "measuring"]), killed.stderr
    assert with_s3.output("python", script, url).splitlines() == ["measuring", "result 7"]


def test_the_demo_comes_along(without_extras: Environment, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "one.md").write_text("# One\n\nA document about durable execution.\n")
    options = (f"--{name}={tmp_path / name}" for name in ("url", "source", "work"))
    report = json.loads(without_extras.output("checkmate", "demo", "--json", *options))
    assert [stage["status"] for stage in report["stages"]] == ["COMPLETE"] * 5


def test_a_sealed_pipeline_is_killed_and_resumes(with_all: Environment, tmp_path: Path) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    keyed = with_all._replace(environ={**with_all.environ, "OUR_KEY": key})
    url = f"{tmp_path.as_uri()}/jobs?compress=zstd&key=env:OUR_KEY"
    script = keyed.script("pipeline.py", PIPELINE)
    assert keyed.run("python", script, url, "--die").returncode == -9
    assert keyed.output("python", script, url).splitlines() == ["measuring", "result 7"]
    assert "current" in keyed.output("checkmate", "reseal", url)
    bodies = [path.read_bytes() for path in (tmp_path / "jobs").rglob("*.json")]
    assert [body[:4] for body in bodies] == [b"\x89CMS"] * 3


def test_a_key_without_its_extra_names_the_fix(without_extras: Environment, tmp_path: Path) -> None:
    script = without_extras.script("store.py", STORE)
    for options in ("compress=zstd", "key=env:HOME"):
        failed = without_extras.run("python", script, f"{tmp_path.as_uri()}?{options}")
        assert failed.returncode != 0
        assert "pip install 'checkmate[sealed]'" in failed.stderr
    refused = without_extras.run("checkmate", "reseal", tmp_path.as_uri())
    assert "pip install 'checkmate[sealed]'" in refused.stderr


def test_s3_without_its_extra_names_the_fix(without_extras: Environment, s3_url: str) -> None:
    failed = without_extras.run("python", without_extras.script("store.py", STORE), s3_url)
    assert failed.returncode != 0
    assert "pip install 'checkmate[s3]'" in failed.stderr
