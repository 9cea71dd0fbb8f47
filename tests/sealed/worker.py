"""A pipeline with a key from the environment, which dies by SIGKILL where it is told to."""

import logging
import os
import signal
import sys

from pydantic import Field

from checkmate import BaseStage, BaseStageState, CheckMate


class Patient(BaseStageState):
    notes: list[str] = Field(default_factory=list)


class Visit(BaseStage[Patient]):
    state: Patient = Field(default_factory=Patient)

    def execute_stage(self, previous_state_copy: Patient) -> None:
        if os.environ.get("DIE_IN") == self.stage_name:
            os.kill(os.getpid(), signal.SIGKILL)
        self.state.notes.append(f"{self.stage_name}: a secret diagnosis")
        self.state.result = len(self.state.notes)


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    stages = [Visit(stage_name=name) for name in ("first", "second", "third")]
    print(CheckMate[Visit, int](sys.argv[1], "patient", stages).run())
