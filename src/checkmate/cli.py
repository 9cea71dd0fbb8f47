"""The command line.

`checkmate ls | show | dump | unlock | signal | cancel | rollback | resume | recover | fork` for tasks,
`check | copy | doctor | reseal` for stores, and `demo | version`.

Exit codes: 0 done, 1 the task failed, or any other error, 2 wrong usage, 3 no such task, 4 locked or
lost to another owner, or an event that waits already, 5 the store failed or may not hold locks, 6 the
stored task does not fit, 7 the task is suspended, 8 it was canceled or rolled back, 130 and 143 stopped
by SIGINT and SIGTERM. Results go to stdout, errors to stderr.
"""

import json
import os
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from checkmate_core import StageView, TaskView

# Listed by name so that no command pays for the imports of another.
_LAZY = {
    "cancel": ("checkmate.letters", "cancel"),
    "check": ("checkmate.check", "check"),
    "copy": ("checkmate.copy", "copy"),
    "demo": ("checkmate.demo", "demo"),
    "doctor": ("checkmate.doctor", "doctor"),
    "fork": ("checkmate.fork", "fork"),
    "recover": ("checkmate.recover", "recover"),
    "reseal": ("checkmate.reseal", "reseal"),
    "resume": ("checkmate.resume", "resume"),
    "rollback": ("checkmate.resume", "rollback"),
    "signal": ("checkmate.letters", "signal"),
}


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_LAZY})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _LAZY:
            module, attribute = _LAZY[cmd_name]
            command: click.Command = getattr(import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        from checkmate_core import TaskEngineException

        try:
            return super().invoke(ctx)
        except TaskEngineException as exc:
            click.echo(f"checkmate: {exc}", err=True)
            ctx.exit(exit_code(exc))


class StoreCommand(click.Command):
    """A command whose first argument is a store, for which CHECKMATE_URL can stand in."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        expected = sum(isinstance(param, click.Argument) for param in self.params)
        url = os.environ.get("CHECKMATE_URL")
        if url and self._count_arguments(args) == expected - 1:
            args = [url, *args]
        return super().parse_args(ctx, args)

    def _count_arguments(self, args: list[str]) -> int:
        options = [param for param in self.params if isinstance(param, click.Option) and not param.is_flag]
        with_value = {name for option in options for name in option.opts}
        count, rest = 0, iter(args)
        for arg in rest:
            if arg == "--":
                return count + len(list(rest))
            if arg in with_value:
                next(rest, None)
            elif not arg.startswith("-"):
                count += 1
        return count


url_argument = click.argument("url")
task_argument = click.argument("task_id", metavar="TASK")
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group(cls=_Group)
@click.version_option(package_name="checkmate")
def main() -> None:
    """Durable execution with nothing but a bucket: look at the tasks of a store, steer them, run them.

    URL is a store: file:///srv/jobs, a plain path, or s3://bucket/jobs. Where the environment
    variable CHECKMATE_URL is set, URL can be left out.
    """


@main.command(cls=StoreCommand)
@url_argument
@as_json_option
def ls(url: str, as_json: bool) -> None:
    """List the tasks of a store, unfinished ones first."""
    from checkmate_core import TaskStore

    tasks = TaskStore(url).list()
    if as_json:
        print_json([_summary(task) for task in tasks])
        return
    from checkmate.tables import print_tasks

    print_tasks(tasks)


@main.command(cls=StoreCommand)
@url_argument
@task_argument
@as_json_option
def show(url: str, task_id: str, as_json: bool) -> None:
    """Show one task: its stages, attempts and history."""
    from checkmate_core import TaskStore

    task = TaskStore(url).get(task_id)
    if as_json:
        print_json({**_summary(task), "url": task.url, "stages": [_stage(stage) for stage in task.stages]})
        return
    from checkmate.tables import print_task

    print_task(task)


@main.command(cls=StoreCommand)
@url_argument
@task_argument
@as_json_option
def dump(url: str, task_id: str, as_json: bool) -> None:
    """Print all that is stored of a task: as Markdown with every state, or as the stored JSON."""
    from checkmate_core import TaskStore

    store = TaskStore(url)
    if as_json:
        print_json(store.dump(task_id))
        return
    click.echo(store.render(task_id), nl=False)


@main.command(cls=StoreCommand)
@url_argument
@task_argument
@as_json_option
def unlock(url: str, task_id: str, as_json: bool) -> None:
    """Release a task's lock. Make sure that its holder is dead or stopped."""
    from checkmate_core import TaskStore

    holder = TaskStore(url).unlock(task_id)
    if as_json:
        print_json({"task_id": task_id, "released": holder})
    else:
        click.echo(f"released: {task_id} was held by {holder}" if holder else f"{task_id} was not locked")


@main.command()
@as_json_option
def version(as_json: bool) -> None:
    """Print the version, and the URL schemes that can be opened."""
    from checkmate_core import __version__
    from checkmate_core.io.registry import known_schemes

    schemes = known_schemes()
    if as_json:
        print_json({"version": __version__, "schemes": schemes})
    else:
        click.echo(f"checkmate {__version__} ({', '.join(f'{scheme}://' for scheme in schemes)})")


def print_json(document: object) -> None:
    """Print a result for programs."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _summary(task: "TaskView") -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "status": task.status,
        "stages_complete": task.stages_complete,
        "stages_total": len(task.stages),
        "created": _iso(task.created),
        "ended": _iso(task.ended),
        "holder": task.holder,
        "is_removing": task.is_removing,
        "result": task.result,
        "fault": task.fault,
        "current": task.current.name if task.current else None,
        "waits_for": _waits_for(task),
        "retry_at": _iso(task.current.notes.retry_at if task.current else None),
        "progress": task.progress.model_dump(mode="json") if task.progress else None,
        "interruptions": task.current.notes.interruptions if task.current else 0,
    }


def _waits_for(task: "TaskView") -> dict[str, Any] | None:
    if task.suspension is None or task.current is None:
        return None
    return {
        "event": task.suspension.event,
        "until": _iso(task.suspension.until),
        "since": _iso(task.current.history[-1].end),
        "is_due": task.is_due,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _stage(stage: "StageView") -> dict[str, Any]:
    return {
        "name": stage.name,
        "class": stage.class_name,
        "status": stage.status,
        "attempts": stage.attempts,
        "epoch": stage.epoch,
        "url": stage.url,
        "state": stage.state,
        "notes": stage.notes.model_dump(mode="json"),
        "history": [entry.model_dump(mode="json") for entry in stage.history],
    }


def exit_code(exc: Exception) -> int:
    """What the command line says of an error to scripts."""
    from checkmate_core import (
        BindException,
        IncompatibleTaskException,
        PersistenceDataNotFoundException,
        TaskCanceledException,
        TaskIOException,
        TaskRolledBackException,
        TaskSuspendedException,
        VersionConflictException,
    )

    codes: list[tuple[type[Exception] | tuple[type[Exception], ...], int]] = [
        (PersistenceDataNotFoundException, 3),
        ((BindException, VersionConflictException), 4),
        (TaskIOException, 5),
        (IncompatibleTaskException, 6),
        (TaskSuspendedException, 7),
        ((TaskCanceledException, TaskRolledBackException), 8),
    ]
    return next((code for classes, code in codes if isinstance(exc, classes)), 1)
