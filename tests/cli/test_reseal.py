"""`checkmate reseal`, and a sealed store on the command line, as scripts and people use them."""

import base64
import json

import pytest

from checkmate import CheckMate, open_task_io

from .conftest import Letter, Run, make

OLD, NEW = (base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2))


@pytest.fixture
def sealed(url: str) -> str:
    return f"{url}-sealed"


@pytest.fixture
def copied(run: Run, url: str, sealed: str) -> str:
    """The tasks of ``url``, encrypted by the old key on their way to another store."""
    result = run("copy", url, f"{sealed}?compress=zstd&key=env:OUR_KEY", OUR_KEY=OLD)
    assert result.exit_code == 0, result.output
    return sealed


def test_a_store_is_encrypted_by_copying_and_its_key_is_rotated(run: Run, copied: str) -> None:
    keyed = f"{copied}?key=env:OUR_KEY"
    assert "done" in run("ls", keyed, OUR_KEY=OLD).stdout
    assert run("show", keyed, "done", OUR_KEY=OLD).exit_code == 0

    result = run("reseal", keyed, OUR_KEY=f"{NEW} {OLD}")
    assert result.exit_code == 0, result.output
    *lines, total = result.stdout.splitlines()
    assert sorted(line.split()[:2] for line in lines) == [
        ["resealed", name] for name in ("done", "failed", "waiting")
    ]
    assert total.startswith(f"{copied}: ")
    assert "objects sealed anew under the key" in total
    assert json.loads(run("dump", keyed, "done", "--json", OUR_KEY=NEW).stdout)
    refused = run("show", keyed, "done", OUR_KEY=OLD)
    assert refused.exit_code == 5
    assert "which is none of those given" in refused.stderr
    for said in (result.output, refused.output):
        assert OLD not in said
        assert NEW not in said

    again = run("reseal", "--task", "done", CHECKMATE_URL=keyed, OUR_KEY=f"{NEW} {OLD}")
    assert again.stdout.split()[:2] == ["current", "done"]
    assert "0 of " in again.stdout


def test_a_held_task_is_left_and_said(run: Run, url: str, held: "CheckMate[Letter, str]") -> None:
    result = run("reseal", f"{url}?key=env:OUR_KEY&allow_plain=true", "--json", OUR_KEY=NEW)
    assert result.exit_code == 4
    report = json.loads(result.stdout)
    assert not report["is_complete"]
    assert {task["task_id"]: task["outcome"] for task in report["tasks"]} == {
        "done": "resealed",
        "failed": "resealed",
        "waiting": "failed",
    }
    said = run("reseal", f"{url}?key=env:OUR_KEY&allow_plain=true", OUR_KEY=NEW).stderr
    assert "waiting was not sealed anew" in said
    assert "run this again" in said
    held.unbind()
    assert run("reseal", f"{url}?key=env:OUR_KEY&allow_plain=true", OUR_KEY=NEW).exit_code == 0


@pytest.mark.parametrize(
    ("query", "code", "word"),
    [
        ("", 5, "?key=env:NAME"),
        ("?key=env:NOT_SET", 5, "NOT_SET"),
        (f"?key={OLD}", 5, "carries the secret"),
        ("?key=env:OUR_KEY --task nobody", 3, "no task nobody"),
    ],
)
def test_exit_codes_tell_scripts_what_happened(run: Run, url: str, query: str, code: int, word: str) -> None:
    first, *more = f"{url}{query}".split()
    result = run("reseal", first, *more, OUR_KEY=NEW)
    assert result.exit_code == code, result.output
    assert word in result.stderr
    assert OLD not in result.output


def test_a_worker_goes_on_in_the_sealed_store(run: Run, copied: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", OLD)
    assert make(f"{copied}?key=env:OUR_KEY", "failed").run()
    found = open_task_io(copied)
    assert all(found.read(info.name).data.startswith(b"\x89CMS") for info in found.list())
