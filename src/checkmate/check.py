"""`checkmate check`: what the code of today would make of the tasks in a store. Writes nothing."""

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from checkmate.app import import_apps
from checkmate.cli import StoreCommand, as_json_option, print_json, url_argument

if TYPE_CHECKING:
    from checkmate_core import BindPreview, CheckMateEngine, TaskIO, TaskView

_FACTORY = "cm_factory_"
_FOR_URL = ("url", "io", "store", "base_url")
_FOR_TASK = ("task_id", "id", "task")


@click.command(cls=StoreCommand)
@url_argument
@click.argument("task_ids", metavar="[TASK]...", nargs=-1)
@click.option(
    "--app",
    metavar="MODULE[:FACTORY]",
    required=True,
    help="The application: a dotted name, or a path to a file; FACTORY if it has several.",
)
@as_json_option
@click.pass_context
def check(ctx: click.Context, url: str, task_ids: tuple[str, ...], app: str, as_json: bool) -> None:
    """Tell of each unfinished task whether this application can go on with it.

    A task fits, will be migrated at its next bind (and how), or is refused (what differs, and how to migrate).
    The stages are those that the application's cm_factory_... function makes, called with what it needs of the
    store's URL and a task's id; where there is none, the classes of the stored stages, as `checkmate resume`
    loads them. Nothing is written. The exit code is 6 if any task is refused.
    """
    module, _, factory = app.partition(":")
    import_apps((module,))
    factories = _factories(module, factory)
    from checkmate_core import BindOutcome, TaskStore

    store = TaskStore(url)
    tasks = [store.get(task_id) for task_id in task_ids] if task_ids else store.unfinished()
    previews = [_preview(store.io, task, factories, url) for task in tasks]
    if as_json:
        print_json([_document(each) for each in previews])
    else:
        _print(previews)
    if any(each.outcome is BindOutcome.REFUSED for each in previews):
        ctx.exit(6)


def _factories(module: str, name: str) -> list[Callable[..., Any]]:
    found = _module(module)
    if name:
        factory = getattr(found, name, None)
        if not callable(factory):
            raise click.UsageError(f"--app {module}:{name}: the module has no function {name}")
        if _arguments(factory, "", "") is None:
            raise click.UsageError(
                f"--app {module}:{name}: it needs more than a URL ({', '.join(_FOR_URL)}) and a task's id "
                f"({', '.join(_FOR_TASK)}), so it cannot be called from here; give its other arguments defaults"
            )
        return [factory]
    candidates = [each for key, each in vars(found).items() if key.startswith(_FACTORY) and callable(each)]
    return [each for each in candidates if _arguments(each, "", "") is not None]


def _module(name: str) -> Any:
    """The module, which `import_apps` has imported, by its dotted name or the path of its file."""
    if not name.endswith(".py"):
        return sys.modules[name]
    from pathlib import Path

    path = Path(name).resolve()
    files = {each: getattr(each, "__file__", None) for each in list(sys.modules.values())}
    return next(each for each, file in files.items() if file is not None and Path(file).resolve() == path)


def _arguments(factory: Callable[..., Any], url: str, task_id: str) -> dict[str, str] | None:
    """What to call it with; None if it needs what is not known here."""
    arguments = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if name in _FOR_URL:
            arguments[name] = url
        elif name in _FOR_TASK:
            arguments[name] = task_id
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            return None
    return arguments


def _preview(
    io: "TaskIO", task: "TaskView", factories: Sequence[Callable[..., Any]], url: str
) -> "BindPreview":
    from checkmate_core import BindOutcome, CheckMate, IncompatibleTaskException, TaskEngineException
    from checkmate_core.changing.dry_run import preview_bind, refused

    if task.fault is not None:
        return refused(task.task_id, task.fault)
    try:
        engines: list[CheckMateEngine[Any, Any]] = [
            each(**(_arguments(each, url, task.task_id) or {})) for each in factories
        ] or [CheckMate[Any, Any].load(io, task.task_id)]
    except IncompatibleTaskException as exc:
        return refused(task.task_id, str(exc))
    except TaskEngineException as exc:
        raise click.ClickException(f"the application's factory failed: {exc}") from exc
    previews = [
        preview_bind(io, task.task_id, each.task_state.stage_templates, each.stage_changes)
        for each in sorted(engines, key=lambda each: -_likeness(each, task))
    ]
    fitting = [each for each in previews if each.outcome is not BindOutcome.REFUSED]
    return min(fitting, key=lambda each: each.outcome is BindOutcome.MIGRATED) if fitting else previews[0]


def _likeness(engine: "CheckMateEngine[Any, Any]", task: "TaskView") -> int:
    """How many stages an application's task has in common with a stored one."""
    own = {stage.stage_name for stage in engine.task_state.stage_templates}
    classes = set(engine.task_state.stage_template_classes)
    return sum((stage.name in own) + (stage.class_name in classes) for stage in task.stages)


def _print(previews: Sequence["BindPreview"]) -> None:
    if not previews:
        click.echo("no unfinished tasks")
    for each in previews:
        click.echo(f"{each.task_id} {each.outcome}")
        for line in each.changes:
            click.echo(f"  {line}")
        if each.refusal is not None:
            click.echo(f"  {each.refusal}")


def _document(preview: "BindPreview") -> dict[str, Any]:
    return {
        "task_id": preview.task_id,
        "outcome": preview.outcome,
        "changes": list(preview.changes),
        "refusal": preview.refusal,
    }
