"""`checkmate recover`: every task of a store that could go on and that nobody works on."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from checkmate.app import app_option, import_apps
from checkmate.cli import StoreCommand, as_json_option, exit_code, print_json, url_argument
from checkmate.interrupts import let_go_when_stopped
from checkmate.tables import situation

if TYPE_CHECKING:
    from checkmate_core import TaskStore, TaskView


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one task.

    Attributes:
        task_id: The task.
        outcome: In a word or two.
        detail: More of it, for people.
        error: What went wrong; None where nothing did.
    """

    task_id: str
    outcome: str
    detail: str = ""
    error: Exception | None = None


@click.command(cls=StoreCommand)
@url_argument
@app_option(required=True)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Run at most so many tasks.")
@click.option("--failed", is_flag=True, help="Run tasks in ERROR as well.")
@as_json_option
@click.pass_context
def recover(
    ctx: click.Context, url: str, apps: tuple[str, ...], limit: int | None, failed: bool, as_json: bool
) -> None:
    """Run every unfinished task that nobody holds, one after another, the oldest first. For cron.

    Left alone, and reported: tasks that somebody holds, suspended ones whose time or event has not come,
    those whose next attempt is not due, and those in ERROR. A task that fails, or whose stages --app does
    not have, does not stop the rest: the exit code is then that of the first of them.
    """
    import_apps(apps)
    from checkmate_core import StorageUnavailableException, TaskStore

    store = TaskStore(url)
    report: list[Recovered] = []
    runs = 0
    with let_go_when_stopped("the same command goes on"):
        for task in store.unfinished():
            found = _left_alone(task, even_failed=failed)
            if found is None and limit is not None and runs >= limit:
                found = Recovered(task.task_id, "not tried", f"--limit {limit} was reached")
            if found is None:
                runs += 1
                found = _run(store, task.task_id)
            report.append(found)
            if not as_json:
                _print(found)
            if isinstance(found.error, StorageUnavailableException):
                # The next task would find the store no better.
                break
    if as_json:
        print_json([_document(each) for each in report])
    elif not report:
        click.echo("no unfinished tasks")
    faults = [each.error for each in report if each.error is not None]
    if faults:
        ctx.exit(exit_code(faults[0]))


def _left_alone(task: "TaskView", *, even_failed: bool) -> Recovered | None:
    """Why a task is not to be run now; None if it is."""
    from checkmate_core import CorruptObjectException, StageStatus

    if task.fault is not None:
        return Recovered(task.task_id, "unreadable", task.fault, CorruptObjectException(task.fault))
    if task.status is StageStatus.ERROR and not even_failed:
        return Recovered(task.task_id, "in error", situation(task))
    if task.status is StageStatus.SUSPENDED and not task.is_due:
        return Recovered(task.task_id, "suspended", situation(task))
    retry_at = task.current.notes.retry_at if task.current else None
    if task.status is StageStatus.RETRY and retry_at is not None and retry_at > datetime.now(UTC):
        return Recovered(task.task_id, "waits", situation(task))
    return None


def _run(store: "TaskStore", task_id: str) -> Recovered:
    from checkmate_core import (
        BindException,
        CheckMate,
        LockLostException,
        PersistenceDataNotFoundException,
        TaskCanceledException,
        TaskEngineException,
        TaskRolledBackException,
        TaskSuspendedException,
    )

    try:
        # Whether its holder is dead is found out by the attempt to take its lock.
        result = CheckMate[Any, Any].load(store.io, task_id).run()
    except TaskSuspendedException as exc:
        return Recovered(task_id, "suspended", str(exc))
    except TaskCanceledException:
        return Recovered(task_id, "canceled")
    except TaskRolledBackException:
        return Recovered(task_id, "rolled back")
    except PersistenceDataNotFoundException:
        return Recovered(task_id, "removed", "by somebody else")
    except LockLostException as exc:
        return Recovered(task_id, "lost", str(exc), exc)
    except BindException as exc:
        return Recovered(task_id, "held", str(exc))
    except TaskEngineException as exc:
        return Recovered(task_id, "failed", str(exc), exc)
    return Recovered(task_id, "complete", f"result {result!r}")


def _print(found: Recovered) -> None:
    line = f"{found.outcome}: {found.task_id}" + (f", {found.detail}" if found.detail else "")
    click.echo(f"checkmate: {line}" if found.error else line, err=found.error is not None)


def _document(found: Recovered) -> dict[str, Any]:
    return {
        "task_id": found.task_id,
        "outcome": found.outcome,
        "detail": found.detail,
        "error": str(found.error) if found.error else None,
    }
