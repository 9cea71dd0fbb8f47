"""`checkmate fork`: a new task from a completed stage of an old one."""

import json
from typing import Any

import click

from checkmate.app import app_option, import_apps
from checkmate.cli import StoreCommand, as_json_option, print_json, task_argument, url_argument


@click.command(cls=StoreCommand)
@url_argument
@task_argument
@click.option("--from", "from_stage", metavar="STAGE", required=True, help="A completed stage of TASK.")
@click.option(
    "--set",
    "assignments",
    metavar="FIELD=VALUE",
    multiple=True,
    help="Another value in the state of STAGE: JSON, or text where it is none. Repeatable.",
)
@click.option("--id", "new_task_id", metavar="NEW", help="Id of the new task; without it one is made.")
@app_option(required=False)
@as_json_option
def fork(
    url: str,
    task_id: str,
    from_stage: str,
    assignments: tuple[str, ...],
    new_task_id: str | None,
    apps: tuple[str, ...],
    as_json: bool,
) -> None:
    """Start a new task from a completed stage of TASK, which stays as it is.

    The new task has the stages up to STAGE complete, with their states and artifacts, and the rest to be run.
    It is stored and printed, not run: `checkmate resume` or `checkmate recover` does that. With --app, what
    --set says is validated by the class of the state, else only its names are.
    """
    changes = dict(_assignment(each) for each in assignments)
    import_apps(apps)
    from checkmate_core import TaskStore

    store = TaskStore(url)
    state_class = _state_class(store, task_id, from_stage) if apps else None
    new = store.fork(
        task_id, from_stage, new_task_id=new_task_id, set=changes or None, state_class=state_class
    )
    if as_json:
        print_json({"task_id": new, "forked_from": task_id, "stage": from_stage, "set": sorted(changes)})
    else:
        click.echo(new)


def _assignment(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise click.UsageError(f"--set {text}: give FIELD=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _state_class(store: Any, task_id: str, from_stage: str) -> Any:
    from checkmate_core import BaseStage, BaseStageState, IncompatibleTaskException
    from checkmate_core.imported import find_imported

    stages = [stage for stage in store.get(task_id).stages if stage.name == from_stage]
    if not stages:
        return None
    stage_class = find_imported(stages[0].class_name)
    if stage_class is None or not issubclass(stage_class, BaseStage):
        raise IncompatibleTaskException(
            f"stage {from_stage!r} of task {task_id} is of the class {stages[0].class_name}, which --app does not define. "
            "Give the module that does, or leave --app out"
        )
    found = stage_class.model_fields["state"].annotation
    return found if isinstance(found, type) and issubclass(found, BaseStageState) else None
