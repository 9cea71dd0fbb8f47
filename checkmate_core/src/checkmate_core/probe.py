"""Does this store honour the conditions that it claims to? Asked once per process, endpoint and bucket.

A lock is a conditional write. Some servers that speak S3's language accept the condition's header
and ignore it: there two workers could own one task, and nothing would say so. Each check makes a
request that an honest store must refuse, and then looks whether the refusal was meant.

What a probe cannot find is a store that checks and then acts: only a race can (see
`checkmate_core.doctor`), and only by luck.
"""

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import uuid4

from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    TaskIOException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.io.cas import CasWriter
from checkmate_core.io.protocol import TaskIO
from checkmate_core.layout import probe_object_name
from checkmate_core.types import ABSENT, Capability, Expect, Version

_log = logging.getLogger(__name__)

# What was probed: a scope, by what was declared of it. A store that was opened again with less may be sound.
_Probed: TypeAlias = tuple[str, frozenset[Capability]]
# The fault of each, None for none; and the locks of those that are being probed.
_faults: dict[_Probed, str | None] = {}
_probing: dict[_Probed, threading.Lock] = {}
# A child has no thread that would end a probe of its parent's; what is known stays known.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_probing={}))


def require_honest_conditions(io: TaskIO) -> None:
    """Refuse a store that claims conditional writes and ignores a condition.

    Makes no request where the store is known to be honest, and otherwise only once per process,
    `TaskIO.probe_scope` and capabilities; other threads wait for the answer.

    Raises:
        UnsupportedBackendException: It ignores one; so does every later call.
        StorageUnavailableException: The store did not answer for good; the next call asks again.
    """
    scope = io.probe_scope
    if scope is None:
        return
    probed = (scope, io.capabilities)
    if probed not in _faults:
        with _probing.setdefault(probed, threading.Lock()):
            if probed not in _faults:
                _faults[probed] = _first_fault(io)
    fault = _faults[probed]
    if fault:
        raise UnsupportedBackendException(
            f"{io.base_url} cannot hold a lock: {fault}. Nothing was written of the task. Use another store "
            "(`checkmate doctor URL` examines one), or no_lock=True if surely nobody else works on the task"
        )


class ProbeWriter:
    """Writes objects of a probe that must succeed, and removes all that it named.

    A write is resolved by reading back, so that a lost response is not taken for a store's fault.
    """

    def __init__(self, io: TaskIO) -> None:
        self.io = io
        self._writer = CasWriter(io)
        self._bodies: dict[str, bytes | None] = {}

    def __enter__(self) -> "ProbeWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.clean()

    def new_name(self) -> str:
        """A name that nobody else has."""
        name = probe_object_name()
        self._bodies[name] = None
        return name

    def write(self, name: str, *, expect: Expect) -> Version:
        """Write a body that no other object has.

        Raises:
            VersionConflictException: The store refused it.
        """
        data, write_id = new_body()
        version = self._writer.write(name, data, write_id, expect=expect)
        self._bodies[name] = data
        return version

    def remove(self, name: str) -> None:
        """Remove an object, whatever its version."""
        self.io.remove(name)
        self._bodies[name] = None

    def fault_after_refusal(self, name: str, refused: bytes | None) -> str | None:
        """What is wrong with what is read once ``refused`` was refused, in words; None if nothing is."""
        try:
            found = self.io.read(name).data
        except PersistenceDataNotFoundException:
            found = None
        if found == self._bodies[name]:
            return None
        return "applied it" if found == refused else "a read did not give what had been written last"

    def clean(self) -> list[str]:
        """Remove every named object.

        Returns:
            The URLs of those that could not be removed; they were logged.
        """
        left = []
        while self._bodies:
            name, _ = self._bodies.popitem()
            url = self.io.build_url(name)
            try:
                self.io.remove(name)
            except TaskIOException as exc:
                _log.warning(
                    "could not remove %s, which a probe left behind; remove it by hand: %s", url, exc
                )
                left.append(url)
        return left


def new_body() -> tuple[bytes, str]:
    """A body that no other object has, and the write id in it."""
    write_id = uuid4().hex
    return json.dumps({"kind": "probe", "write_id": write_id}).encode(), write_id


@dataclass(frozen=True, slots=True)
class ConditionCheck:
    """A request that an honest store must refuse.

    Attributes:
        name: What is refused.
        capability: Who declares this must refuse it.
    """

    name: str
    capability: Capability
    _find_fault: Callable[[ProbeWriter, str], str | None]

    def find_fault(self, io: TaskIO) -> str | None:
        """Make the request, and leave nothing behind.

        Returns:
            What the store did instead of refusing, in words; None if it refused.

        Raises:
            TaskIOException: The store did not answer for good.
        """
        with ProbeWriter(io) as probe:
            try:
                return self._find_fault(probe, probe.new_name())
            except VersionConflictException:
                return f"before the {self.name}, it refused a write whose condition held"
            except UnsupportedBackendException as exc:
                return f"it claims to do a conditional {self.name.partition(' ')[0]} and does not: {exc}"


def _create_over(probe: ProbeWriter, name: str) -> str | None:
    probe.write(name, expect=ABSENT)
    return _fault_of_write(probe, name, ABSENT, "a create where an object exists")


def _swap_old(probe: ProbeWriter, name: str) -> str | None:
    old = probe.write(name, expect=ABSENT)
    probe.write(name, expect=old)
    return _fault_of_write(probe, name, old, "a swap on an old version")


def _swap_removed(probe: ProbeWriter, name: str) -> str | None:
    version = probe.write(name, expect=ABSENT)
    probe.remove(name)
    return _fault_of_write(probe, name, version, "a swap of a removed object")


def _fault_of_write(probe: ProbeWriter, name: str, expect: Expect, what: str) -> str | None:
    data, _ = new_body()
    try:
        probe.io.write(name, data, expect=expect)
    except VersionConflictException:
        fault = probe.fault_after_refusal(name, data)
        return f"it refused {what}, and yet {fault}" if fault else None
    return f"it ignored the condition of {what}, so that two workers could own one task"


def _remove_old(probe: ProbeWriter, name: str) -> str | None:
    old = probe.write(name, expect=ABSENT)
    probe.write(name, expect=old)
    what = "a removal on an old version"
    try:
        probe.io.remove(name, expect=old)
    except VersionConflictException:
        fault = probe.fault_after_refusal(name, None)
        return f"it refused {what}, and yet {fault}" if fault else None
    cure = getattr(probe.io, "without_remove_if", None)
    return (
        f"it ignored the condition of {what}, so that a worker could remove another one's lock"
        f"{f' ({cure})' if cure else ''}"
    )


def _first_fault(io: TaskIO) -> str | None:
    return next((fault for check in checks_of(io) if (fault := check.find_fault(io))), None)


CHECKS: Final = (
    ConditionCheck("create over an object", Capability.CREATE, _create_over),
    ConditionCheck("swap on an old version", Capability.SWAP, _swap_old),
    ConditionCheck("swap of a removed object", Capability.SWAP, _swap_removed),
    ConditionCheck("remove on an old version", Capability.REMOVE_IF, _remove_old),
)
"""All that a lock, and the removal of one, stand on."""


def checks_of(io: TaskIO) -> tuple[ConditionCheck, ...]:
    """The checks of what ``io`` declares."""
    return tuple(check for check in CHECKS if check.capability in io.capabilities)
