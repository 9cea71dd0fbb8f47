"""Many threads that start at one moment."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# Far beyond what any case takes: it only turns a deadlock into a failure.
HANG = 240.0


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one action: a value, or an error."""

    value: T | None
    error: BaseException | None


class Crowd:
    """Runs actions in threads of its own."""

    def __init__(self, pool: ThreadPoolExecutor, size: int) -> None:
        self._pool = pool
        self._size = size
        self.hangs = False

    def race(self, actions: Sequence[Callable[[], T]]) -> list[Outcome[T]]:
        """Start all actions at one moment, and tell what became of each."""
        if len(actions) > self._size:
            raise ValueError(f"{len(actions)} contenders do not fit a crowd of {self._size}")
        start = threading.Barrier(len(actions))

        def run(action: Callable[[], T]) -> T:
            start.wait(HANG)
            return action()

        return self._outcomes([self._pool.submit(run, action) for action in actions])

    def all_of(self, actions: Sequence[Callable[[], T]]) -> list[T]:
        """Run all actions and return their results; the first error fails the case."""
        futures = [self._pool.submit(action) for action in actions]
        for outcome in self._outcomes(futures):
            if outcome.error is not None:
                raise outcome.error
        return [future.result() for future in futures]

    def _outcomes(self, futures: Sequence[Future[T]]) -> list[Outcome[T]]:
        unfinished = wait(futures, HANG).not_done
        if unfinished:
            self.hangs = True
            raise AssertionError(f"{len(unfinished)} of {len(futures)} threads hang")
        outcomes = []
        for future in futures:
            error = future.exception()
            outcomes.append(Outcome(None, error) if error else Outcome(future.result(), None))
        return outcomes


@contextmanager
def crowd(size: int) -> Iterator[Crowd]:
    """A crowd of ``size`` threads; they are gone after the block."""
    pool = ThreadPoolExecutor(size)
    members = Crowd(pool, size)
    try:
        yield members
    finally:
        # Threads that hang are reported; waiting for them would hide the report.
        pool.shutdown(wait=not members.hangs, cancel_futures=True)
