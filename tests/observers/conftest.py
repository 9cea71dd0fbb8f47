import pytest

from checkmate import TaskIO, open_task_io

from .tasks import Drive, Heard, in_a_loop, synchronously


@pytest.fixture
def io(checkmate_memory_url: str) -> TaskIO:
    return open_task_io(checkmate_memory_url)


@pytest.fixture
def heard(io: TaskIO) -> Heard:
    return Heard(io)


@pytest.fixture(params=[synchronously, in_a_loop])
def drive(request: pytest.FixtureRequest) -> Drive:
    """The two ways to execute a task."""
    found: Drive = request.param
    return found
