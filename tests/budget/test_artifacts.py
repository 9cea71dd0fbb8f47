"""What artifacts cost in requests, on every backend: counted at the server where there is one."""

import random

import pytest

from checkmate_core.artifacts import ArtifactPlace, TaskArtifacts
from checkmate_core.testing import RequestCounts

from .meters import Meter

PART = 64
CONTENT = random.Random(7).randbytes(10 * PART + 5)


@pytest.fixture
def artifacts(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> TaskArtifacts:
    monkeypatch.setattr(TaskArtifacts, "part_size", PART)
    return TaskArtifacts(ArtifactPlace(io=meter.io, task_id="t", base_epoch=1))


def spent(counts: RequestCounts) -> tuple[int, int]:
    """Reads, looks whether something is there included, and writes; nothing else is allowed."""
    assert (counts.lists, counts.removes) == (0, 0)
    return counts.reads + counts.exists, counts.writes


def test_an_inline_artifact_costs_nothing(meter: Meter, artifacts: TaskArtifacts) -> None:
    with meter.measure() as measured:
        assert artifacts.read(artifacts.put("small", CONTENT[:PART])) == CONTENT[:PART]
    assert spent(measured.counts) == (0, 0)


def test_an_artifact_of_one_object(meter: Meter, artifacts: TaskArtifacts) -> None:
    for _ in range(2):
        with meter.measure() as measured:
            ref = artifacts.put("one", CONTENT[:PART], inline_below=0)
        assert spent(measured.counts) == (0, 1)
    with meter.measure() as measured:
        artifacts.read(ref)
    assert spent(measured.counts) == (1, 0)


def test_an_artifact_in_parts(meter: Meter, artifacts: TaskArtifacts) -> None:
    with meter.measure() as measured:
        ref = artifacts.put("large", CONTENT)
    assert spent(measured.counts) == (7, 11 + 1)
    with meter.measure() as measured:
        artifacts.put("again", CONTENT)
    assert spent(measured.counts) == (11 + 1, 1)
    with meter.measure() as measured:
        artifacts.read(ref)
    assert spent(measured.counts) == (11 + 1, 0)
    with meter.measure() as measured, artifacts.open(ref) as file:
        file.seek(-1, 2)
        assert file.read() == CONTENT[-1:]
    assert spent(measured.counts) == (2, 0)
