"""The checkout: the editable install, and the versions that development is pinned to."""

import importlib
import re
import subprocess
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import checkmate_core

from .conftest import DISTRIBUTIONS, ROOT, Distribution


@pytest.fixture(params=DISTRIBUTIONS, ids=lambda distribution: distribution.name, name="distribution")
def each_distribution(request: pytest.FixtureRequest) -> Distribution:
    distribution: Distribution = request.param
    return distribution


def test_import_is_the_checkouts_own(distribution: Distribution) -> None:
    module = importlib.import_module(distribution.package)
    # An uninstalled checkmate_core would be found too, from the repository's root: as an empty
    # namespace package, whose __file__ is None.
    assert module.__file__ == str(distribution.folder / "src" / distribution.package / "__init__.py")


def test_one_version_for_all(distribution: Distribution) -> None:
    project = tomllib.loads((distribution.folder / "pyproject.toml").read_text())["project"]
    assert project["version"] == version(distribution.name) == checkmate_core.__version__


def pins() -> dict[str, str]:
    lines = (ROOT / "dev.txt").read_text().splitlines()
    found = (re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", line) for line in lines)
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def test_pins_fit_what_is_declared(distribution: Distribution) -> None:
    project = tomllib.loads((distribution.folder / "pyproject.toml").read_text())["project"]
    declared = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    ours = {each.name for each in DISTRIBUTIONS}
    pinned = pins()
    for requirement in (Requirement(text) for texts in declared for text in texts):
        name = canonicalize_name(requirement.name)
        if name not in ours:
            assert requirement.specifier.contains(pinned[name]), f"python3 dev.py lock: {requirement}"


def test_pins_hold_versions_and_hashes_only() -> None:
    for line in (ROOT / "dev.txt").read_text().splitlines():
        assert re.fullmatch(r"[\w.-]+==\S+( ; [^/]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line)


def test_no_lock_file_of_a_tool_is_tracked() -> None:
    """They name the registry that they were made from."""
    if (ROOT / ".git").exists():
        tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split("\n")
        assert "pyproject.toml" in tracked
        # Those of the golden files are CheckMate's own.
        assert not [
            path
            for path in tracked
            if path.endswith((".lock", "lock.json", "lock.yaml", "pylock.toml"))
            and not path.startswith("tests/golden/")
        ]
