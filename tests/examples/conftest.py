"""The example's modules are found as `checkmate demo` finds them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from checkmate.demo import load_example

load_example()


def write_documents(folder: Path) -> Path:
    """A small folder with everything that reading must cope with."""
    (folder / "prose").mkdir(parents=True)
    for number, word in enumerate(["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]):
        lines = "\n".join(f"Line {line} tells of {word} and of nothing else." for line in range(120))
        (folder / "prose" / f"{word}.txt").write_text(f"All about {word}, part {number}\n\n{lines}\n")
    (folder / "module.py").write_text('"""Counts the islands of an archipelago."""\n\nISLANDS = 7\n')
    (folder / "windows.md").write_bytes(
        "Ein Text mit Umlaut: \u00e4\r\n\r\nund Zeilenenden\r\n".encode("latin-1")
    )
    (folder / "picture.txt").write_bytes(b"\x00\x01\x02 not text")
    (folder / "empty.rst").write_bytes(b"")
    (folder / "ignored.bin").write_bytes(b"no suffix of a text")
    return folder


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "documents")


@pytest.fixture(scope="session")
def make_documents() -> Callable[[Path], Path]:
    return write_documents
