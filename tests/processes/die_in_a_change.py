"""Migrations and forks whose process dies at each of its writes: `test_kills_in_a_change` runs this.

python -m tests.processes.die_in_a_change FOLDER
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMate,
    StageChanges,
    TaskIO,
    TaskStore,
    VersionConflictException,
)
from tests.examples.deaths import every_death


class Trail(BaseStageState):
    names: list[str] = Field(default_factory=list)
    stop: bool = False


class Step(BaseStage[Trail]):
    state: Trail = Trail()

    def execute_stage(self, previous_state_copy: Trail) -> None:
        if self.stage_name == "b" and self.state.stop:
            raise KeyboardInterrupt
        self.state.names = [*self.state.names, self.stage_name]
        self.state.result = self.state.names


OLD, NEW = ("a", "b", "c"), ("a", "B", "x", "C")
CHANGES = StageChanges(renamed={"b": "B", "c": "C"}, added={"x"})


def task(
    io: TaskIO | str, task_id: str, names: tuple[str, ...], **options: StageChanges
) -> CheckMate[Step, list[str]]:
    stages = [Step(stage_name=name) for name in names]
    return CheckMate(io, task_id, stages, max_interruptions=99, **options)  # type: ignore[arg-type]


def main(url: str) -> None:
    def prepare(task_id: str) -> None:
        """A task of the old code, interrupted in its second stage."""
        stages = [Step(stage_name=name) for name in OLD]
        stages[0].state.stop = True
        with suppress(KeyboardInterrupt):
            CheckMate[Step, list[str]](url, task_id, stages).run()

    def migrate(io: TaskIO, task_id: str) -> int:
        # What the inputs said once is stored, so the stage would stop again.
        cm = task(io, task_id, NEW, changes=CHANGES)
        with cm:
            cm.stages[1].state.stop = False
            cm.execute(strict_recovery=True)
            return 0 if cm.task_result == list(NEW) else 1

    def fork(io: TaskIO, task_id: str) -> int:
        # Refused where the process before got as far as that.
        with suppress(VersionConflictException):
            TaskStore(io).fork("origin", "a", new_task_id=task_id)
        return 0 if task(io, task_id, OLD).run() == list(OLD) else 1

    ended = {
        "migrations": [status for _, status in every_death(url, "migrated", migrate, prepare)],
        "statuses": sorted({str(view.status) for view in TaskStore(url).list()}),
    }
    task(url, "origin", OLD).run()
    ended["forks"] = [status for _, status in every_death(url, "forked", fork)]
    print(json.dumps(ended))


if __name__ == "__main__":
    main(Path(sys.argv[1]).as_uri())
