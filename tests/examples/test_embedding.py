"""The embedding job as a user runs it: on a part of the standard library, killed while it embeds."""

import shutil
import signal
import sysconfig
from pathlib import Path

import pytest
from tests.examples.shell import run

from checkmate import StageStatus, TaskStore

FILES, IN_A_SHARD = 48, 4
SHARDS = FILES // IN_A_SHARD


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small modules of the standard library that say what they do."""
    folder = tmp_path_factory.mktemp("corpus")
    found = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))
    small = [path for path in found if 2000 < path.stat().st_size < 30_000]
    for path in small[:FILES]:
        shutil.copy(path, folder)
    return folder


def facts(said: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)


@pytest.mark.slow
def test_a_killed_job_embeds_only_what_was_not_saved_and_finds_the_same(corpus: Path, tmp_path: Path) -> None:
    options = ["--source", corpus, "--files", IN_A_SHARD, "--save-every", "2"]
    undisturbed = facts(run("embedding", tmp_path / "other", *options))
    assert undisturbed["files"] == str(FILES)
    assert undisturbed["shards embedded by this process"] == str(SHARDS)
    # A shard's text is put once and loaded twice, its vectors once each; a save and its look for a cancel
    # request for every second shard, in two stages; 19 for the rest.
    assert undisturbed["storage requests of this process"] == "103"
    assert float(undisturbed["recall_at_10"]) > 0.7
    assert float(undisturbed["mrr"]) > 0.4

    run("embedding", tmp_path / "tasks", *options, "--kill-at", "6", status=-signal.SIGKILL)
    embed = TaskStore((tmp_path / "tasks").as_uri()).get("embedding").stages[2]
    assert embed.status is StageStatus.RUNNING
    # Shards 0 to 5 were saved; 6 was embedded, and is again.
    assert len(embed.state["vectors"]) == 6

    resumed = facts(run("embedding", tmp_path / "tasks", *options))

    assert resumed["shards embedded by this process"] == str(SHARDS - 6)
    results = ("files", "chunks", "model", "index_bytes", "index_sha256", "questions", "recall_at_10", "mrr")
    assert {name: resumed[name] for name in results} == {name: undisturbed[name] for name in results}
    stored = [
        {path.name for path in (tmp_path / url / "embedding" / "artifacts").iterdir()}
        for url in ("other", "tasks")
    ]
    assert stored[0] == stored[1]
