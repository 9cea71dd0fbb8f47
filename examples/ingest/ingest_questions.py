"""Questions with known answers, and what a search is worth by them."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import BaseModel

CURATED: dict[str, tuple[str, ...]] = {
    "parse command line options": ("argparse.py",),
    "read and write comma separated files": ("csv.py",),
    "encode and decode JSON": ("json/__init__.py",),
    "temporary files and directories": ("tempfile.py",),
    "find the differences between two sequences of lines": ("difflib.py",),
    "parse an HTML page": ("html/parser.py",),
    "send mail through an SMTP server": ("smtplib.py",),
    "log messages to handlers with levels": ("logging/__init__.py",),
    "measure the execution time of small code snippets": ("timeit.py",),
    "generate random numbers from a distribution": ("random.py",),
    "exact decimal arithmetic with rounding and precision": ("_pydecimal.py",),
    "rational number arithmetic": ("fractions.py",),
    "priority queue on a heap": ("heapq.py",),
    "binary search and insertion in a sorted list": ("bisect.py",),
    "start a child process and read its output": ("subprocess.py",),
    "configuration file with sections": ("configparser.py",),
    "compute mean, median and variance": ("statistics.py",),
    "wrap a paragraph of text to a line width": ("textwrap.py",),
    "copy and remove whole directory trees": ("shutil.py",),
    "read and write zip archives": ("zipfile.py",),
    "read and write tar archives": ("tarfile.py",),
    "shell style wildcard patterns in file names": ("fnmatch.py", "glob.py"),
    "deep and shallow copy of objects": ("copy.py",),
    "interactive debugger with breakpoints": ("pdb.py",),
    "open a URL with authentication, redirects and proxies": ("urllib/request.py",),
    "print data structures in a readable form": ("pprint.py",),
    "cryptographically strong tokens for passwords": ("secrets.py",),
    "guess the MIME type of a file": ("mimetypes.py",),
    "IPv4 and IPv6 addresses and networks": ("ipaddress.py",),
    "abstract syntax tree nodes and visitors": ("ast.py",),
}

FEWEST = 3
"""Curated questions are asked if at least so many fit the corpus: one `types.py` is no standard library."""
KNOWN_ITEMS = 50
KNOWN_ITEM_WORDS = 8
DEPTH = 10


class Answer(BaseModel):
    """One question, the documents that answer it, and the best ones that the search found."""

    question: str
    right: list[str]
    found: list[str]

    def recall(self, k: int) -> float:
        """The part of the right documents that is among the first k found."""
        return len(set(self.right) & set(self.found[:k])) / len(self.right)

    def reciprocal_rank(self) -> float:
        """One divided by the rank of the first right document, 0 if none was found."""
        ranks = (rank for rank, path in enumerate(self.found, 1) if path in self.right)
        return 1 / next(ranks, float("inf"))


def questions_for(titles: dict[str, str]) -> tuple[str, dict[str, tuple[str, ...]]]:
    """The questions to ask of a corpus, given the title of each of its documents.

    Returns:
        ``curated`` or ``known-item``, and the right documents of each question.
    """
    curated = {
        question: present
        for question, right in CURATED.items()
        if (present := tuple(path for path in right if path in titles))
    }
    return ("curated", curated) if len(curated) >= FEWEST else ("known-item", known_items(titles))


def known_items(titles: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Ask for documents by the first words of their own titles, spread evenly over the corpus."""
    by_question: dict[str, list[str]] = {}
    for path in sorted(titles):
        by_question.setdefault(" ".join(titles[path].split()[:KNOWN_ITEM_WORDS]), []).append(path)
    unambiguous = [
        (question, paths[0]) for question, paths in by_question.items() if question and len(paths) == 1
    ]
    step = -(-len(unambiguous) // KNOWN_ITEMS) or 1
    return {question: (path,) for question, path in unambiguous[::step]}


def ask(
    questions: Iterable[tuple[str, tuple[str, ...]]], search: Callable[[str, int], list[str]]
) -> Iterator[Answer]:
    """Put every question to the search."""
    for question, right in questions:
        yield Answer(question=question, right=list(right), found=search(question, DEPTH))


def mean(values: Sequence[float]) -> float:
    """The mean, to four digits; 0 of nothing."""
    return round(sum(values) / len(values), 4) if values else 0.0
