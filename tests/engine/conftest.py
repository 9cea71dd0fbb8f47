import pytest

from checkmate import TaskIO, open_task_io

from .pipelines import FakeClock, Logged


@pytest.fixture(params=["memory", "file"])
def io(request: pytest.FixtureRequest) -> TaskIO:
    """An empty store, once in memory and once on files."""
    return open_task_io(request.getfixturevalue(f"checkmate_{request.param}_url"))


@pytest.fixture
def memory(checkmate_memory_url: str) -> TaskIO:
    return open_task_io(checkmate_memory_url)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log() -> Logged:
    return Logged()
