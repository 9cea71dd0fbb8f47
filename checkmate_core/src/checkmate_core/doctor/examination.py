"""The examination of one store through all of its doors."""

from collections.abc import Sequence
from dataclasses import replace

from checkmate_core.doctor.findings import Condition, Diagnosis, Door
from checkmate_core.doctor.judgement import judge
from checkmate_core.doctor.permissions import try_operations
from checkmate_core.doctor.race import run_races
from checkmate_core.doctor.timing import measure_clock, measure_latencies
from checkmate_core.errors import (
    PersistenceDataNotFoundException,
    TaskIOException,
    UnsupportedBackendException,
)
from checkmate_core.io.protocol import TaskIO
from checkmate_core.io.registry import open_task_io
from checkmate_core.probe import ProbeWriter, checks_of
from checkmate_core.types import ABSENT


def examine(urls: Sequence[TaskIO | str], *, rounds: int = 10) -> Diagnosis:
    """Find out whether a store may hold locks. It leaves no object behind that it may remove.

    Args:
        urls: The store, or its URL. Several are doors to one store, such as the nodes of a cluster:
            each is examined, and the races go through all of them.
        rounds: Of the races; more show a rare fault sooner.

    Raises:
        UnsupportedBackendException: Nothing serves a URL, or what was written through one of them is
            not seen through another.
        StorageUnavailableException: The store stopped answering in the middle of the examination.
        ValueError: No URL, or less than one round.
    """
    if not urls or rounds < 1:
        raise ValueError("an examination needs a URL and at least one round")
    stores = [open_task_io(url) if isinstance(url, str) else url for url in urls]
    doors = [_open_door(io) for io in stores]
    if any(permission.error for door in doors for permission in door.permissions):
        return Diagnosis(*judge(doors, ()), doors=tuple(doors), races=())
    _check_same_store(stores)
    doors = [_look_closer(io, door) for io, door in zip(stores, doors, strict=True)]
    races = run_races(stores, rounds)
    return Diagnosis(*judge(doors, races), doors=tuple(doors), races=races)


def _open_door(io: TaskIO) -> Door:
    permissions, left_behind = try_operations(io)
    try:
        endpoint = io.probe_scope
        is_known = endpoint is None
    except TaskIOException:
        endpoint, is_known = None, False  # the permissions tell why
    return Door(
        base_url=io.base_url,
        endpoint=endpoint,
        is_known_good=is_known,
        backend=f"{type(io).__module__}.{type(io).__qualname__}",
        capabilities=tuple(sorted(capability.name for capability in io.capabilities)),
        permissions=permissions,
        left_behind=left_behind,
    )


def _look_closer(io: TaskIO, door: Door) -> Door:
    return replace(
        door,
        conditions=tuple(_check_conditions(io)),
        latencies=measure_latencies(io),
        clock=measure_clock(io),
    )


def _check_conditions(io: TaskIO) -> list[Condition]:
    found = []
    for check in checks_of(io):
        try:
            found.append(Condition(check.name, fault=check.find_fault(io)))
        except TaskIOException as exc:
            found.append(Condition(check.name, error=str(exc)))
    return found


def _check_same_store(stores: Sequence[TaskIO]) -> None:
    for written in stores:
        with ProbeWriter(written) as probe:
            name = probe.new_name()
            probe.write(name, expect=ABSENT)
            for number, read in enumerate(stores, start=1):
                try:
                    read.read(name)
                except PersistenceDataNotFoundException as exc:
                    raise UnsupportedBackendException(
                        f"{written.build_url(name)} was written and is not seen through URL number {number} "
                        f"({read.base_url}): the URLs must be doors to one store, or it shows writes late and cannot "
                        "hold locks. Examine each by itself, or fix the URLs"
                    ) from exc
