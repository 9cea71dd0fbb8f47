"""Pipelines, clocks and stores that the tests of the engine share."""

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import Field

from checkmate import (
    BaseStage,
    BaseStageState,
    BindLock,
    CheckMateEngine,
    TaskIO,
)
from checkmate_core.clock import Tick
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.types import ANY, Capability, Expect, ObjectInfo, RemoveExpect, StoredObject, Version

TASK = "task-1"
AFTER = {
    "COMPLETE": {"ROLLING_BACK"},
    "CANCELED": {"REMOVING"},
    "ROLLING_BACK": {"ROLLING_BACK", "ROLLED_BACK", "REMOVING"},
    "ROLLED_BACK": set[str](),
}
"""What a stage may become that has ended, or goes backwards."""
MANIFEST = f"{TASK}/task.json"
LOCK = f"_locks/{TASK}.lock"


class Notes(BaseStageState):
    """A state with an input, a list that grows from stage to stage, and a number."""

    source: str | None = None
    trail: list[str] = Field(default_factory=list)
    count: int = 0


class Step(BaseStage[Notes]):
    """A stage that signs the trail and then does what the test says."""

    state: Notes = Field(default_factory=Notes)
    action: "Action | None" = Field(default=None, exclude=True, repr=False)
    undo: "Action | None" = Field(default=None, exclude=True, repr=False)
    on_cancel: Callable[["Step"], object] | None = Field(default=None, exclude=True, repr=False)

    def execute_stage(self, previous_state_copy: Notes) -> None:
        self.state.trail.append(self.stage_name)
        self.state.result = len(self.state.trail)
        if self.action:
            self.action(self, previous_state_copy)

    def rollback_stage(self, previous_state_copy: Notes) -> None:
        if self.undo:
            self.undo(self, previous_state_copy)

    def cancel(self) -> None:
        if self.on_cancel:
            self.on_cancel(self)


Action: TypeAlias = Callable[[Step, Notes], object]
Step.model_rebuild()
Engine: TypeAlias = CheckMateEngine[Step, Any]


class Logged:
    """Side effects outside the store: which stages were executed, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, stage: Step, previous: Notes) -> None:
        self.names.append(stage.stage_name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Logged":
        return self


@dataclass(frozen=True)
class Repeated:
    """What a `FakeClock` is to call, and when."""

    due: float
    tick: Tick


class FakeClock:
    """Time that passes only when somebody sleeps; what is repeated is called meanwhile, in that thread."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self.repeated: list[Repeated] = []
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], object] | None = None

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        assert len(self.sleeps) < 1000, "somebody waits for ever"
        self.pass_time(seconds)
        if self.on_sleep:
            self.on_sleep()

    def pass_time(self, seconds: float) -> None:
        end = self.time + seconds
        while (first := min(self.repeated, key=lambda each: each.due, default=None)) and first.due <= end:
            self.repeated.remove(first)
            self.time = max(self.time, first.due)
            wait = first.tick()
            if wait is not None:
                self.repeated.append(Repeated(self.time + wait, first.tick))
        self.time = end

    def stand_still(self, seconds: float) -> None:
        """Time passes, but not for this process: it is stopped, or its machine is suspended."""
        self.time += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def repeat(self, tick: Tick, after: float, name: str) -> Callable[[], None]:
        mine = Repeated(self.time + after, tick)
        self.repeated.append(mine)

        def end() -> None:
            self.repeated = [each for each in self.repeated if each.tick is not tick]

        return end


class Crash(BaseException):
    """The process died here."""


def steps(*names: str, action: Action | None = None) -> list[Step]:
    return [Step(stage_name=name, action=action) for name in names or ("a", "b", "c")]


def engine_for(
    io: TaskIO, stages: list[Step] | None = None, *, clock: FakeClock | None = None, **options: Any
) -> Engine:
    """An engine of task-1 that never really waits."""
    options.setdefault("task_id", TASK)
    engine = CheckMateEngine[Step, Any](io, stage_templates=stages or steps(), **options)
    engine.clock = clock or FakeClock()
    return engine


def raw(io: TaskIO) -> dict[str, bytes]:
    """Everything that is stored, byte for byte."""
    return {info.name: io.read(info.name).data for info in io.list()}


def raw_without_locks(io: TaskIO) -> dict[str, bytes]:
    return {name: data for name, data in raw(io).items() if not name.startswith("_locks/")}


def document(io: TaskIO, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(io.read(name).data)
    return found


def edit(io: TaskIO, name: str, **changes: object) -> None:
    """Change a stored object by hand."""
    io.write(name, json.dumps({**document(io, name), **changes}).encode())


def stage_documents(io: TaskIO, task_id: str = TASK) -> list[dict[str, Any]]:
    names = sorted(info.name for info in io.list(f"{task_id}/stages/"))
    return [document(io, name) for name in names]


def is_locked(io: TaskIO, task_id: str = TASK) -> bool:
    name = f"_locks/{task_id}.lock"
    return io.exists(name) and document(io, name)["owner"] is not None


def bury_holder(io: TaskIO, task_id: str = TASK) -> None:
    """Say that the holder is dead: in these tests it is this very process, so nobody can prove it."""
    BindLock(io, f"_locks/{task_id}.lock").force_unlock()


@dataclass
class Applied:
    """A write or a remove that the store took."""

    name: str
    body: dict[str, Any] | None


@dataclass
class Witness:
    """A store that remembers every change that it took, in order."""

    io: TaskIO
    applied: list[Applied] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return self.io.base_url

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.io.capabilities

    @property
    def probe_scope(self) -> str | None:
        return self.io.probe_scope

    def build_url(self, obj_name: str) -> str:
        return self.io.build_url(obj_name)

    def exists(self, obj_name: str) -> bool:
        return self.io.exists(obj_name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.io.list(prefix)

    def read(self, obj_name: str) -> StoredObject:
        return self.io.read(obj_name)

    def read_many(self, obj_names: Sequence[str]) -> dict[str, StoredObject]:
        return self.io.read_many(obj_names)

    def write(self, obj_name: str, data: bytes, *, expect: Expect = ANY) -> Version:
        version = self.io.write(obj_name, data, expect=expect)
        self.applied.append(Applied(obj_name, json.loads(data)))
        return version

    def remove(self, obj_name: str, *, expect: RemoveExpect = ANY) -> None:
        self.io.remove(obj_name, expect=expect)
        self.applied.append(Applied(obj_name, None))

    def check_guarantees(self) -> None:
        """G1, G2 and G4, from the order of the changes that the store took; and backwards, once is for good."""
        last: dict[tuple[str, int], str] = {}
        epochs: dict[str, int] = {}
        for change in self.applied:
            if change.body is None or "/stages/" not in change.name:
                continue
            body = change.body
            life = (change.name, body["base_epoch"])
            before = last.get(life, "")
            assert body["status"] in AFTER.get(before, {body["status"]}), (
                f"G1/G2: {change.name} was {before} and became {body['status']}"
            )
            last[life] = body["status"]
            assert body["epoch"] >= epochs.get(change.name, 0), f"G4: an older owner wrote {change.name}"
            epochs[change.name] = body["epoch"]


class Limited(MemoryTaskIO):
    """A store that cannot do everything."""

    def __init__(self, *missing: Capability) -> None:
        super().__init__(f"memory://limited-{uuid.uuid4().hex}")
        self.capabilities = frozenset(Capability) - set(missing)


class Failing:
    """An action that fails so many times, then succeeds."""

    def __init__(self, times: int = 10**9, error: Exception | None = None) -> None:
        self.left = times
        self.error = error or ValueError("no")
        self.calls = 0

    def __call__(self, stage: Step, previous: Notes) -> None:
        self.calls += 1
        stage.state.count = 99
        if self.left:
            self.left -= 1
            raise self.error

    def __deepcopy__(self, memo: dict[int, Any]) -> "Failing":
        return self
