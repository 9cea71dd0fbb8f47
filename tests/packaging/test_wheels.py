"""What is in the wheels and sdists."""

import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .conftest import DISTRIBUTIONS, ROOT, Built

# The first one builds everything; and what is in them does not depend on the Python.
pytestmark = pytest.mark.slow

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OURS = {distribution.name for distribution in DISTRIBUTIONS}


def names_in(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def metadata_of(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(wheel.read(name).decode())


def test_wheel_holds_the_package_and_nothing_else(each: Built) -> None:
    package, folder = each.distribution.package, each.distribution.folder
    sources = {
        f"{package}/{path.relative_to(folder / 'src' / package).as_posix()}"
        for path in (folder / "src" / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if package == "checkmate":
        example = ROOT / "examples" / "ingest"
        sources |= {f"checkmate/examples/ingest/{path.name}" for path in example.iterdir() if path.is_file()}
        assert "checkmate/examples/ingest/ingest_cm.py" in sources
    with zipfile.ZipFile(each.wheel) as wheel:
        assert names_in(wheel) == sources
    assert f"{package}/py.typed" in sources


def test_sdist_holds_what_the_wheel_is_built_from_and_no_more(each: Built) -> None:
    with tarfile.open(each.sdist) as archive:
        paths = {name.split("/", 1)[1] for name in archive.getnames()}
    top = {"src", "examples", "CHANGELOG.md"} if each.distribution.name == "checkmate" else {"src"}
    assert {path.split("/")[0] for path in paths} == {
        *top,
        *(".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"),
    }
    assert not [path for path in paths if "test_" in path or path.endswith((".pyc", "uv.lock"))]


def test_wheel_of_the_sdist_is_the_wheel_of_the_tree(each: Built) -> None:
    assert each.wheel_of_sdist.name == each.wheel.name
    with zipfile.ZipFile(each.wheel) as tree, zipfile.ZipFile(each.wheel_of_sdist) as sdist:
        assert {name: sdist.read(name) for name in sdist.namelist()} == {
            name: tree.read(name) for name in tree.namelist()
        }


def test_metadata(each: Built) -> None:
    metadata = metadata_of(each)
    assert canonicalize_name(metadata["Name"]) == each.distribution.name
    assert metadata["Version"] == VERSION
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Summary"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_siblings_are_pinned_and_others_have_no_upper_bound(each: Built) -> None:
    for requirement in map(Requirement, metadata_of(each).get_all("Requires-Dist", [])):
        operators = {specifier.operator for specifier in requirement.specifier}
        if requirement.name in OURS:
            assert str(requirement.specifier) == f"=={VERSION}"
        else:
            assert operators == {">="}, f"write the reason for {requirement} beside it and allow it here"


def test_one_licence_for_all() -> None:
    texts = {(distribution.folder / "LICENSE").read_text() for distribution in DISTRIBUTIONS}
    assert len(texts) == 1
    assert "Apache License" in texts.pop()


def test_our_version_outranks_the_unrelated_checkmate() -> None:
    assert tuple(map(int, VERSION.split("."))) >= (0, 9, 0), "final, and above the 0.2.0 of the public index"
