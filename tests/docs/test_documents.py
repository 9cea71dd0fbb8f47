"""What the documents print as code runs as printed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WIDE = {**os.environ, "COLUMNS": "250"}
BLOCK = re.compile(r"<!-- run(?:: (?P<name>[^>]*?))? -->\n```python\n(?P<code>.*?)```", re.DOTALL)


def blocks(document: str) -> list[tuple[str, str]]:
    text = (ROOT / document).read_text()
    return [(match["name"] or "", match["code"]) for match in BLOCK.finditer(text)]


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def readme_example(tmp_path: Path) -> Path:
    [(name, code)] = blocks("README.md")
    (tmp_path / name).write_text(code)
    return tmp_path


def test_the_readme_example_prints_what_the_readme_says(readme_example: Path) -> None:
    assert run(sys.executable, "report_cm.py", cwd=readme_example) == "5050\n"
    stored = readme_example / "jobs/report-2026-11/stages/001-sum.json"
    before = stored.read_bytes()
    assert run(sys.executable, "report_cm.py", cwd=readme_example) == "5050\n"
    assert stored.read_bytes() == before
    assert "report-2026-11" in run(sys.executable, "-m", "checkmate", "ls", "./jobs", cwd=readme_example)
    assert "sum" in run(
        sys.executable, "-m", "checkmate", "show", "./jobs", "report-2026-11", cwd=readme_example
    )


def test_the_readme_example_is_as_short_as_announced() -> None:
    [(_, code)] = blocks("README.md")
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 30


@pytest.mark.parametrize(
    "document",
    [
        "docs/artifacts.md",
        "docs/changing-code.md",
        "docs/waiting-and-steering.md",
        "docs/observing.md",
        "docs/long-stages.md",
        "docs/writing-stages.md",
        "docs/stores.md",
        "docs/ownership.md",
        "docs/sealed-stores.md",
        "docs/testing.md",
        "docs/writing-a-backend.md",
    ],
)
def test_the_guides_code_runs(document: str, readme_example: Path) -> None:
    found = blocks(document)
    assert found
    for _, code in found:
        run(sys.executable, "-W", "error", "-c", code, cwd=readme_example)


@pytest.mark.slow
def test_the_approval_goes_as_the_guide_says(tmp_path: Path) -> None:
    text = (ROOT / "docs/waiting-and-steering.md").read_text()
    [(name, code)] = re.findall(r"<!-- file: (.*?) -->\n```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / name).write_text(code)
    [shell] = re.findall(r"<!-- lines -->\n```sh\n(.*?)```", text, re.DOTALL)
    said = []
    for line in shell.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        command = [sys.executable, *(["-m", program] if program == "checkmate" else []), *arguments]
        expected = re.search(r"# exit (\d+)", line)
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=WIDE
        )
        assert done.returncode == (int(expected[1]) if expected else 0), (line, done.stderr)
        said.append(done.stdout)
    assert said[2].split("\n")[::2][:2] == ["reserve 100", "reserve 900"]
    assert said[3].count("waits for event 'decision' or") == 2
    assert "complete: refund-1, result 'paid 100'" in said[6]
    assert "release 900" in said[6]


@pytest.mark.parametrize(
    "document", sorted(str(p.relative_to(ROOT)) for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
