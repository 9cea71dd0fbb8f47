"""The protocol made wrong on purpose, one rule at a time, by changing the real classes."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from checkmate_core import layout
from checkmate_core.artifacts import ArtifactPlace
from checkmate_core.changing.migration import Migration
from checkmate_core.errors import CorruptObjectException, TaskIOException, VersionConflictException
from checkmate_core.hosting import StageHost, Wakeup
from checkmate_core.io.cas import CasWriter
from checkmate_core.journal import StageChangedError, TaskJournal
from checkmate_core.lease import HeldLock
from checkmate_core.letters.mailbox import CancelRequest, TaskMailbox
from checkmate_core.lock import BindLock
from checkmate_core.lock_record import LockRecord, read_lock
from checkmate_core.opening import _Opening
from checkmate_core.record import dump_state
from checkmate_core.running import execution, failure, rollback
from checkmate_core.running.plan import Plan, Store, Work
from checkmate_core.session import TaskSession
from checkmate_core.status import StageStatus
from checkmate_core.takeover import LockWatch, Sighting
from checkmate_core.testing.simulation import Faults, Habits, Kind, Scenario, Upgrade
from checkmate_core.types import ANY, Expect, StoredObject, Version

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Weakening:
    """A rule left out.

    Attributes:
        apply: Leaves it out.
        violates: A guarantee that is found violated.
        adapt: Makes the circumstances in which it matters more frequent.
        seeds: Within so many it is found.
        is_slow: Finding it takes some seconds.
    """

    apply: Callable[[Patch], None]
    violates: str
    adapt: Callable[[Scenario], Scenario] = lambda scenario: scenario
    seeds: int = 300
    is_slow: bool = False


def no_claim(patch: Patch) -> None:
    """An owner's first write to a stage is applied whatever stands there."""
    write = TaskJournal._write

    def weak(self: TaskJournal, obj_name: str, data: bytes, write_id: str) -> Version:
        if "/stages/" in obj_name and obj_name not in self._claimed:
            return self.io.write(obj_name, data)
        return write(self, obj_name, data, write_id)

    patch.setattr(TaskJournal, "_write", weak)


def no_epoch_check(patch: Patch) -> None:
    """After a conflict an owner writes again over whoever stands there, newer or not."""

    def weak(self: TaskJournal, obj_name: str, conflict: VersionConflictException) -> None:
        self._versions[obj_name] = self.io.read(obj_name).version

    patch.setattr(TaskJournal, "_check_claimable", weak)


def no_fence(patch: Patch) -> None:
    """State is written unconditionally; only the lock keeps others away."""
    begin = TaskJournal.__init__

    def weak(self: TaskJournal, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self._is_conditional = False

    patch.setattr(TaskJournal, "__init__", weak)


def unconditional_release(patch: Patch) -> None:
    """A release deletes the lock object, whoever it belongs to by now."""

    def weak(self: HeldLock, version: Version, *, finished: bool) -> bool:
        self._task_io.remove(self._obj_name)
        return True

    patch.setattr(HeldLock, "_give_back", weak)


def read_then_delete_release(patch: Patch) -> None:
    """The lock of a finished task is looked at, whose it is, and then deleted."""
    give_back = HeldLock._give_back

    def weak(self: HeldLock, version: Version, *, finished: bool) -> bool:
        if not finished:
            return give_back(self, version, finished=False)
        found = read_lock(self._task_io, self._obj_name)
        if found and found.owner == self.record.owner:
            self._task_io.remove(self._obj_name)
        return True

    patch.setattr(HeldLock, "_give_back", weak)


def unreadable_is_ours(patch: Patch) -> None:
    """After a conflict an object that cannot be read is taken for one's own write."""
    write_once = CasWriter._write_once

    def weak(self: CasWriter, obj_name: str, *args: Any) -> Version:
        try:
            return write_once(self, obj_name, *args)
        except CorruptObjectException:
            return self._io.read(obj_name).version

    patch.setattr(CasWriter, "_write_once", weak)


def unreadable_is_free(patch: Patch) -> None:
    """A lock that cannot be read is taken for a released one."""
    decode = LockRecord.decode

    def weak(data: bytes, url: str) -> LockRecord:
        try:
            return decode(data, url)
        except CorruptObjectException:
            then = datetime(2026, 1, 1, tzinfo=UTC)
            return LockRecord(owner=None, epoch=0, host="?", pid=0, acquired_at=then, renewed_at=then)

    patch.setattr(LockRecord, "decode", staticmethod(weak))


def conflict_is_success(patch: Patch) -> None:
    """A conflict is taken for the echo of one's own write, unread."""
    write_once = CasWriter._write_once

    def weak(self: CasWriter, obj_name: str, *args: Any) -> Version:
        try:
            return write_once(self, obj_name, *args)
        except VersionConflictException:
            return self._io.read(obj_name).version

    patch.setattr(CasWriter, "_write_once", weak)


def no_new_epoch(patch: Patch) -> None:
    """Whoever takes a lock over keeps its epoch."""
    new_record = BindLock._new_record

    def weak(self: BindLock, epoch: int, *, in_flight: bool = False) -> LockRecord:
        return new_record(self, max(1, epoch - 1), in_flight=in_flight)

    patch.setattr(BindLock, "_new_record", weak)


def unconditional_renewal(patch: Patch) -> None:
    """A renewal writes over whatever lock stands there."""
    renew = HeldLock._renew

    class Unconditional(CasWriter):
        def write(self, obj_name: str, data: bytes, write_id: str, *, expect: Expect) -> Version:
            return super().write(obj_name, data, write_id, expect=ANY)

    def weak(self: HeldLock) -> float | None:
        writer, self._writer = self._writer, Unconditional(self._task_io, self._clock)
        try:
            return renew(self)
        finally:
            self._writer = writer

    patch.setattr(HeldLock, "_renew", weak)


def impatient(patch: Patch) -> None:
    """A waiter takes a lock that was silent for half its lease."""
    reason_to_take = LockWatch.reason_to_take

    def weak(self: LockWatch, seen: Sighting) -> str | None:
        lease = seen.record.lease_s
        half = seen.record.model_copy(update={"lease_s": lease and lease / 2})
        return reason_to_take(self, replace(seen, record=half))

    patch.setattr(LockWatch, "reason_to_take", weak)


def unfenced_clean(patch: Patch) -> None:
    """A clean removes the task without having claimed its first unfinished stage."""

    def weak(self: TaskSession) -> None:
        doomed = self.journal.list_removable()
        self.journal.bury()
        self.journal.sweep(doomed)

    patch.setattr(TaskSession, "remove_task", weak)


def sweep_of_what_is_there(patch: Patch) -> None:
    """A clean lists what to remove only once the tombstone stands."""
    sweep, list_removable = TaskJournal.sweep, TaskJournal.list_removable

    patch.setattr(TaskJournal, "list_removable", lambda self: [])
    patch.setattr(TaskJournal, "sweep", lambda self, doomed: sweep(self, list_removable(self)))


def lives_without_number(patch: Patch) -> None:
    """A task id used again begins with the number of its first life."""
    take = TaskJournal._write_manifest

    def weak(self: TaskJournal, manifest: Any) -> None:
        take(self, manifest.model_copy(update={"base_epoch": 1}))

    patch.setattr(TaskJournal, "_write_manifest", weak)


def unread_after_the_lock(patch: Patch) -> None:
    """What was read before the acquisition is believed: nobody looks whether a newer owner wrote since."""
    read_all = TaskJournal.read_all

    def weak(self: TaskJournal, stage_objects: Any, **options: Any) -> Any:
        found = read_all(self, stage_objects, **options)
        for record in found.values():
            if record is not None:
                record.owner = self.owner
        self.manifest.owner = self.owner
        return found

    patch.setattr(TaskJournal, "read_all", weak)


def finished_is_free(patch: Patch) -> None:
    """Whoever has read that a task is over takes its lock, even that of its next life."""
    acquire = BindLock.acquire

    def weak(self: BindLock, *, ended_by: int | None = None) -> None:
        acquire(self, ended_by=None if ended_by is None else 10**9)

    patch.setattr(BindLock, "acquire", weak)


def removed_when_released(patch: Patch) -> None:
    """A released lock is removed, even that of an unfinished task."""
    release = HeldLock.release

    def weak(self: HeldLock, *, finished: bool) -> None:
        release(self, finished=True)

    patch.setattr(HeldLock, "release", weak)


def executed_before_stored(patch: Patch) -> None:
    """A stage is executed before its RUNNING is stored."""
    store_stage = TaskSession.store_stage

    def weak(self: TaskSession, index: int, stage_name: str, state: Any, notes: Any) -> None:
        if state.status is StageStatus.RUNNING and self.records[index] is not None:
            return
        store_stage(self, index, stage_name, state, notes)

    patch.setattr(TaskSession, "store_stage", weak)


def rollback_claims_the_first_unfinished(patch: Patch) -> None:
    """In a rollback, an owner stamps the first stage that is not complete, not the last that is."""
    real = rollback.rollback_plan

    def weak(engine: Any, cause: Exception | None = None) -> Plan:
        session = engine.session
        first = engine.first_unfinished()
        record = session.records[first] if first < len(engine.stages) else None
        if record is not None and record.status == StageStatus.ROLLED_BACK:
            with suppress(StageChangedError):
                yield Store(partial(session.store_notes, first, record.history, record.notes))
        yield from real(engine, cause)

    for module in (execution, failure, "checkmate_core.engine"):
        name = module if isinstance(module, str) else module.__name__
        patch.setattr(f"{name}.rollback_plan", weak)


def rollback_forwards(patch: Patch) -> None:
    """A rollback begins with the first stage."""

    def weak(statuses: Sequence[StageStatus]) -> int | None:
        begun = (i for i, status in enumerate(statuses) if status is not StageStatus.ROLLED_BACK)
        return next(begun, None)

    patch.setattr("checkmate_core.running.rollback._StageStateMachine", SimpleNamespace(next_written=weak))


def rollback_is_noted_first(patch: Patch) -> None:
    """A stage is noted as rolled back before its rollback has run."""
    real = rollback._stage_plan

    def weak(engine: Any, index: int, cause: Exception | None) -> Plan:
        stage = engine.stages[index]
        begin = engine.clock.now()
        if stage.status is not StageStatus.ROLLING_BACK:
            yield Store(partial(stage.change, "Rolling back", StageStatus.ROLLING_BACK, begin))
        yield Store(partial(stage.change, "Rolled back", StageStatus.ROLLED_BACK, begin, begin))
        for step in real(engine, index, cause):
            if isinstance(step, Work):
                yield step
                return

    patch.setattr(rollback, "_stage_plan", weak)


def event_is_not_remembered(patch: Patch) -> None:
    """Nobody looks whether a stage has taken a signal that is still there."""
    patch.setattr(TaskSession, "read_signal", lambda self, event: self.mailbox.read_signal(event))


def event_is_removed_first(patch: Patch) -> None:
    """A signal is removed before its data is stored with the stage."""
    look = StageHost.look_for_wakeup

    def weak(self: Any, stage: Any) -> Any:
        found = look(self, stage)
        if found is not None:
            self.discard(found)
        return found

    patch.setattr(StageHost, "look_for_wakeup", weak)


def unconditional_checkpoint(patch: Patch) -> None:
    """A save in the middle of a stage goes over whatever stands there."""
    save = StageHost.save_stage

    def weak(self: Any, stage: Any, notes: Any, *, with_state: bool) -> None:
        journal = self.session.journal
        kept, journal._is_conditional = journal._is_conditional, False
        try:
            save(self, stage, notes, with_state=with_state)
        finally:
            journal._is_conditional = kept

    patch.setattr(StageHost, "save_stage", weak)


def progress_stores_the_state(patch: Patch) -> None:
    """Progress is stored with the state as it is in memory, beside the place that was last saved."""
    save = StageHost.save_stage

    def weak(self: Any, stage: Any, notes: Any, *, with_state: bool) -> None:
        records, index = self.session.records, self.index_of(stage)
        records[index] = records[index].model_copy(update={"state": dump_state(stage.state, "")})
        save(self, stage, notes, with_state=with_state)

    patch.setattr(StageHost, "save_stage", weak)


def place_without_state(patch: Patch) -> None:
    """A loop saves its place, and not what its items have added to the state."""

    def weak(self: Any, stage: Any, notes: Any, *, with_state: bool) -> None:
        index = self.index_of(stage)
        self.session.store_notes(index, stage.state.history, notes)
        stage.take_notes(notes)

    patch.setattr(StageHost, "save_stage", weak)


def earlier_lifes_request(patch: Patch) -> None:
    """A cancel request counts, whichever life of the task it is for."""
    decode = TaskMailbox._decode

    def weak(self: TaskMailbox, name: str, stored: StoredObject, kind: Any) -> Any:
        if kind is CancelRequest:
            return CancelRequest.decode(stored.data, name)
        return decode(self, name, stored, kind)

    patch.setattr(TaskMailbox, "_decode", weak)


def request_is_forgotten(patch: Patch) -> None:
    """A cancel request that was seen ends nothing."""
    patch.setattr(StageHost, "cancel_requested", False)


def upload_goes_on(patch: Patch) -> None:
    """A part that could not be sent is taken for sent."""
    put = ArtifactPlace.put

    def weak(self: ArtifactPlace, sha256: str, data: bytes, *, look: bool = False) -> bool:
        try:
            return put(self, sha256, data, look=look)
        except TaskIOException:
            return False

    patch.setattr(ArtifactPlace, "put", weak)


def artifacts_without_life(patch: Patch) -> None:
    """Artifacts of every life of a task have the same names."""
    for name in ("artifact_object_name", "artifact_index_name"):
        real = getattr(layout, name)
        patch.setattr(f"checkmate_core.artifacts.place.{name}", partial(_of_the_first_life, real))


def _of_the_first_life(real: Callable[[str, int, str], str], task_id: str, life: int, sha256: str) -> str:
    return real(task_id, 1, sha256)


def impatient_suspension(patch: Patch) -> None:
    """A suspended stage goes on at the next execute, whatever it waits for."""
    patch.setattr(StageHost, "look_for_wakeup", lambda self, stage: Wakeup(stage.state))


def unmarked(patch: Patch) -> None:
    """A migration swaps the manifest without having claimed what an earlier owner could write next."""
    patch.setattr(_Opening, "_mark", lambda self, position, manifest: None)


def unsettled(patch: Patch) -> None:
    """Whoever meets the mark of a migration claims at once, and leaves the manifest as it is."""
    patch.setattr(TaskJournal, "_settle_migration", lambda self, obj_name: None)


def moved(patch: Patch) -> None:
    """A migration puts a stage before those that have begun, too."""
    patch.setattr(Migration, "check", lambda self, statuses: None)


def of(*kinds: Kind, **habits: float) -> Callable[[Scenario], Scenario]:
    """Let the tasks have such stages, and their workers such habits."""

    def adapt(scenario: Scenario) -> Scenario:
        return replace(
            scenario, tasks=1, kinds=kinds or scenario.kinds, habits=replace(scenario.habits, **habits)
        )

    return adapt


def calmly(adapt: Callable[[Scenario], Scenario], **faults: float) -> Callable[[Scenario], Scenario]:
    """Let little else go wrong, on quick stores, with clocks that are right."""

    def adapted(scenario: Scenario) -> Scenario:
        return replace(
            adapt(scenario),
            latency=0.02,
            work=6.0,
            chaos=25.0,
            rates=(1.0,) * scenario.workers,
            faults=Faults(**faults),
        )

    return adapted


def pausing(scenario: Scenario) -> Scenario:
    """As `plain`, with workers that stand still now and then, and locks that are released beside them."""
    plainly = plain(scenario)
    return replace(
        plainly,
        tasks=1,
        faults=replace(scenario.faults, pause=0.06, slow=0.05),
        habits=Habits(unlock=0.3, fail=scenario.habits.fail),
    )


def plain(scenario: Scenario) -> Scenario:
    """Let stages do nothing but work, and nobody send letters or roll anything back."""
    habits = replace(scenario.habits, rollback=0.0, signal=0.0, request=0.0)
    return replace(scenario, kinds=(Kind.PLAIN,) * scenario.stages, habits=habits)


def rolled_back(scenario: Scenario) -> Scenario:
    """Let everybody roll back a task that is soon begun, over a slow network."""
    return replace(
        plain(scenario),
        tasks=1,
        lease=3.0,
        latency=0.4,
        work=2.0,
        chaos=25.0,
        faults=Faults(pause=0.05, slow=0.15, late=0.1, overtaken=0.15),
        habits=Habits(run=1.0, rollback=1.0, unlock=0.5),
    )


def upgraded(scenario: Scenario, at: int = 3) -> Scenario:
    """Let workers of two releases have one task, some of whose requests arrive late, and many crash."""
    return replace(
        plain(scenario),
        tasks=1,
        kinds=(Kind.PLAIN,) * 3,
        lease=3.0,
        latency=0.1,
        work=2.0,
        chaos=25.0,
        faults=Faults(pause=0.03, slow=0.1, late=0.1, crash=0.06),
        habits=Habits(run=1.0, clean=0.15, unlock=0.3),
        upgrade=Upgrade(Kind.PLAIN, at, 0.5),
    )


def re_used(scenario: Scenario) -> Scenario:
    """Let one task be removed and begun again all the time, by workers that stand still now and then."""
    plainly = plain(scenario)
    return replace(
        plainly,
        tasks=1,
        faults=replace(scenario.faults, pause=0.06),
        habits=replace(plainly.habits, clean=1.0),
    )


def garbled(scenario: Scenario) -> Scenario:
    """Let many reads be answered with bytes that cannot be read, and requests be repeated."""
    return replace(scenario, faults=replace(scenario.faults, garbled=0.1, resent=0.1))


WEAKENINGS = {
    "no claim": Weakening(no_claim, "G1", plain),
    "no epoch check": Weakening(no_epoch_check, "G1", pausing),
    "no fence": Weakening(no_fence, "G1"),
    "unconditional release": Weakening(unconditional_release, "Lock"),
    "read-then-delete release": Weakening(read_then_delete_release, "Lock", is_slow=True),
    "unreadable is ours": Weakening(unreadable_is_ours, "Lock", garbled, is_slow=True),
    "unreadable is free": Weakening(unreadable_is_free, "Lock", garbled),
    "conflict is success": Weakening(conflict_is_success, "Lock"),
    "no new epoch": Weakening(no_new_epoch, "Lock"),
    "unconditional renewal": Weakening(unconditional_renewal, "Lock"),
    "impatient": Weakening(impatient, "Lease"),
    "unfenced clean": Weakening(unfenced_clean, "G4", re_used),
    "sweep of what is there": Weakening(sweep_of_what_is_there, "G4", re_used, seeds=800, is_slow=True),
    "lives without number": Weakening(lives_without_number, "G1", re_used),
    "unread after the lock": Weakening(unread_after_the_lock, "G4", plain, is_slow=True),
    "finished is free": Weakening(finished_is_free, "Lease", re_used),
    "removed when released": Weakening(removed_when_released, "Index"),
    "executed before stored": Weakening(executed_before_stored, "G3"),
    "rollback claims the first unfinished": Weakening(
        rollback_claims_the_first_unfinished, "G4", rolled_back
    ),
    "rollback forwards": Weakening(rollback_forwards, "Rollback", of(rollback=1.0)),
    "rollback is noted first": Weakening(rollback_is_noted_first, "Rollback", of(rollback=1.0)),
    "event is not remembered": Weakening(
        event_is_not_remembered, "Event", calmly(of(Kind.EVENT, signal=1.0, run=2.0), crash=0.1)
    ),
    "event is removed first": Weakening(event_is_removed_first, "Event", of(Kind.EVENT, signal=1.0)),
    "unconditional checkpoint": Weakening(unconditional_checkpoint, "G1", of(Kind.LOOP)),
    "progress stores the state": Weakening(
        progress_stores_the_state, "End", calmly(of(Kind.LOOP, Kind.LOOP), crash=0.05)
    ),
    "place without state": Weakening(place_without_state, "End", of(Kind.LOOP)),
    "an earlier life's request": Weakening(
        earlier_lifes_request, "Cancel", of(request=1.0, clean=1.0, run=0.3)
    ),
    "request is forgotten": Weakening(request_is_forgotten, "Cancel", of(request=0.3)),
    "upload goes on": Weakening(upload_goes_on, "Artifact", calmly(of(Kind.ARTIFACT), refused=0.4)),
    "artifacts without life": Weakening(
        artifacts_without_life, "Artifact", calmly(of(Kind.ARTIFACT, clean=1.0), pause=0.1)
    ),
    "unmarked": Weakening(unmarked, "G4", upgraded),
    "unsettled": Weakening(unsettled, "G4", upgraded),
    "moved": Weakening(moved, "End", partial(upgraded, at=1)),
    "impatient suspension": Weakening(impatient_suspension, "Wait", calmly(of(Kind.TIME))),
}
