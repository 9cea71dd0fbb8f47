"""Old and new code of one pipeline, and what must hold whoever runs it when, for the tests of change."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from checkmate import StageChanges, StageStatus, TaskEngineException, TaskIO
from checkmate_core.io.memory import MemoryTaskIO

from .pipelines import MANIFEST, Engine, Logged, Notes, Step, Witness, bury_holder, engine_for, steps

OLD = ("a", "b", "c")


@dataclass(frozen=True)
class Release:
    """One release of an application: its stages, and what it says has changed."""

    names: tuple[str, ...] = OLD
    changes: StageChanges | None = None

    def engine(self, io: TaskIO, log: Logged | None = None, **options: Any) -> Engine:
        return engine_for(io, steps(*self.names, action=log), changes=self.changes, **options)

    def run(self, io: TaskIO, log: Logged | None = None) -> None:
        with self.engine(io, log) as engine:
            engine.execute(strict_recovery=True)


OLD_CODE = Release()
RENAMED = Release(("A", "B", "C"), StageChanges(renamed={"a": "A", "b": "B", "c": "C"}))
"""Fits a task wherever it stands."""
GROWN = Release(("a", "B", "x", "C"), StageChanges(renamed={"b": "B", "c": "C"}, added={"x"}))
"""Fits a task until its last stage begins."""
SHRUNK = Release(("a", "z"), StageChanges(removed={"b", "c"}, added={"z"}))
"""Fits a task until its second stage begins."""


def prepare(io: TaskIO, complete: int, then: str = "enqueued") -> None:
    """A task of the old code with so many completed stages and the next one as the word says."""

    def stop(stage: Step, _: Notes) -> None:
        if stage.stage_name == OLD[complete]:
            raise ValueError("no") if then == "failed" else KeyboardInterrupt

    if complete == 0 and then == "enqueued":
        with OLD_CODE.engine(io):
            return
    if then == "enqueued":
        # Cut off between two stages: the last one is complete and the next was never begun.
        engine = OLD_CODE.engine(io)
        engine.state_update_hook = _stop_after(complete)  # type: ignore[assignment, method-assign]
        with suppress(KeyboardInterrupt), engine:
            engine.execute()
        return
    with suppress(TaskEngineException, KeyboardInterrupt), engine_for(io, steps(action=stop)) as engine:
        engine.execute()


def _stop_after(complete: int) -> Callable[[Step], None]:
    def hook(stage: Step) -> None:
        if stage.status is StageStatus.COMPLETE and stage.stage_name == OLD[complete - 1]:
            raise KeyboardInterrupt

    return hook


def usurp(store: TaskIO, action: Callable[[], object]) -> None:
    """Somebody else takes the task over, from a holder that is still there."""
    bury_holder(store)
    with suppress(TaskEngineException):
        action()


def check_fence(store: Witness) -> None:
    """G4, strictly: once an owner has claimed a life, no earlier one changes anything of it.

    A manifest that says what it said before is no claim: it only lets those fail that are on their way.
    """
    claimed, noted, removed = 0, 0, 0
    manifest: dict[str, object] = {}
    told = []
    for change in store.applied:
        body = change.body
        if body is None or change.name.startswith("_locks/"):
            continue
        epoch, life, is_manifest = body["epoch"], body["base_epoch"], change.name == MANIFEST
        told.append(f"{change.name} {body.get('status', '')} by {epoch}")
        if life <= removed:
            # What comes late for a removed life is garbage for every other.
            continue
        assert epoch >= (max(claimed, noted) if is_manifest else claimed), "\n".join(told)
        if is_manifest:
            said = {name: body[name] for name in body if name not in ("epoch", "owner", "write_id")}
            claimed = claimed if said == manifest else epoch
            manifest, noted = said, epoch
            removed = life if body["removed"] else removed
        else:
            claimed = epoch
    if not removed:
        store.check_guarantees()


def finish(store: Witness, *releases: Release) -> tuple[Release, Logged]:
    """One of these can run the task to its end, and then every stage has been committed just once."""
    log = Logged()
    errors = []
    for release in releases:
        bury_holder(store)
        try:
            release.run(store, log)
        except TaskEngineException as exc:
            errors.append(str(exc))
            continue
        check_end(store, release)
        return release, log
    raise AssertionError(f"nobody can go on: {errors}")


def check_end(store: TaskIO, release: Release) -> None:
    with release.engine(store) as engine:
        assert engine.status is StageStatus.COMPLETE
        assert engine.check_sync()
        for stage in engine.stages:
            assert [entry.status for entry in stage.state.history].count(StageStatus.COMPLETE) == 1
        trail: Sequence[str] = engine.stages[-1].state.trail
        assert [name.lower() for name in trail] == [name.lower() for name in release.names]


def fresh() -> Witness:
    return Witness(MemoryTaskIO())
