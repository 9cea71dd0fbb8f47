"""`checkmate signal` and `checkmate cancel`: letters to a task, which need no lock."""

import json
from typing import Any

import click

from checkmate.app import app_option, import_apps
from checkmate.cli import StoreCommand, as_json_option, print_json, task_argument, url_argument


@click.command(cls=StoreCommand)
@url_argument
@task_argument
@click.argument("event")
@click.option("--data", metavar="JSON", help="What the event says. Without it: null.")
@click.option("--replace", is_flag=True, help="Replace an event of that name that was not taken yet.")
@as_json_option
def signal(url: str, task_id: str, event: str, data: str | None, replace: bool, as_json: bool) -> None:
    """Send an event to a task, for a stage that waits for it, or will.

    The task takes it when it is run next, once. Exit code 4: an event of that name waits already.
    """
    from checkmate_core import TaskStore

    try:
        parsed: Any = None if data is None else json.loads(data)
    except ValueError as exc:
        raise click.BadParameter(
            f"no JSON: {exc}. A text needs its quotes, as in --data '\"yes\"'", param_hint="--data"
        ) from exc
    store = TaskStore(url)
    store.signal(task_id, event, parsed, replace=replace)
    if as_json:
        print_json({"task_id": task_id, "event": event, "data": parsed})
    else:
        click.echo(f"sent: {task_id} gets event {event!r} when it is run next")


@click.command(cls=StoreCommand)
@url_argument
@task_argument
@click.option("--reason", default="", help="Why; kept with the request.")
@app_option(required=False)
@as_json_option
def cancel(url: str, task_id: str, reason: str, apps: tuple[str, ...], as_json: bool) -> None:
    """Cancel a task: at once if nobody holds it and --app has its stages, else by a request.

    A worker that holds the task sees the request at the next renewal of its lock (a third of the lease) or
    at a checkpoint. If nobody holds it, the next run cancels it.
    """
    import_apps(apps)
    from checkmate_core import (
        BindException,
        CheckMate,
        InvalidTransitionException,
        LockLostException,
        TaskStore,
    )
    from checkmate_core.status import CANCELABLE_STATES

    store = TaskStore(url)
    task = store.get(task_id)
    if task.status not in CANCELABLE_STATES:
        raise InvalidTransitionException(
            f"task {task_id} is {task.status} and cannot be canceled. What is in ERROR can be resumed, or rolled back "
            "(`checkmate rollback`)"
        )
    store.request_cancel(task_id, reason)
    holder = store.get(task_id).holder
    if apps:
        try:
            CheckMate[Any, Any].load(store.io, task_id).cancel()
        except LockLostException:
            raise
        except BindException:
            holder = store.get(task_id).holder or holder or "another worker"
        else:
            _tell(task_id, "canceled", None, f"canceled: {task_id}", as_json=as_json)
            return
    if holder is None:
        _tell(
            task_id,
            "requested",
            None,
            f"requested: nobody holds {task_id}, so the next run cancels it. To have it at once, name the module of its "
            "stages: --app MODULE",
            as_json=as_json,
        )
    else:
        _tell(
            task_id,
            "requested",
            holder,
            f"requested: {task_id} is held by {holder}, who sees it at the next renewal of the lock or checkpoint",
            as_json=as_json,
        )


def _tell(task_id: str, outcome: str, holder: str | None, sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"task_id": task_id, "outcome": outcome, "holder": holder})
    else:
        click.echo(sentence)
