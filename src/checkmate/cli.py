"""The command line: `checkmate demo | ls | show | dump | unlock | version`.

Exit codes: 0 done, 1 any other error, 2 wrong usage, 3 no such task, 4 locked or lost to another
owner, 5 the store failed, 6 the stored task does not fit. Results go to stdout, errors to stderr.
"""

import json
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, ParamSpec

import click

if TYPE_CHECKING:
    from checkmate_core import TaskStore

PARAMS = ParamSpec("PARAMS")

# Listed by name so that no command pays for the imports of another.
_LAZY = {"demo": ("checkmate.demo", "demo")}


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
            ctx.exit(_exit_code(exc))


@click.group(cls=_Group)
def main() -> None:
    """Durable execution with nothing but a bucket: look at the tasks of a store, or try a demo.

    URL is a store such as file:///srv/jobs, a plain path, or s3://bucket/jobs. Where it is left
    out, the environment variable CHECKMATE_URL is taken.
    """


def _store_command(function: Callable[PARAMS, None]) -> Callable[PARAMS, None]:
    @main.command(name=function.__name__.removesuffix("_command"))
    @click.option(
        "--url", envvar="CHECKMATE_URL", required=True, show_envvar=True, help="The store: a URL or a path."
    )
    @click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
    @wraps(function)
    def command(*args: PARAMS.args, **kwargs: PARAMS.kwargs) -> None:
        function(*args, **kwargs)

    return function


def _exit_code(exc: Exception) -> int:
    from checkmate_core import (
        BindException,
        IncompatibleTaskException,
        PersistenceDataNotFoundException,
        TaskIOException,
        VersionConflictException,
    )

    codes: list[tuple[type[Exception] | tuple[type[Exception], ...], int]] = [
        (PersistenceDataNotFoundException, 3),
        ((BindException, VersionConflictException), 4),
        (TaskIOException, 5),
        (IncompatibleTaskException, 6),
    ]
    return next((code for classes, code in codes if isinstance(exc, classes)), 1)
