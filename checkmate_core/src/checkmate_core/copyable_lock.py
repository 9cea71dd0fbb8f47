"""A lock for models that are copied and pickled."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any


class CopyableLock:
    """A re-entrant lock whose copies and pickles are new locks, and which has no value of its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __deepcopy__(self, memo: Mapping[int, Any]) -> CopyableLock:
        return CopyableLock()

    def __reduce__(self) -> tuple[type[CopyableLock], tuple[()]]:
        return (CopyableLock, ())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CopyableLock)

    def __hash__(self) -> int:
        return 0
