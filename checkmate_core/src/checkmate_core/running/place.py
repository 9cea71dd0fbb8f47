"""Place: where a loop over items goes on."""

from collections.abc import Callable
from typing import Generic, TypeVar

from checkmate_core.errors import IncompatibleTaskException
from checkmate_core.notes import Cursor

T = TypeVar("T")


class Place(Generic[T]):
    """Tells the items behind a saved cursor from those that are done. Sees each item once, in order."""

    def __init__(self, saved: Cursor, key: Callable[[T], object] | None, where: str) -> None:
        """Begin.

        Args:
            saved: Behind the last item that was saved.
            key: What tells an item apart; None counts.
            where: The loop, for messages.
        """
        self._saved = saved
        self._key = key
        self._where = where
        self._seen = 0
        self._is_reached = saved.done == 0
        self._done = saved.done

    def behind(self, item: T) -> Cursor | None:
        """The cursor behind this item; None if it is done already."""
        if self._is_reached:
            self._done += 1
            return Cursor(done=self._done, key=None if self._key is None else str(self._key(item)))
        self._seen += 1
        if self._key is None or self._saved.key is None:
            self._is_reached = self._seen == self._saved.done
        else:
            self._is_reached = str(self._key(item)) == self._saved.key
        return None

    def check_reached(self) -> None:
        """Raise if the last saved item was not among them.

        Raises:
            IncompatibleTaskException: It was not.
        """
        if not self._is_reached:
            key = f" ({self._saved.key!r})" if self._saved.key is not None else ""
            raise IncompatibleTaskException(
                f"{self._where} was saved behind item {self._saved.done}{key}, which is not among the items any more. "
                "Give it the same items in the same order, or cancel the task and start a new one"
            )
