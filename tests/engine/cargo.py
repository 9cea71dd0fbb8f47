"""A stage whose state has defaults of every kind."""

from typing import Any

from pydantic import Field, PrivateAttr

from checkmate import BaseStage, BaseStageState, CheckMateEngine, TaskIO

from .pipelines import TASK


class Cargo(BaseStageState):
    nothing: str | None = None
    number: int = 7
    words: list[str] = Field(default_factory=lambda: ["x"])
    nested: dict[str, list[int]] = Field(default_factory=dict)
    derived: str = Field(default_factory=lambda data: f"{data['number']}!")


class Carry(BaseStage[Cargo]):
    state: Cargo = Field(default_factory=Cargo)
    action: Any = Field(default=None, exclude=True)
    _calls: int = PrivateAttr(default=0)

    def execute_stage(self, previous_state_copy: Cargo) -> None:
        self._calls += 1
        if self.action:
            self.action(self, previous_state_copy)


def run(io: TaskIO, *stages: Carry) -> list[Carry]:
    engine = CheckMateEngine[Carry, Any](io, TASK, list(stages))
    with engine:
        engine.execute()
        assert engine.check_sync()
        return engine.stages


def sets(**values: Any) -> Any:
    def action(stage: Carry, _: Cargo) -> None:
        for name, value in values.items():
            setattr(stage.state, name, value)

    return action
