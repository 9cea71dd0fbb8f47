"""The shop's database. It knows nothing of CheckMate; its steps can be done and undone any number of times.

A step belongs to an order, and is active or not. Doing an active step again changes nothing, and neither
does undoing one that is not: the name of the step is its idempotency key. Each change is one transaction,
which also compares the caller's fencing token with the highest that was seen for the order: a worker that
lost the order, and does not know it yet, changes nothing any more.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

_TABLES = """
CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, left INTEGER NOT NULL CHECK (left >= 0));
CREATE TABLE IF NOT EXISTS account (customer TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0));
CREATE TABLE IF NOT EXISTS parcel (order_id TEXT PRIMARY KEY, address TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS step (order_id TEXT, name TEXT, active INTEGER NOT NULL, PRIMARY KEY (order_id, name));
CREATE TABLE IF NOT EXISTS fence (order_id TEXT PRIMARY KEY, token INTEGER NOT NULL);
"""


class RefusedError(Exception):
    """The shop cannot do this, however often it is asked."""


class StaleWorkerError(Exception):
    """A newer worker has the order."""


class Shop:
    """One order's view of the shop.

    Args:
        path: The database.
        order_id: The order.
        token: The worker's fencing token.
    """

    def __init__(self, path: str, order_id: str, token: int | None) -> None:
        self._path = path
        self._order = order_id
        self._token = token or 0

    def reserve(self, item: str, count: int) -> None:
        with self._changing("reserve", active=True) as (database, is_new):
            if is_new and not _changed(
                database, "UPDATE stock SET left = left - ? WHERE item = ? AND left >= ?", count, item, count
            ):
                raise RefusedError(f"there are not {count} of {item!r} in stock")

    def unreserve(self, item: str, count: int) -> None:
        with self._changing("reserve", active=False) as (database, is_new):
            if is_new:
                database.execute("UPDATE stock SET left = left + ? WHERE item = ?", (count, item))

    def charge(self, customer: str, cents: int) -> None:
        with self._changing("charge", active=True) as (database, is_new):
            if is_new and not _changed(
                database,
                "UPDATE account SET cents = cents - ? WHERE customer = ? AND cents >= ?",
                *(cents, customer, cents),
            ):
                raise RefusedError(f"the card of {customer!r} is declined")

    def refund(self, customer: str, cents: int) -> None:
        with self._changing("charge", active=False) as (database, is_new):
            if is_new:
                database.execute("UPDATE account SET cents = cents + ? WHERE customer = ?", (cents, customer))

    def ship(self, address: str) -> None:
        with self._changing("ship", active=True) as (database, is_new):
            if is_new:
                if address == "nowhere":
                    raise RefusedError(f"no carrier goes to {address!r}")
                database.execute("INSERT INTO parcel VALUES (?, ?)", (self._order, address))

    def call_back(self) -> None:
        with self._changing("ship", active=False) as (database, is_new):
            if is_new:
                database.execute("DELETE FROM parcel WHERE order_id = ?", (self._order,))

    @contextmanager
    def _changing(self, step: str, *, active: bool) -> Iterator[tuple[sqlite3.Connection, bool]]:
        """A transaction in which the step is done or undone, and whether that is new."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                self._check_fence(database)
                yield database, self._mark(database, step, active=active)
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise

    def _check_fence(self, database: sqlite3.Connection) -> None:
        if not _changed(
            database,
            "INSERT INTO fence VALUES (?, ?) ON CONFLICT (order_id) DO UPDATE SET token = excluded.token "
            "WHERE excluded.token >= fence.token",
            *(self._order, self._token),
        ):
            raise StaleWorkerError(f"order {self._order} belongs to a newer worker")

    def _mark(self, database: sqlite3.Connection, step: str, *, active: bool) -> bool:
        if active:
            return _changed(
                database,
                "INSERT INTO step VALUES (?, ?, 1) ON CONFLICT (order_id, name) DO UPDATE SET active = 1 "
                "WHERE active = 0",
                *(self._order, step),
            )
        return _changed(
            database,
            "UPDATE step SET active = 0 WHERE order_id = ? AND name = ? AND active = 1",
            *(self._order, step),
        )


def _changed(database: sqlite3.Connection, statement: str, *values: object) -> bool:
    return database.execute(statement, values).rowcount == 1


def open_shop(path: str, stock: dict[str, int], accounts: dict[str, int]) -> None:
    """Make the database, with something to sell and somebody to buy it, unless it is there."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_TABLES)
        with database:
            database.executemany("INSERT OR IGNORE INTO stock VALUES (?, ?)", stock.items())
            database.executemany("INSERT OR IGNORE INTO account VALUES (?, ?)", accounts.items())


def describe_shop(path: str) -> dict[str, dict[str, object]]:
    """What the database holds, for people and tests."""
    tables = {
        "stock": "SELECT item, left FROM stock",
        "accounts": "SELECT customer, cents FROM account",
        "parcels": "SELECT order_id, address FROM parcel",
    }
    with closing(sqlite3.connect(path)) as database:
        return {name: dict(database.execute(query).fetchall()) for name, query in tables.items()}
