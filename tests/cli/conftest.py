from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import Field

from checkmate import BaseStage, BaseStageState, CheckMate, TaskEngineException
from checkmate.cli import main


class Letters(BaseStageState):
    found: list[str] = Field(default_factory=list)


class Letter(BaseStage[Letters]):
    state: Letters = Field(default_factory=Letters)
    fails: bool = Field(default=False, exclude=True)

    def execute_stage(self, previous_state_copy: Letters) -> None:
        if self.fails:
            raise ValueError("no [bold]such[/bold] letter")
        self.state.found.append(self.stage_name)
        self.state.result = "".join(self.state.found)


Store = Callable[..., "CheckMate[Letter, str]"]
Run = Callable[..., Result]


@pytest.fixture
def url(checkmate_file_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with a finished task, a failed one and one that was only enqueued."""
    monkeypatch.delenv("CHECKMATE_URL", raising=False)
    make(checkmate_file_url, "done").run()
    with suppress(TaskEngineException):
        make(checkmate_file_url, "failed", fails=True).run()
    with make(checkmate_file_url, "waiting"):
        pass
    return checkmate_file_url


def make(url: str, task_id: str, *, fails: bool = False) -> "CheckMate[Letter, str]":
    return CheckMate[Letter, str](
        url, task_id, [Letter(stage_name="x"), Letter(stage_name="ü [y]", fails=fails)]
    )


@pytest.fixture
def held(url: str) -> "CheckMate[Letter, str]":
    """The waiting task, bound by this process."""
    cm = make(url, "waiting")
    cm.bind()
    return cm


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: str, **environment: str | None) -> Result:
        return CliRunner().invoke(main, arguments, env={"COLUMNS": "200", **environment})

    return run
