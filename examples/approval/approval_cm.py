"""An expense claim that waits for a person: nothing runs, and nothing is held, until the answer is there.

reserve → approve → pay, and if the claim is rejected: release the reserved budget

What to copy for an approval of your own:

- The stage that asks raises `Suspend` and so ends the process. ``event`` is what it waits for, ``until`` when
  it stops waiting. The state is stored with it: here, the deadline.
- It is executed again from its beginning once the answer or the deadline has come. The answer is in the
  state attribute of the event's name, validated by its type: an answer that does not fit changes nothing,
  and can be sent again.
- A no is an exception that is not retried. With ``on_error="compensate"`` it undoes what came before.

Run it with ``python approval_cm.py URL CLAIM``, answer with ``checkmate signal``, and run it again.
"""

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMate,
    StageFailedException,
    Suspend,
    TaskIO,
    TaskRolledBackException,
    TaskSuspendedException,
    open_task_io,
)
from checkmate_core.testing import CountingTaskIO


class Decision(BaseModel):
    """What the person says.

    Attributes:
        approved: Yes or no.
        by: Who says so.
        amount: What is approved, if it is less than was claimed.
        reason: Why.
    """

    model_config = ConfigDict(extra="forbid")

    approved: bool
    by: str
    amount: int | None = Field(default=None, gt=0)
    reason: str = ""


class RejectedError(Exception):
    """Somebody said no, or nobody said anything in time."""


class ClaimState(BaseStageState):
    """What the three stages know together.

    Attributes:
        amount: What is claimed.
        deadline: When the answer must be there.
        decision: The answer.
    """

    amount: int | None = None
    deadline: AwareDatetime | None = None
    decision: Decision | None = None


class ClaimStage(BaseStage[ClaimState]):
    """What the three stages share: a folder in which a claim has one file, named after its standing."""

    state: ClaimState = Field(default_factory=ClaimState)
    budget: Path = Field(description="Folder of the budget")

    def entry(self, standing: str) -> Path:
        return self.budget / f"{self.engine.task_id}.{standing}"


class Reserve(ClaimStage):
    """Set the budget aside."""

    stage_name: str = "reserve"

    def execute_stage(self, previous_state_copy: ClaimState) -> None:
        self.state.require("amount")
        self.budget.mkdir(parents=True, exist_ok=True)
        self.entry("reserved").write_text(str(self.state.amount))

    def rollback_stage(self, previous_state_copy: ClaimState) -> None:
        self.entry("reserved").unlink(missing_ok=True)


class Approve(ClaimStage):
    """Ask a person, and let go of the task until the answer or the deadline comes."""

    stage_name: str = "approve"
    patience: timedelta = Field(default=timedelta(days=7), description="How long the person has")

    def execute_stage(self, previous_state_copy: ClaimState) -> None:
        if self.state.deadline is None:
            self.state.deadline = datetime.now(UTC) + self.patience
            # Here a real one sends the mail that asks. It may be sent twice, if the process dies just now.
            raise Suspend(event="decision", until=self.state.deadline)
        decision = self.state.decision
        if decision is None:
            raise RejectedError(f"nobody answered by {self.state.deadline:%Y-%m-%d %H:%M:%S %Z}")
        if not decision.approved:
            raise RejectedError(f"{decision.by} said no: {decision.reason or 'no reason given'}")


class Pay(ClaimStage):
    """Pay what was approved: the file changes its name, which happens once."""

    stage_name: str = "pay"

    def execute_stage(self, previous_state_copy: ClaimState) -> None:
        self.state.require("amount", "decision")
        decision, claimed = self.state.decision, self.state.amount or 0
        amount = min(claimed, (decision and decision.amount) or claimed)
        if not self.entry("paid").exists():
            self.entry("reserved").write_text(str(amount))
            os.replace(self.entry("reserved"), self.entry("paid"))
        self.state.result = f"paid {amount} of {claimed}, approved by {decision and decision.by}"


def cm_factory_approval(
    url: TaskIO | str,
    claim: str | None,
    budget: str | Path,
    amount: int | None = None,
    *,
    patience: timedelta = timedelta(days=7),
    **options: Any,
) -> CheckMate[ClaimStage, str]:
    """The claim, ready to run.

    Args:
        url: Where the task's state is stored.
        claim: The claim, which is the task; one that exists is resumed.
        budget: Folder of the budget.
        amount: What is claimed; needed once.
        patience: How long the person has.
        **options: More arguments of CheckMate.

    Returns:
        A task whose ``run()`` returns what was paid.
    """
    folder = Path(budget).resolve()
    stages: list[ClaimStage] = [
        Reserve(budget=folder, state=ClaimState(amount=amount)),
        Approve(budget=folder, patience=patience),
        Pay(budget=folder),
    ]
    return CheckMate(url, claim, stages, on_error="compensate", **options)


def main() -> int:
    """Run the claim from a shell.

    Returns:
        0 if it was paid, 1 if it was rejected, 7 if it waits.
    """
    parser = argparse.ArgumentParser(description="Claim expenses, durably.")
    parser.add_argument("url", help="where the task's state is stored: a folder, file:///…, s3://…")
    parser.add_argument("claim", help="name of the claim")
    parser.add_argument("--budget", default="budget", help="folder of the budget (default: %(default)s)")
    parser.add_argument("--amount", type=int, default=120, help="what is claimed (default: %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=7 * 86400.0, help="seconds until it is rejected (a week)"
    )
    arguments = parser.parse_args()
    io = CountingTaskIO(open_task_io(arguments.url))
    task = cm_factory_approval(
        io,
        arguments.claim,
        arguments.budget,
        arguments.amount,
        patience=timedelta(seconds=arguments.patience),
    )
    try:
        print(f"{arguments.claim}: {task.run()}")
        status = 0
    except TaskSuspendedException as exc:
        print(exc)
        status = 7
    except (StageFailedException, TaskRolledBackException) as exc:
        print(f"{arguments.claim} is rejected, and its budget released: {exc.__cause__ or exc}")
        status = 1
    print(f"storage requests of this process: {io.counts.total}")
    return status


if __name__ == "__main__":
    sys.exit(main())
