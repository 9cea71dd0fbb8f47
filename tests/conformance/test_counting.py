from concurrent.futures import ThreadPoolExecutor

import pytest

from checkmate_core.errors import PersistenceDataNotFoundException, VersionConflictException
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.io.protocol import TaskIO
from checkmate_core.testing import CountingTaskIO, RequestCounts
from checkmate_core.types import ABSENT


@pytest.fixture
def counting() -> CountingTaskIO:
    return CountingTaskIO(MemoryTaskIO("memory://counting"))


def test_every_kind_of_request_is_counted(counting: CountingTaskIO) -> None:
    assert isinstance(counting, TaskIO)
    assert counting.counts == RequestCounts()
    version = counting.write("a", b"1")
    counting.write("a", b"2", expect=version)
    counting.read("a")
    counting.read_many(["a", "b", "c"])
    counting.exists("a")
    list(counting.list())
    counting.remove("a")
    counting.build_url("a")

    assert counting.counts == RequestCounts(reads=4, writes=2, removes=1, lists=1, exists=1)
    assert counting.counts.total == 9


def test_refused_and_failed_requests_count_too(counting: CountingTaskIO) -> None:
    counting.write("a", b"1")
    with pytest.raises(VersionConflictException):
        counting.write("a", b"2", expect=ABSENT)
    with pytest.raises(PersistenceDataNotFoundException):
        counting.read("missing")
    assert counting.counts == RequestCounts(reads=1, writes=2)


def test_counts_are_subtracted_to_measure_a_part(counting: CountingTaskIO) -> None:
    counting.write("a", b"1")
    before = counting.counts
    counting.read("a")
    assert counting.counts - before == RequestCounts(reads=1)


@pytest.mark.parametrize(("objects", "pages"), [(0, 1), (999, 1), (1000, 1), (1001, 2), (2500, 3)])
def test_a_listing_counts_its_pages(counting: CountingTaskIO, objects: int, pages: int) -> None:
    for number in range(objects):
        counting.write(f"{number:04}", b"")
    assert len(list(counting.list())) == objects
    assert counting.counts.lists == pages


def test_no_request_of_a_thread_is_lost(counting: CountingTaskIO) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: counting.exists(f"{number}"), range(2000)))
    assert counting.counts == RequestCounts(exists=2000)
