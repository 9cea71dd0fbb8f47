"""From files to text to chunks. Pure functions: the same files give the same answers."""

import codecs
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

_PROSE = {".htm", ".html", ".md", ".rst", ".tex", ".txt"}
_SOURCE = {
    ".c",
    ".cfg",
    ".cpp",
    ".css",
    ".go",
    ".h",
    ".ini",
    ".java",
    ".js",
    ".py",
    ".pyi",
    ".rs",
    ".sh",
    ".toml",
}
SUFFIXES = frozenset(_PROSE | _SOURCE)
SKIPPED_FOLDERS = frozenset({"__pycache__", "dist-packages", "node_modules", "site-packages"})

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
_DOCSTRING = re.compile(r"""\A(?:#[^\n]*\n|\s)*[rRuU]{0,2}("{3}|'{3}|"|')(.*?)\1""", re.DOTALL)
_COMMENT_MARKS = re.compile(r"^[ \t#*/=\-.~|]+", re.MULTILINE)
_PREAMBLE = re.compile(r"\A(?:#![^\n]*\n|#[^\n]*coding[:=][^\n]*\n|\s)*")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
TITLE_LENGTH = 200


def find_files(source: Path, excluded: Path) -> list[str]:
    """Paths of text and source files below ``source``, relative, with slashes, sorted.

    Hidden and generated folders are left out, and so is ``excluded``, the work folder.
    """
    found: list[str] = []
    for folder, subfolders, files in os.walk(source, onerror=_fail):
        here = Path(folder)
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".") and name not in SKIPPED_FOLDERS and here / name != excluded
        ]
        for name in files:
            path = here / name
            if path.suffix.lower() in SUFFIXES and path.is_file():
                found.append(path.relative_to(source).as_posix())
    return sorted(found)


def _fail(error: OSError) -> None:
    raise error


def printable(path: str) -> str:
    """The path without the bytes that are no UTF-8, which neither JSON nor SQLite would take."""
    return path.encode("utf-8", "replace").decode("utf-8")


def decode(data: bytes) -> tuple[str, str] | None:
    """The text and the encoding it was found to have, or None for what is not text.

    The order is: byte order mark, the encoding that the file declares, UTF-8, and Latin-1, which
    fits anything.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded(data, encoding)
    if b"\0" in data:
        return None
    declared = _DECLARED.match(data)
    for encoding in [declared[1].decode("ascii"), "utf-8"] if declared else ["utf-8"]:
        result = _decoded(data, encoding)
        if result:
            return result
    return data.decode("latin-1"), codecs.lookup("latin-1").name


def _decoded(data: bytes, encoding: str) -> tuple[str, str] | None:
    try:
        text = data.decode(encoding)
        text.encode("utf-8")  # some codecs yield lone surrogates, which nothing else will take
    except (LookupError, ValueError):
        return None
    return (text, codecs.lookup(encoding).name) if "\0" not in text else None


def normalise(text: str) -> str:
    """The text with line feeds as its only line ends and in Unicode NFC."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def title_of(text: str, path: str) -> str:
    """What the document says of itself: the start of its docstring, or its first paragraph, on one line."""
    docstring = _DOCSTRING.match(text) if path.endswith((".py", ".pyi")) else None
    opening = docstring[2] if docstring else _PREAMBLE.sub("", text[:5000])
    opening = _COMMENT_MARKS.sub("", opening)
    if not docstring:
        opening = opening.lstrip().split("\n\n", 1)[0]
    return " ".join(opening.split())[:TITLE_LENGTH]


def chunk_spans(text: str, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Cut a text into overlapping windows that begin and end between lines.

    A window ends after a blank line if there is one in its last third. The next one starts as many
    whole lines back as fit into ``overlap``. Only a line longer than ``size`` is cut.

    Args:
        text: Any text; an empty one has no windows.
        size: Most characters in a window.
        overlap: Most characters that two neighbours share.

    Yields:
        Start and end of each window.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"the overlap must be at least 0 and less than the size {size}, not {overlap}")
    cuts = _cuts(text, size)
    first, seen, last = 0, 0, len(cuts) - 1
    while seen < last:
        end = seen + 1
        while end < last and cuts[end + 1] - cuts[first] <= size:
            end += 1
        if end < last:
            end = _paragraph_end(text, cuts, first, seen, end)
        yield cuts[first], cuts[end]
        first = seen = end
        while (
            end < last
            and first > 0
            and cuts[end] - cuts[first - 1] <= overlap
            and cuts[end + 1] - cuts[first - 1] <= size  # or the next window could not get any further
        ):
            first -= 1


def _cuts(text: str, size: int) -> list[int]:
    """Where a window may begin or end: between lines, and inside a line that is longer than a window."""
    cuts = [0]
    for line in _LINE.finditer(text):
        cuts.extend(range(cuts[-1] + size, line.end(), size))
        cuts.append(line.end())
    return cuts


def _paragraph_end(text: str, cuts: list[int], first: int, seen: int, end: int) -> int:
    """The last blank line's end that leaves a window of two thirds with something new in it, or ``end``."""
    earliest = cuts[first] + (cuts[end] - cuts[first]) * 2 // 3
    for candidate in range(end, seen, -1):
        if cuts[candidate] < earliest:
            break
        if text[cuts[candidate - 1] : cuts[candidate]].isspace():
            return candidate
    return end
