"""Connected filesystems, each in the hands of one thread at a time.

Most of fsspec's synchronous filesystems stand on clients that are not made for threads: two threads
in one paramiko SFTP client lose each other's answers and wait for ever.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from fsspec.asyn import reset_lock

MOST: Final = 4
"""How many connections a store opens at most: servers limit them, sshd to ten that are logging in."""

_pools: "weakref.WeakSet[Connections]" = weakref.WeakSet()
# What a forked child inherited. The sockets are the parent's, and collecting a client would close them.
_inherited: list[object] = []


def _forget_inherited() -> None:
    reset_lock()
    for pool in list(_pools):
        pool._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)


@dataclass(frozen=True, slots=True)
class Lent:
    """A filesystem on loan.

    Attributes:
        filesystem: The fsspec filesystem.
        is_fresh: Whether it was connected for this loan. An old one may have been cut off meanwhile.
    """

    filesystem: Any
    is_fresh: bool


class Connections:
    """The filesystems of one store, connected when they are needed and kept.

    Args:
        make: Connects one. Called without any lock held, so that a slow server holds up nobody else.
        end: Closes what would fail when it is merely forgotten. Never raises.
    """

    def __init__(self, make: Callable[[], Any], end: Callable[[Any], None]) -> None:
        self._make = make
        self._end = end
        self._ends_at_exit = False
        self._start()
        _pools.add(self)

    @contextmanager
    def borrow(self, is_answer: Callable[[BaseException], bool]) -> Iterator[Lent]:
        """A filesystem for this thread, until the block ends. Waits where `MOST` are out.

        Args:
            is_answer: Whether an exception is the server's word, so that the connection is sound. Any
                other one ends this connection, and those that lie idle, which may be as dead.
        """
        idle = self._idle
        with self._out:
            used = _last_of(idle)
            lent = Lent(self._make() if used is None else used, is_fresh=used is None)
            if not self._ends_at_exit:
                # Only now: what the client registered when it was first used must run after ours.
                self._ends_at_exit = True
                atexit.register(_end_at_exit, weakref.ref(self))
            try:
                yield lent
            except BaseException as exc:
                if not is_answer(exc):
                    self._end(lent.filesystem)
                    self._end_idle()
                    raise
                idle.append(lent.filesystem)
                raise
            idle.append(lent.filesystem)

    def _end_idle(self) -> None:
        while (filesystem := _last_of(self._idle)) is not None:
            self._end(filesystem)

    def _start(self) -> None:
        self._idle: list[Any] = []
        self._out = threading.BoundedSemaphore(MOST)

    def _forget(self) -> None:
        _inherited.append(self._idle)
        self._start()


def _last_of(idle: list[Any]) -> Any:
    # Looking first and popping then would be two steps, between which another thread may take it.
    try:
        return idle.pop()
    except IndexError:
        return None


def _end_at_exit(pool: "weakref.ref[Connections]") -> None:
    alive = pool()
    if alive is not None:
        alive._end_idle()
