"""Many threads that start at one moment."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

# Far beyond what any case takes: it only turns a deadlock into a failure.
HANG = 240.0


class Crowd:
    """Runs actions in threads of its own."""

    def __init__(self, pool: ThreadPoolExecutor, size: int) -> None:
        self._pool = pool
        self._size = size
        self.hangs = False

    def race(self, actions: Sequence[Callable[[], T]]) -> list[Future[T]]:
        """Start all actions at one moment, and return them when all are done."""
        if len(actions) > self._size:
            raise ValueError(f"{len(actions)} contenders do not fit a crowd of {self._size}")
        start = threading.Barrier(len(actions))

        def run(action: Callable[[], T]) -> T:
            start.wait(HANG)
            return action()

        return self._done([self._pool.submit(run, action) for action in actions])

    def all_of(self, actions: Sequence[Callable[[], T]]) -> list[T]:
        """Run all actions and return their results; the first error fails the case."""
        return [each.result() for each in self._done([self._pool.submit(each) for each in actions])]

    def all_beside(
        self, repeated: Sequence[Callable[[int], object]], actions: Sequence[Callable[[], T]]
    ) -> list[T]:
        """Run ``actions`` as `all_of` does, and ``repeated`` over and over until they are done.

        Args:
            repeated: Called with 0, 1, 2 and so on, each in a thread of its own.
            actions: What the case is about.
        """
        done = threading.Event()

        def repeat(action: Callable[[int], object]) -> None:
            turn = 0
            while turn == 0 or not done.is_set():
                action(turn)
                turn += 1

        beside = [self._pool.submit(repeat, action) for action in repeated]
        try:
            results = self.all_of(actions)
        finally:
            done.set()
        for each in self._done(beside):
            each.result()
        return results

    def _done(self, futures: list[Future[T]]) -> list[Future[T]]:
        unfinished = wait(futures, HANG).not_done
        if unfinished:
            self.hangs = True
            raise AssertionError(f"{len(unfinished)} of {len(futures)} threads hang")
        return futures


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
