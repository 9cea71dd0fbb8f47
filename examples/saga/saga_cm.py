"""An order as a saga over a database: it ends either shipped or wholly undone, whatever dies meanwhile.

reserve → charge → ship, and if one of them fails for good: call back ← refund ← unreserve

What to copy for a saga of your own:

- ``on_error="compensate"``: the stages that are complete are rolled back in reverse order, each of them
  stored before the next. A process that dies on the way back is followed by another that goes on there.
- Doing and undoing are idempotent, by a key that does not change from one attempt to the next. A step
  that was undone can be done again: an interrupted stage is rolled back before it is executed again.
- The fencing token goes along and is compared in the database: a paused worker that wakes up after another
  took the order over changes nothing.
- What failed but may work next time is retried; what is refused is not.

Run it with ``python saga_cm.py URL ORDER``; kill it anywhere, and run it again.
"""

import argparse
import os
import signal
import sqlite3
import sys
from typing import Any

from pydantic import Field
from saga_shop import Shop, describe_shop, open_shop

from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMate,
    RetryPolicy,
    StageEvent,
    StageFailedException,
    TaskIO,
    TaskRolledBackException,
    open_task_io,
)
from checkmate_core.testing import CountingTaskIO


class OrderState(BaseStageState):
    """What the three stages know together.

    Attributes:
        item: What is ordered.
        count: How many of it.
        customer: Who pays.
        cents: How much.
        address: Where it goes.
    """

    item: str | None = None
    count: int = 1
    customer: str | None = None
    cents: int = 0
    address: str | None = None


class OrderStage(BaseStage[OrderState]):
    """What the three stages share."""

    state: OrderState = Field(default_factory=OrderState)
    database: str = Field(description="Path of the shop's database")

    @property
    def shop(self) -> Shop:
        return Shop(self.database, self.engine.task_id, self.engine.fencing_token)


class Reserve(OrderStage):
    """Take the goods off the shelf."""

    stage_name: str = "reserve"

    def execute_stage(self, previous_state_copy: OrderState) -> None:
        self.state.require("item")
        self.shop.reserve(str(self.state.item), self.state.count)

    def rollback_stage(self, previous_state_copy: OrderState) -> None:
        self.shop.unreserve(str(self.state.item), self.state.count)


class Charge(OrderStage):
    """Take the money."""

    stage_name: str = "charge"

    def execute_stage(self, previous_state_copy: OrderState) -> None:
        self.state.require("customer")
        self.shop.charge(str(self.state.customer), self.state.cents)

    def rollback_stage(self, previous_state_copy: OrderState) -> None:
        self.shop.refund(str(self.state.customer), self.state.cents)


class Ship(OrderStage):
    """Hand the parcel to a carrier."""

    stage_name: str = "ship"

    def execute_stage(self, previous_state_copy: OrderState) -> None:
        self.state.require("address")
        self.shop.ship(str(self.state.address))
        self.state.result = f"shipped to {self.state.address}"

    def rollback_stage(self, previous_state_copy: OrderState) -> None:
        self.shop.call_back()


def cm_factory_saga(
    url: TaskIO | str,
    order_id: str | None,
    database: str,
    order: OrderState | None = None,
    **options: Any,
) -> CheckMate[OrderStage, str]:
    """The order, ready to run.

    Args:
        url: Where the task's state is stored.
        order_id: The order, which is the task; one that exists is resumed.
        database: The shop's database.
        order: What is ordered; needed once.
        **options: More arguments of CheckMate.

    Returns:
        A task whose ``run()`` returns where the order was shipped to.
    """
    return CheckMate(
        url,
        order_id,
        [
            Reserve(database=database, state=order or OrderState()),
            Charge(database=database),
            Ship(database=database),
        ],
        retry_policy=RetryPolicy.exponential(0.1, cap=5.0, retry_on=sqlite3.OperationalError),
        max_attempts=5,
        on_error="compensate",
        **options,
    )


def main() -> int:
    """Run the order from a shell.

    Returns:
        0 if it was shipped, 1 if it was undone.
    """
    parser = argparse.ArgumentParser(description="Sell something, durably.")
    parser.add_argument("url", help="where the task's state is stored: a folder, file:///…, s3://…")
    parser.add_argument("order", help="name of the order")
    parser.add_argument("--database", default="shop.sqlite", help="the shop (default: %(default)s)")
    parser.add_argument("--count", type=int, default=2, help="how many lamps of 45.00 (default: %(default)s)")
    parser.add_argument(
        "--address", default="12 Elm Street", help="'nowhere' has no carrier (default: %(default)s)"
    )
    parser.add_argument(
        "--kill-at",
        metavar="STAGE:STATUS",
        help="SIGKILL once this is stored, as in ship:RUNNING, charge:ROLLED_BACK",
    )
    arguments = parser.parse_args()
    open_shop(arguments.database, {"lamp": 10}, {"ada": 20000})

    def watch(event: StageEvent) -> None:
        print(f"{event.stage_name}: {event.status}: {event.message}", flush=True)
        if f"{event.stage_name}:{event.status}" == arguments.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    io = CountingTaskIO(open_task_io(arguments.url))
    order = OrderState(
        item="lamp",
        count=arguments.count,
        customer="ada",
        cents=4500 * arguments.count,
        address=arguments.address,
    )
    task = cm_factory_saga(io, arguments.order, arguments.database, order, observers=[watch])
    status = 0
    try:
        print(f"order {arguments.order}: {task.run()}")
    except (StageFailedException, TaskRolledBackException) as exc:
        print(f"order {arguments.order} was undone: {exc}")
        status = 1
    print(describe_shop(arguments.database))
    print(f"storage requests of this process: {io.counts.total}")
    return status


if __name__ == "__main__":
    sys.exit(main())
