"""From Python files to documents: what a file says of itself, and the rest of it in windows. Pure functions."""

import ast
import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

_SKIPPED = frozenset({"dist-packages", "site-packages"})

SHORTEST_QUESTION = 5
"""Words of a summary that can be asked for: fewer say too little."""


class Source(BaseModel):
    """A file of the corpus, and what was in it when it was listed."""

    path: str
    sha256: str


class Listing(BaseModel):
    """The files of the corpus, in a stable order."""

    sources: list[Source] = []


class Document(BaseModel):
    """A file as it is embedded.

    Attributes:
        path: Where it was found.
        summary: First line of its docstring, which is left out of the chunks, so that a search for it
            finds the document by what it does. Empty if it has none.
        chunks: The text in windows.
    """

    path: str
    summary: str = ""
    chunks: list[str] = []


class Shard(BaseModel):
    """Documents that are embedded, and saved, together."""

    documents: list[Document] = []

    @property
    def texts(self) -> list[str]:
        return [chunk for document in self.documents for chunk in document.chunks]


class ChangedFileError(Exception):
    """A file is not what it was when the corpus was listed."""


def list_sources(folders: Sequence[str]) -> Listing:
    """Every Python file below the folders, once for each content; installed packages are named by themselves."""
    found: dict[str, Source] = {}
    for folder in folders:
        for here, subfolders, files in os.walk(folder):
            subfolders[:] = sorted(name for name in subfolders if name not in _SKIPPED and name[0] != ".")
            for name in sorted(files):
                path = Path(here, name)
                if path.suffix == ".py" and path.is_file() and (data := path.read_bytes()).strip():
                    digest = hashlib.sha256(data).hexdigest()
                    found.setdefault(digest, Source(path=str(path), sha256=digest))
    return Listing(sources=list(found.values()))


def read_shard(sources: Sequence[Source], size: int) -> Shard:
    """Read some files and cut them into windows of at most ``size`` characters, between lines where possible."""
    return Shard(documents=[_read(source, size) for source in sources])


def _read(source: Source, size: int) -> Document:
    data = Path(source.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise ChangedFileError(f"{source.path} has changed since it was listed; start a new task")
    text = data.decode("utf-8", "replace").replace("\0", "")
    summary, rest = _split_docstring(text)
    return Document(path=source.path, summary=summary, chunks=list(_windows(rest, size)))


def _split_docstring(text: str) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes are the corpus's affair
            first = next(iter(ast.parse(text).body), None)
    except (SyntaxError, ValueError, RecursionError):
        return "", text
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        return "", text
    if not isinstance(first.value.value, str):
        return "", text
    lines = text.splitlines(keepends=True)
    rest = "".join(lines[: first.lineno - 1] + lines[first.end_lineno :])
    return " ".join(first.value.value.strip().split("\n\n")[0].split())[:200], rest


def _windows(text: str, size: int) -> Iterator[str]:
    window = ""
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), size):
            piece = line[start : start + size]
            if len(window) + len(piece) > size:
                if window.strip():
                    yield window
                window = ""
            window += piece
    if window.strip():
        yield window


def questions(summaries: Sequence[str], most: int) -> dict[int, str]:
    """Summaries that only one document has, by its number; at most so many, spread evenly."""
    owners: dict[str, list[int]] = {}
    for number, summary in enumerate(summaries):
        if len(summary.split()) >= SHORTEST_QUESTION:
            owners.setdefault(summary, []).append(number)
    unique = [(numbers[0], summary) for summary, numbers in owners.items() if len(numbers) == 1]
    step = -(-len(unique) // most) or 1
    return dict(unique[::step])
