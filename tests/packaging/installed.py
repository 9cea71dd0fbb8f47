"""Environments that hold nothing but what was installed into them, and a pipeline to run there."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PIPELINE = """
import os, signal, sys
from checkmate import BaseStage, BaseStageState, CheckMate

class State(BaseStageState):
    text: str | None = None
    length: int | None = None

class Fetch(BaseStage[State]):
    stage_name: str = "fetch"
    state: State = State()

    def execute_stage(self, previous_state_copy: State) -> None:
        print("fetching", flush=True)
        self.state.text = "payload"

class Measure(BaseStage[State]):
    stage_name: str = "measure"
    state: State = State()

    def execute_stage(self, previous_state_copy: State) -> None:
        print("measuring", flush=True)
        if "--die" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
        self.state.length = len(self.state.text)
        self.state.result = self.state.length

print("result", CheckMate(sys.argv[1], task_id="t", stage_templates=[Fetch(), Measure()]).run())
"""


class Environment(NamedTuple):
    """A virtual environment of its own, and a folder to stand in."""

    folder: Path
    environ: Mapping[str, str]

    def run(self, program: str, *args: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [self.folder / "bin" / program, *args]
        return subprocess.run(
            command, cwd=self.folder.parent, env=self.environ, capture_output=True, text=True, timeout=600
        )

    def output(self, program: str, *args: str | Path) -> str:
        done = self.run(program, *args)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def script(self, name: str, text: str) -> Path:
        path = self.folder.parent / name
        path.write_text(text)
        return path


def empty_environment(folder: Path, environ: Mapping[str, str]) -> Environment:
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], env=environ, check=True)
    return Environment(
        folder / "venv",
        {
            **environ,
            "PATH": f"{folder / 'venv' / 'bin'}:{environ['PATH']}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    )
