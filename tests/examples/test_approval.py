"""The approval as a user runs it, and by SIGKILL at each of its writes."""

import json
from pathlib import Path

import pytest
from tests.examples.shell import EXAMPLES, checkmate, die, run

APP = EXAMPLES / "approval" / "approval_cm.py"


@pytest.fixture
def claim(tmp_path: Path) -> list[object]:
    return [tmp_path / "tasks", "one", "--budget", tmp_path / "budget"]


def budget(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "budget").iterdir()}


def test_a_claim_waits_without_a_process_and_is_paid_once_somebody_says_yes(
    claim: list[object], tmp_path: Path
) -> None:
    asked = run("approval", *claim, status=7)
    assert "is suspended in stage 'approve' until event 'decision' or" in asked
    assert "storage requests of this process: 9" in asked
    assert budget(tmp_path) == {"one.reserved": "120"}
    assert '"SUSPENDED"' in checkmate("ls", claim[0], "--json")
    run("approval", *claim, status=7)

    checkmate(
        "signal", *claim[:2], "decision", "--data", json.dumps({"approved": True, "by": "Ada", "amount": 80})
    )
    paid = run("approval", *claim)

    assert "paid 80 of 120, approved by Ada" in paid
    assert "storage requests of this process: 16" in paid
    assert budget(tmp_path) == {"one.paid": "80"}


def test_an_answer_that_does_not_fit_changes_nothing_and_is_sent_again(
    claim: list[object], tmp_path: Path
) -> None:
    run("approval", *claim, status=7)
    checkmate("signal", *claim[:2], "decision", "--data", '{"approved": "perhaps"}')
    checkmate("resume", *claim[:2], "--app", APP, status=6)
    assert '"SUSPENDED"' in checkmate("ls", claim[0], "--json")
    yes = ["decision", "--data", '{"approved": true, "by": "Ada"}']
    checkmate("signal", *claim[:2], *yes, status=4)

    checkmate("signal", *claim[:2], *yes, "--replace")

    assert "paid 120 of 120" in checkmate("resume", *claim[:2], "--app", APP)
    assert budget(tmp_path) == {"one.paid": "120"}


def test_a_no_releases_the_budget(claim: list[object], tmp_path: Path) -> None:
    run("approval", *claim, status=7)
    checkmate(
        "signal", *claim[:2], "decision", "--data", '{"approved": false, "by": "Ada", "reason": "too much"}'
    )

    said = run("approval", *claim, status=1)

    assert "Ada said no: too much" in said
    assert "storage requests of this process: 16" in said
    assert budget(tmp_path) == {}


def test_no_answer_by_the_deadline_releases_the_budget(claim: list[object], tmp_path: Path) -> None:
    assert "nobody answered by" in run("approval", *claim, "--patience", "0", status=1)
    assert budget(tmp_path) == {}


@pytest.mark.slow
def test_a_claim_is_paid_once_or_released_at_whichever_write_its_process_dies(tmp_path: Path) -> None:
    found = die("approval", tmp_path)

    ended: dict[str, int] = found["ended"]
    expected = {"asked": 7, "yes": 0, "no": 1}
    assert ended == {claim: expected[claim.split("-")[0]] for claim in ended}
    assert len(ended) > 40
    standings = {"asked": "reserved", "yes": "paid"}
    left = [f"{claim}.{standings[kind]}" for claim in ended if (kind := claim.split("-")[0]) in standings]
    assert found["budget"] == sorted(left)
