"""Two releases of one pipeline, each with its factory, for `checkmate check` and `checkmate fork`."""

from typing import Any, ClassVar

from checkmate import BaseStage, BaseStageState, CheckMate, StageChanges, TaskIO


class Report(BaseStageState):
    pages: int = 1
    title: str | None = None


class LaterReport(Report):
    schema_version: ClassVar[int] = 2

    @classmethod
    def migrate(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        return data


class Draw(BaseStage[Report]):
    state: Report = Report()
    fails: bool = False

    def execute_stage(self, previous_state_copy: Report) -> None:
        if self.fails:
            raise ValueError("no")
        self.state.result = f"{self.state.title} {self.state.pages}"


def draws(*names: str, fails: str = "", state: Report | None = None) -> list[Draw]:
    return [Draw(stage_name=name, fails=name == fails, state=state or Report()) for name in names]


def cm_factory_first(url: str | TaskIO, task_id: str, fails: str = "") -> CheckMate[Draw, str]:
    return CheckMate[Draw, str](url, task_id, draws("draw", "bind", "send", fails=fails))


def cm_factory_second(io: str, id: str) -> CheckMate[Draw, str]:  # noqa: A002
    changes = StageChanges(renamed={"send": "mail"})
    return CheckMate[Draw, str](io, id, draws("draw", "bind", "mail"), changes=changes)


def third(task_id: str) -> CheckMate[Draw, str]:
    return CheckMate[Draw, str]("memory://", task_id, draws("draw", "mail"))


def fourth() -> CheckMate[Draw, str]:
    return CheckMate[Draw, str]("memory://", None, draws("draw", "bind", "send", state=LaterReport()))


def needs_more(url: str, customer: str) -> CheckMate[Draw, str]:
    raise NotImplementedError
