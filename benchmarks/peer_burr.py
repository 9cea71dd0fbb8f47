"""The same steps with Burr and its SQLite persister: `pip install burr`."""

import sqlite3
import time
from importlib import import_module
from pathlib import Path
from typing import Any

# Not an import statement, so that types are checked alike whether or not it is installed.
core: Any = import_module("burr.core")
persistence: Any = import_module("burr.core.persistence")


def measure(folder: Path, text: str, stages: int) -> dict[str, float]:
    """Seconds a step, as it comes and with SQLite's write-ahead log; both survive a power cut."""
    folder.mkdir(parents=True)
    return {
        "burr, SQLite as shipped": _measure(folder / "shipped.db", text, stages, wal=False),
        "burr, SQLite WAL": _measure(folder / "wal.db", text, stages, wal=True),
    }


def _measure(path: Path, text: str, stages: int, *, wal: bool) -> float:
    connection = sqlite3.connect(path)
    if wal:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    with persistence.SQLitePersister(str(path), connection=connection) as persister:
        persister.initialize()

        def work(state: Any) -> Any:
            return state.update(text=text, number=state["number"] + 1)

        step = core.action(reads=["number"], writes=["text", "number"])(work)
        end = core.action(reads=[], writes=[])(lambda state: state)

        begin = time.perf_counter()
        application = (
            core.ApplicationBuilder()
            .with_actions(step=step, end=end)
            .with_transitions(("step", "end", core.when(number=stages)), ("step", "step"))
            .with_state(number=0)
            .with_entrypoint("step")
            .with_identifiers(app_id="benchmark")
            .with_state_persister(persister)
            .build()
        )
        application.run(halt_before=["end"])
        taken = time.perf_counter() - begin
        steps = connection.execute("SELECT count(*) FROM burr_state").fetchone()[0]
        assert steps == stages, steps
    return taken / stages
