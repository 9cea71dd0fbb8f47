"""A pipeline that waits for a decision; what it does is told in files, for it runs in other processes, too."""

import os
import time
from pathlib import Path
from typing import Any

from checkmate import BaseStage, BaseStageState, CheckMate, RetryPolicy, Suspend


class Order(BaseStageState):
    place: str = ""
    trail: list[str] | None = None
    decision: dict[str, Any] | None = None
    slow: bool = False


class OrderStage(BaseStage[Order]):
    state: Order = Order()

    def tell(self, what: str) -> None:
        if self.state.place:
            with (Path(self.state.place) / "log").open("a") as log:
                log.write(f"{what} {self.stage_name}\n")

    def rollback_stage(self, previous_state_copy: Order) -> None:
        self.tell("undo")

    def cancel(self) -> None:
        self.tell("cancel")


class Reserve(OrderStage):
    stage_name: str = "reserve"

    def execute_stage(self, previous_state_copy: Order) -> None:
        self.tell("do")
        if self.state.slow and not (Path(self.state.place) / "hurry").exists():
            self.progress(1, 4, "packing")
            self.checkpoint()
            (Path(self.state.place) / "ready").touch()
            for _ in range(6000):
                time.sleep(0.01)
                self.check_alive()
        if "FAIL" in os.environ:
            raise ValueError(os.environ["FAIL"])


class Ask(OrderStage):
    stage_name: str = "ask"

    def execute_stage(self, previous_state_copy: Order) -> None:
        if self.state.decision is None:
            raise Suspend(event="decision")
        self.tell("do")


class Ship(OrderStage):
    stage_name: str = "ship"

    def execute_stage(self, previous_state_copy: Order) -> None:
        self.tell("do")
        self.state.result = self.state.decision


def cm_factory_steered(
    url: str, task_id: str, state: Order | None = None, **options: Any
) -> CheckMate[Any, Any]:
    stages = [Reserve(state=state or Order()), Ask(), Ship()]
    return CheckMate(url, task_id, stages, **options)


def retrying(url: str, task_id: str) -> CheckMate[Any, Any]:
    return cm_factory_steered(url, task_id, retry_policy=RetryPolicy.fixed(3600), max_attempts=2)
