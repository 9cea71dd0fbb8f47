"""The task that simulated workers run, with an engine that keeps a log of what it was told."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypedDict, cast

from pydantic import Field

from checkmate_core.artifacts import ArtifactRef
from checkmate_core.checkmate import CheckMate
from checkmate_core.stage import BaseStage
from checkmate_core.state import BaseStageState
from checkmate_core.suspend import Suspend
from checkmate_core.testing.simulation.artifacts import content_of, put, read
from checkmate_core.testing.simulation.log import Acknowledged, CleanedUp, Deed, ItemDone, Log
from checkmate_core.testing.simulation.network import SimulatedTaskIO
from checkmate_core.testing.simulation.process import Process
from checkmate_core.testing.simulation.scenario import Kind

EVENT: Final = "news"
LETTERS: Final = 2
"""How often a stage of kind EVENT waits for the event, one time after the other."""
ITEMS: Final = 6


def sign_of(stage_name: str) -> str:
    """What a stage of that name, of whatever release, signs with."""
    return f"s{stage_name[1:]}"


class Tally(BaseStageState):
    """A state in which everything that a stage did, or did twice, leaves its mark.

    Attributes:
        trail: Signed by every stage, and by every item of a loop.
        total: A sum over the stages.
        news: The data of the event that came last.
        mail: The data of all events, by the stage that got them.
        rested: The stages that have waited for their time.
        ref: The artifact that was put last.
    """

    trail: list[str] = Field(default_factory=list)
    total: int = 0
    news: int | None = None
    mail: dict[str, list[int]] = Field(default_factory=dict)
    rested: list[str] = Field(default_factory=list)
    ref: ArtifactRef | None = None


class Link(BaseStage[Tally]):
    """A stage that signs the trail, takes its time, and now and then fails or is interrupted."""

    state: Tally = Field(default_factory=Tally)
    kind: Kind = Kind.PLAIN

    @property
    def sign(self) -> str:
        """What the stage signs with, the same whatever its name."""
        return sign_of(self.stage_name)

    def execute_stage(self, previous_state_copy: Tally) -> None:
        job = cast("Job", self.engine)
        job.note_execution(self)
        if self.state.ref is not None:
            job.check_artifact(self.state.ref)
        match self.kind:
            case Kind.PLAIN:
                self.state.trail.append(self.sign)
                job.work(self)
            case Kind.LOOP:
                self._loop(job)
            case Kind.EVENT:
                self._get_mail()
                job.work(self)
            case Kind.TIME:
                self._rest(job)
                job.work(self)
            case Kind.ARTIFACT:
                self.state.ref = put(job.artifact_place, job.clock, self.sign)
                job.work(self)
        self.state.total = 3 * previous_state_copy.total + len(self.state.trail)
        self.state.result = self.state.total

    def rollback_stage(self, previous_state_copy: Tally) -> None:
        cast("Job", self.engine).undo(self)

    def cancel(self) -> None:
        cast("Job", self.engine).note_cleaning_up(self)

    def _loop(self, job: "Job") -> None:
        for item in self.resumable(range(ITEMS), every=job.every, key=job.key):
            if job.rng.random() < 0.1:
                self.checkpoint()
            job.note_item(self, item)
            self.state.trail.append(f"{self.sign}.{item}")
            job.work(self, 1 / ITEMS)
            self.progress(item, ITEMS)

    def _get_mail(self) -> None:
        mine = self.state.mail.setdefault(self.sign, [])
        if self.state.news is not None:
            mine.append(self.state.news)
            self.state.news = None
        if len(mine) < LETTERS:
            raise Suspend(event=EVENT, field="news")

    def _rest(self, job: "Job") -> None:
        if self.sign not in self.state.rested:
            self.state.rested.append(self.sign)
            until = job.process.true_time + job.rng.random() * job.longest_rest
            raise Suspend(until=datetime.fromtimestamp(until, UTC))


class _Doer(TypedDict):
    number: int
    by: str
    task_id: str
    obj_name: str
    attempt: int
    token: int | None
    owner: str
    life: int


class Job(CheckMate[Link, int]):
    """An engine of a simulated process.

    Attributes:
        log: Where it notes what it does.
        rng: What chance is drawn from.
        longest_work: Seconds of a stage, at most.
        longest_rest: Seconds that a stage suspends the task for, at most.
        fail_rate: Part of the attempts that fail.
        every: Of loops.
        is_told_to_cancel: Whether it was made to cancel the task.
    """

    log: Log
    rng: random.Random
    longest_work = 1.0
    longest_rest = 1.0
    fail_rate = 0.0
    every: int | None = 2
    is_told_to_cancel = False

    @property
    def process(self) -> Process:
        """The process that the engine works in."""
        return self._store.process

    @property
    def key(self) -> Any:
        """What tells the items of a loop apart."""
        return str if self.every == 1 else None

    def state_update_hook(self, stage: Link) -> None:
        journal = self.session.journal
        self.log.acknowledged.append(
            Acknowledged(
                number=self._store.changes_so_far,
                by=self.process.label,
                obj_name=stage.obj_name,
                status=stage.status,
                owner=journal.owner,
                life=journal.manifest.base_epoch,
                write_id=self.stored_record(stage).write_id,
                history=tuple(stage.state.history),
                saw_cancel_request=self.session.cancel_watch.is_requested,
            )
        )

    def note_execution(self, stage: Link) -> None:
        """A stage's own code begins."""
        self.log.executions.append(Deed(**self._doer(stage)))
        self._store.note("executes {}", stage.obj_name)

    def note_item(self, stage: Link, item: int) -> None:
        """A stage does an item."""
        self.log.items.append(ItemDone(**self._doer(stage), item=item))
        self._store.note("   does item {} of {}", item, stage.obj_name)

    def note_cleaning_up(self, stage: Link) -> None:
        """A stage is canceled."""
        self.log.cleaned_up.append(
            CleanedUp(**self._doer(stage), is_asked_by_letter=not self.is_told_to_cancel)
        )
        self._store.note("cleans up {}", stage.obj_name)

    def undo(self, stage: Link) -> None:
        """Roll a stage back, in some time.

        Raises:
            ValueError: It cannot be, just now.
        """
        self.log.undone.append(Deed(**self._doer(stage)))
        self._store.note("rolls back {}", stage.obj_name)
        self.clock.sleep(self.rng.random() * self.longest_work / 4)
        if self.rng.random() < self.fail_rate / 4:
            raise ValueError("this rollback fails")

    def check_artifact(self, ref: ArtifactRef) -> None:
        """Read an artifact, and note if it is not what was put."""
        found = read(self.artifact_place, self.clock, ref)
        if found != content_of(ref.name):
            self.log.misread.append(f"{self.process.label} read {found!r} as {ref.name} of {self.task_id}")

    def work(self, stage: Link, share: float = 1.0) -> None:
        """Take some time, then perhaps fail.

        Raises:
            ValueError: The attempt fails.
        """
        for _ in range(self.rng.randint(1, 2)):
            self.clock.sleep(share * self.rng.random() * self.longest_work / 2)
            if self.rng.random() < 0.5:
                stage.check_alive()
        if self.rng.random() < share * self.fail_rate:
            raise ValueError("this attempt fails")

    @property
    def _store(self) -> SimulatedTaskIO:
        return cast("SimulatedTaskIO", self.io)

    def _doer(self, stage: Link) -> _Doer:
        journal = self.session.journal
        return {
            "number": self._store.changes_so_far,
            "by": self.process.label,
            "task_id": self.task_id,
            "obj_name": stage.obj_name,
            "attempt": stage.attempts,
            "token": self.fencing_token,
            "owner": journal.owner,
            "life": journal.manifest.base_epoch,
        }


def job_for(io: SimulatedTaskIO, task_id: str, stages: Sequence[tuple[str, Kind]], **options: Any) -> Job:
    """An engine for a task with such stages."""
    links = [Link(stage_name=name, kind=kind) for name, kind in stages]
    return Job(io, task_id, links, **options)
