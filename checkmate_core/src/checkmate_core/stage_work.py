"""StageWork: what the code of a stage can ask for while it is executed."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

from checkmate_core.errors import TaskEngineException
from checkmate_core.threads import in_loop, in_storage_thread, submit_to_storage

if TYPE_CHECKING:
    from checkmate_core.running.attempt import RunningAttempt
    from checkmate_core.running.place import Place

T = TypeVar("T")


class StageWork:
    """Members of `BaseStage` for its own code. All of them need a stage that is being executed.

    They can be called from any thread of the stage. In a coroutine, await the twins with an ``a``: the
    others would block the event loop, and refuse to.
    """

    if TYPE_CHECKING:

        @property
        def attempt(self) -> RunningAttempt: ...

    def checkpoint(self) -> None:
        """Store the state as it is now. A resumed or retried attempt begins with it.

        One request, and one to look for a cancel request. In loops `resumable` does it at the right pace.

        Raises:
            InvalidStateException: The state cannot be stored as JSON.
            LockLostException: The task is not this worker's any more.
            StageTimeoutException: The stage's time is over.
            TaskIOException: The store failed. The engine ends the run with it.
        """
        _refuse_in_loop("checkpoint")
        self.attempt.save()

    async def acheckpoint(self) -> None:
        """`checkpoint` for coroutines."""
        await in_storage_thread(self.attempt.save)

    def resumable(
        self,
        items: Iterable[T],
        *,
        key: Callable[[T], object] | None = None,
        name: str = "items",
        every: int | None = None,
    ) -> Iterator[T]:
        """Iterate over items, and on resume go on behind the last one that was saved.

        The state is saved together with the place, in one write, after an item's body is done: what an
        item adds to the state is there once, however often the process dies. Items behind the last save
        are done again. By default a save is made when the work has paid for it: saves take at most 2 %
        of the time, and come at most once a second.

        A lost lock, a time limit and a cancel request end the loop between two items.

        Args:
            items: The same items in the same order at each attempt, or, with ``key``, at least the last
                saved one and those behind it.
            key: What tells an item apart, as text. Without it, items are counted.
            name: Tells the loops of one stage apart.
            every: Save after every so many items, whatever it costs.

        Raises:
            IncompatibleTaskException: The last saved item is not among the items any more.
            TaskEngineException: The attempt had a loop of that name already, or ``every`` is below 1.
        """
        attempt, place, total = self._begin_loop(items, key, name, every)

        def iterate() -> Iterator[T]:
            for item in items:
                if (cursor := place.behind(item)) is None:
                    continue
                attempt.raise_if_canceled()
                yield item
                if attempt.advance(name, cursor, total, every):
                    _refuse_in_loop("resumable")
                    attempt.save_paced()
            place.check_reached()

        return iterate()

    def aresumable(
        self,
        items: Iterable[T] | AsyncIterable[T],
        *,
        key: Callable[[T], object] | None = None,
        name: str = "items",
        every: int | None = None,
    ) -> AsyncIterator[T]:
        """`resumable` for coroutines: ``async for``. Items may come from an asynchronous iterable."""
        attempt, place, total = self._begin_loop(items, key, name, every)

        async def iterate() -> AsyncIterator[T]:
            async for item in _each(items):
                if (cursor := place.behind(item)) is None:
                    continue
                attempt.raise_if_canceled()
                yield item
                if attempt.advance(name, cursor, total, every):
                    await in_storage_thread(attempt.save_paced)
            place.check_reached()

        return iterate()

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the stage is. For people; it changes nothing.

        Observers hear of it at once. It is stored beside the last saved state, as seldom as `resumable`
        saves, so it can be called as often as one likes, from coroutines, too.

        Args:
            done: Units done.
            total: Units in all, where that is known.
            message: What is being done.
        """
        attempt = self.attempt
        if attempt.tell(done, total, message):
            if in_loop():
                submit_to_storage(attempt.store_progress)
            else:
                attempt.store_progress()

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for the task to be canceled.

        Seen at the renewal of the lock, every third of a lease, and at each checkpoint. Costs no request.
        """
        return self.attempt.cancel_requested

    def raise_if_canceled(self) -> None:
        """End the stage if somebody asked for the task to be canceled.

        Raises:
            TaskCanceledException: Somebody did. Let it pass: the engine calls `cancel` and ends the run.
        """
        self.attempt.raise_if_canceled()

    def _begin_loop(
        self, items: object, key: Callable[[T], object] | None, name: str, every: int | None
    ) -> tuple[RunningAttempt, Place[T], int | None]:
        if every is not None and every < 1:
            raise TaskEngineException(f"resumable(every={every}) saves after every so many items: at least 1")
        attempt = self.attempt
        return attempt, attempt.loop(name, key), len(items) if isinstance(items, Sized) else None


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _refuse_in_loop(name: str) -> None:
    if in_loop():
        raise TaskEngineException(f"{name}() would block the event loop: use a{name}() in a coroutine")
