"""`checkmate resume` and `checkmate rollback`: one task, forwards and backwards."""

from typing import Any

import click

from checkmate.app import app_option, import_apps
from checkmate.cli import StoreCommand, as_json_option, print_json, task_argument, url_argument
from checkmate.interrupts import let_go_when_stopped

_wait = click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Seconds to wait for the task's lock.  [default: none]",
)


@click.command(cls=StoreCommand)
@url_argument
@task_argument
@app_option(required=True)
@_wait
@as_json_option
def resume(url: str, task_id: str, apps: tuple[str, ...], wait: float | None, as_json: bool) -> None:
    """Run a task here, from its first stage that is not complete.

    A stage that was in flight when its process died is executed again. Ctrl-C and SIGTERM let the task go,
    to be resumed anywhere. Exit code 7: it waits for a time or an event.
    """
    import_apps(apps)
    from checkmate_core import CheckMate

    with let_go_when_stopped(f"task {task_id} can be resumed"):
        task = CheckMate[Any, Any].load(url, task_id)
        result = task.run(wait)
    if as_json:
        stored = task.state.model_dump(mode="json", include={"result"})
        print_json({"task_id": task_id, "status": task.status, **stored})
    else:
        click.echo(f"{task.status}: {task_id}, result {result!r}")


@click.command(cls=StoreCommand)
@url_argument
@task_argument
@app_option(required=True)
@_wait
@as_json_option
def rollback(url: str, task_id: str, apps: tuple[str, ...], wait: float | None, as_json: bool) -> None:
    """Roll a task back: every stage that was begun, the last one first. Then it is finished.

    Interrupted, the same command goes on, and so does a resume.
    """
    import_apps(apps)
    from checkmate_core import CheckMate

    with let_go_when_stopped(f"the same command goes on rolling back task {task_id}"):
        task = CheckMate[Any, Any].load(url, task_id, bind_lock_timeout=wait)
        task.rollback()
    if as_json:
        print_json({"task_id": task_id, "status": task.status})
    else:
        click.echo(f"{task.status}: {task_id}")
