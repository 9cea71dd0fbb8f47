"""The pipeline of the service: a CSV of payments goes into a database, once, whatever dies meanwhile."""

import csv
import io
import sqlite3
from contextlib import closing
from decimal import Decimal

from pydantic import Field

from checkmate import BaseStage, BaseStageState, CheckMate, RetryPolicy, TaskIO


class ImportState(BaseStageState):
    text: str | None = None
    payments: list[tuple[str, Decimal]] | None = None
    loaded: int | None = None
    total: Decimal | None = None


class Parse(BaseStage[ImportState]):
    stage_name: str = "parse"
    state: ImportState = ImportState()

    def execute_stage(self, previous_state_copy: ImportState) -> None:
        self.state.require("text")
        rows = csv.reader(io.StringIO(self.state.text))
        self.state.payments = [(name, Decimal(amount)) for name, amount in rows]


class Load(BaseStage[ImportState]):
    """Writes the payments in one transaction that replaces what an earlier attempt wrote.

    The fencing token in the batch's row refuses a worker that has lost the task and does not know it.
    """

    stage_name: str = "load"
    state: ImportState = ImportState()
    database: str = Field(default="", exclude=True)

    def execute_stage(self, previous_state_copy: ImportState) -> None:
        self.state.require("payments")
        payments, batch = self.state.payments or [], self.engine.task_id
        with closing(sqlite3.connect(self.database)) as database, database:
            claimed = database.execute(
                "INSERT INTO batch VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET fence = excluded.fence "
                "WHERE excluded.fence >= batch.fence",
                (batch, self.engine.fencing_token),
            )
            if claimed.rowcount != 1:
                self.check_alive()
                raise RuntimeError(f"batch {batch} belongs to a newer worker")
            database.execute("DELETE FROM payment WHERE batch = ?", (batch,))
            database.executemany(
                "INSERT INTO payment VALUES (?, ?, ?)",
                [(batch, name, str(amount)) for name, amount in payments],
            )
        self.state.loaded = len(payments)


class Sum(BaseStage[ImportState]):
    stage_name: str = "sum"
    state: ImportState = ImportState()

    def execute_stage(self, previous_state_copy: ImportState) -> None:
        self.state.require("payments", "loaded")
        self.state.total = sum((amount for _, amount in self.state.payments or []), Decimal(0))
        self.state.result = f"{self.state.loaded} payments, {self.state.total}"


def prepare_database(path: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS batch (id TEXT PRIMARY KEY, fence INTEGER NOT NULL)")
        database.execute("CREATE TABLE IF NOT EXISTS payment (batch TEXT, name TEXT, amount TEXT)")


def cm_factory_imports(
    io: TaskIO | str, task_id: str | None, database: str, text: str | None = None
) -> CheckMate[BaseStage[ImportState], str]:
    return CheckMate(
        io,
        task_id,
        [Parse(state=ImportState(text=text)), Load(database=database), Sum()],
        retry_policy=RetryPolicy.exponential(0.1, cap=5.0, retry_on=sqlite3.OperationalError),
        max_attempts=5,
    )
