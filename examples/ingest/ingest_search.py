"""Full-text search with SQLite's FTS5: one row per chunk, with its document's path and title."""

import hashlib
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

Row = tuple[str, str, str]
"""Path, title and body of a chunk."""

WEIGHTS = (4.0, 8.0, 1.0)
"""What a word counts in path, title and body. Recall is flat around these."""
_HITS = 300
_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be by can do does for from has have how i if in into is it its my not of on or that"
        " the their them then there this to use using was what when where which who why will with you"
    )
)


def build_index(path: Path, rows: Iterable[Row]) -> str:
    """Write an index to a new file and return the digest of what it holds."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = OFF")  # nobody reads the file before it is whole
        db.execute("PRAGMA synchronous = OFF")
        db.execute("CREATE VIRTUAL TABLE chunks USING fts5(path, title, body, tokenize = 'porter unicode61')")
        with db:
            db.executemany("INSERT INTO chunks VALUES (?, ?, ?)", rows)
        return _digest(db)


def open_index(path: Path) -> sqlite3.Connection:
    """The index, to be read only."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def index_digest(path: Path) -> str:
    """Digest of the rows: the file differs from run to run and between SQLite releases."""
    with closing(open_index(path)) as db:
        return _digest(db)


def _digest(db: sqlite3.Connection) -> str:
    digest = hashlib.sha256()
    for row in db.execute("SELECT path, title, body FROM chunks ORDER BY rowid"):
        for value in row:
            digest.update(value.encode("utf-8") + b"\0")
    return digest.hexdigest()


def documents_in(db: sqlite3.Connection) -> dict[str, str]:
    """The title of every document that has text."""
    return dict(db.execute("SELECT path, title FROM chunks ORDER BY rowid"))


def search(db: sqlite3.Connection, question: str, limit: int) -> list[str]:
    """Paths of the best documents, best first; a document counts by its best chunk."""
    words = dict.fromkeys(word for word in _WORD.findall(question.lower()) if word not in _STOP_WORDS)
    if not words:
        return []
    found = db.execute(
        "SELECT path, bm25(chunks, ?, ?, ?) AS rank FROM chunks WHERE chunks MATCH ? ORDER BY rank, rowid LIMIT ?",
        (*WEIGHTS, " OR ".join(f'"{word}"' for word in words), _HITS),
    )
    return list(dict.fromkeys(path for path, _ in found))[:limit]
