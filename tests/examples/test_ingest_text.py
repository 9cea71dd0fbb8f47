"""Decoding, titles and chunks: where a wrong answer would go unnoticed."""

import codecs
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_text import chunk_spans, decode, find_files, normalise, title_of

TEXTS = st.text(alphabet=st.sampled_from("ab \n\n\u00e9"), max_size=300)


@given(TEXTS, st.integers(1, 40), st.data())
def test_chunks_cover_the_text_and_overlap_as_configured(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    spans = list(chunk_spans(text, size, overlap))

    covered = set().union(*(range(start, end) for start, end in spans))
    assert covered == set(range(len(text)))
    assert all(0 < end - start <= size for start, end in spans)
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start < next_start <= end < next_end
        assert end - next_start <= overlap


@given(TEXTS, st.integers(1, 40), st.data())
def test_chunks_end_between_lines_and_overlap_as_far_as_they_may(
    text: str, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    lines = text.split("\n")
    longest = max(map(len, lines)) + 1
    if longest > size:
        text = "\n".join(line[: size - 1] for line in lines)
    borders = {0, len(text), *(at + 1 for at, char in enumerate(text) if char == "\n")}
    spans = list(chunk_spans(text, size, overlap))

    assert borders.issuperset(at for span in spans for at in span)
    for (start, end), (next_start, _) in pairwise(spans):
        if next_start == 0:
            continue  # all the way back
        before = max(border for border in borders if border < next_start)
        following = min(border for border in borders if border > end)
        assert before <= start or end - before > overlap or following - before > size


def test_an_overlap_may_reach_back_to_the_first_line() -> None:
    assert next(iter(chunk_spans("aaaa\n\naa\na", 9, 6))) == (0, 6)


def test_a_chunk_prefers_to_end_with_a_paragraph() -> None:
    text = "one\ntwo\nthree\n\nfour\nfive\nsix\n"
    assert [text[start:end] for start, end in chunk_spans(text, 22, 4)] == [
        "one\ntwo\nthree\n\n",
        "\nfour\nfive\nsix\n",
    ]


@pytest.mark.parametrize(("size", "overlap"), [(10, 10), (10, -1), (0, 0)])
def test_an_overlap_that_leaves_no_room_is_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        list(chunk_spans("text", size, overlap))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ("", "utf-8")),
        ("gr\u00fcn".encode(), ("gr\u00fcn", "utf-8")),
        (codecs.BOM_UTF8 + b"text", ("text", "utf-8-sig")),
        ("text".encode("utf-16"), ("text", "utf-16")),
        ("text".encode("utf-32"), ("text", "utf-32")),
        ("# -*- coding: koi8-r -*-\n\u0442\u0435\u043a\u0441\u0442".encode("koi8-r"), "koi8-r"),
        ("#!/bin/sh\n# vim: fileencoding=cp1252\n\u20ac".encode("cp1252"), "cp1252"),
        (b"# coding: no-such-codec\ntext", "utf-8"),
        (b"# coding: rot13\ntext", "utf-8"),
        (b"# coding: utf-7\n+2AA-", "utf-8"),
        (b"On coding: ascii\n\xe9", "iso8859-1"),
        ("gr\u00fcn".encode("latin-1"), ("gr\u00fcn", "iso8859-1")),
        (b"\x7fELF\x00\x01", None),
        ("a\x00b".encode("utf-16"), None),
        (codecs.BOM_UTF16_LE + b"\x00\xd8", None),
    ],
)
def test_decoding(data: bytes, expected: tuple[str, str] | str | None) -> None:
    found = decode(data)
    assert (found[1] if found and isinstance(expected, str) else found) == expected


def test_normalised_text_has_one_kind_of_line_end_and_composed_characters() -> None:
    assert normalise("a\r\nb\rc\ne\u0301") == "a\nb\nc\n\u00e9"


@pytest.mark.parametrize(
    ("path", "text", "title"),
    [
        (
            "a.py",
            '#!/usr/bin/env python\n# licence\n\nr"""What it is.\n\nMore.\n"""\nx = 1\n',
            "What it is. More.",
        ),
        (
            "a.py",
            "# -*- coding: utf-8 -*-\n# Counts things\n# and sheep\n\nimport os\n",
            "Counts things and sheep",
        ),
        ("a.md", "\n# Heading\nand text\n\nmore\n", "Heading and text"),
        ("a.txt", '"""quoted"""\n', '"""quoted"""'),
        ("a.py", "", ""),
    ],
)
def test_titles(path: str, text: str, title: str) -> None:
    assert title_of(text, path) == title


def test_a_long_preamble_without_a_docstring_takes_no_exponential_time() -> None:
    assert title_of("\n# comment \n\n" * 2000 + "x", "a.py") == "comment"


def test_files_are_listed_in_order_without_hidden_generated_and_work_folders(tmp_path: Path) -> None:
    for name in ["b.txt", "a/z.py", "a.md", ".git/c.txt", "__pycache__/d.py", "work/e.txt", "f.bin", "G.TXT"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert find_files(tmp_path, tmp_path / "work") == ["G.TXT", "a.md", "a/z.py", "b.txt"]
