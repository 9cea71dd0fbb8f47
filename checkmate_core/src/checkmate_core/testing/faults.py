"""A TaskIO whose requests fail, get lost, come late or are raced, exactly where a script says.

store = FaultyTaskIO(io)
store.plan(3, RaiseBefore())                            # the third request never arrives
store.plan(writes_to("task/stages/"), LoseResponse())   # applied, but the answer is lost
store.plan(writes_to("_locks/"), ApplyLater(2))         # applied only two requests later
store.plan(7, CallBefore(lambda call: os._exit(1)))     # the process dies before the seventh
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias, TypeVar

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    StorageUnavailableException,
    TaskIOException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.types import (
    ANY,
    Capability,
    Expect,
    ObjectInfo,
    RemoveExpect,
    StoredObject,
    Version,
)

T = TypeVar("T")

# One lock for all instances, so that a fork can replace it: held by another thread, it would stay locked.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))


class Operation(Enum):
    """The kinds of requests; ``read_many`` is one READ per name."""

    EXISTS = auto()
    LIST = auto()
    READ = auto()
    WRITE = auto()
    REMOVE = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """One request made through a `FaultyTaskIO`.

    Attributes:
        number: 1 for the first request, counted over all kinds.
        operation: Its kind.
        name: The object, or the prefix of a listing.
    """

    number: int
    operation: Operation
    name: str


def _unavailable() -> BaseException:
    return StorageUnavailableException("planned fault: no answer from the store")


@dataclass(frozen=True, slots=True)
class RaiseBefore:
    """Raise, and apply nothing."""

    error: BaseException = field(default_factory=_unavailable)


@dataclass(frozen=True, slots=True)
class LoseResponse:
    """Apply the request, then raise instead of answering."""

    error: BaseException = field(default_factory=_unavailable)


@dataclass(frozen=True, slots=True)
class ApplyLater:
    """Raise now, and apply the request later: a packet that was on its way all the time.

    Attributes:
        after: Apply it just before the request that comes this many requests later; None waits for
            `FaultyTaskIO.deliver_late`.
        error: What is raised now.
    """

    after: int | None = None
    error: BaseException = field(default_factory=_unavailable)


@dataclass(frozen=True, slots=True)
class CallBefore:
    """Call somebody before the request is made: to die here, or to overtake it."""

    callback: Callable[[Call], object]


@dataclass(frozen=True, slots=True)
class CallAfter:
    """Call somebody after the request was applied, before its answer is returned."""

    callback: Callable[[Call], object]


Fault: TypeAlias = RaiseBefore | LoseResponse | ApplyLater | CallBefore | CallAfter
When: TypeAlias = int | Callable[[Call], bool]


@dataclass(slots=True)
class _Plan:
    when: When
    fault: Fault
    left: int | None

    def strikes(self, call: Call) -> bool:
        if self.left == 0:
            return False
        hit = self.when == call.number if isinstance(self.when, int) else self.when(call)
        if hit and self.left is not None:
            self.left -= 1
        return hit


@dataclass(frozen=True, slots=True)
class _Late:
    due: int | None
    apply: Callable[[], object]


def writes_to(prefix: str) -> Callable[[Call], bool]:
    """A predicate: writes of objects whose names start with ``prefix``."""
    return lambda call: call.operation is Operation.WRITE and call.name.startswith(prefix)


class FaultyTaskIO:
    """Passes requests on to another TaskIO, except where a fault is planned.

    Deterministic: nothing in it is random or depends on time. What callbacks do through this very
    client is counted, and can be struck, like any other request.

    Args:
        io: The store that does the work.

    Attributes:
        calls: Every request so far, in order.
    """

    def __init__(self, io: TaskIO) -> None:
        self._io = io
        self._plans: list[_Plan] = []
        self._late: list[_Late] = []
        self.calls: list[Call] = []

    def plan(self, when: When, fault: Fault, *, times: int | None = 1) -> None:
        """Plan a fault.

        Args:
            when: The number of a request (1 is the first that this client makes), or a predicate
                on the `Call`.
            fault: What happens to it. If several faults fit a request, the first planned strikes.
            times: How often it strikes; None is for ever.
        """
        with _lock:
            self._plans.append(_Plan(when, fault, times))

    def deliver_late(self) -> int:
        """Apply every late request now, each under its own precondition.

        Returns:
            How many of them the store took; the others' preconditions did not hold any more.
        """
        with _lock:
            due, self._late = self._late, []
        return _deliver(due)

    @property
    def base_url(self) -> str:
        return self._io.base_url

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._io.capabilities

    @property
    def probe_scope(self) -> str | None:
        return self._io.probe_scope

    def build_url(self, obj_name: str) -> str:
        return self._io.build_url(obj_name)

    def exists(self, obj_name: str) -> bool:
        return self._request(Operation.EXISTS, obj_name, lambda: self._io.exists(obj_name))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._request(Operation.LIST, prefix, lambda: self._io.list(prefix))

    def read(self, obj_name: str) -> StoredObject:
        return self._request(Operation.READ, obj_name, lambda: self._io.read(obj_name))

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        found = {}
        for name in obj_names:
            with suppress(PersistenceDataNotFoundException):
                found[name] = self.read(name)
        return found

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        return self._request(Operation.WRITE, obj_name, lambda: self._io.write(obj_name, data, expect=expect))

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self._request(Operation.REMOVE, obj_name, lambda: self._io.remove(obj_name, expect=expect))

    def _request(self, operation: Operation, name: str, request: Callable[[], T]) -> T:
        with _lock:
            call = Call(len(self.calls) + 1, operation, name)
            self.calls.append(call)
            due = [late for late in self._late if late.due is not None and late.due <= call.number]
            self._late = [late for late in self._late if late not in due]
            fault = next((plan.fault for plan in self._plans if plan.strikes(call)), None)
        _deliver(due)
        match fault:
            case None:
                return request()
            case RaiseBefore(error):
                raise error
            case LoseResponse(error):
                request()
                raise error
            case ApplyLater(after, error):
                with _lock:
                    self._late.append(_Late(after and call.number + after, request))
                raise error
            case CallBefore(callback):
                callback(call)
                return request()
            case CallAfter(callback):
                answer = request()
                callback(call)
                return answer


def _deliver(late: Sequence[_Late]) -> int:
    taken = 0
    for each in late:
        # Nobody waits for its answer any more: a failed precondition is nobody's error.
        with suppress(TaskIOException):
            each.apply()
            taken += 1
    return taken
