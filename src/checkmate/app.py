"""`--app`: importing the application whose stages a command is to run."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click


def app_option(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option ``--app``, which may be given several times; the command gets ``apps``."""
    return click.option(
        "--app",
        "apps",
        metavar="MODULE",
        multiple=True,
        required=required,
        help="Import this module, which defines the stages: a dotted name, or a path to a file. Repeatable.",
    )


def import_apps(apps: tuple[str, ...]) -> None:
    """Import modules as ``python -m`` would: the current directory comes first.

    A file is imported under the name that it has within its packages, which is the name that its classes
    are stored under.

    Raises:
        click.UsageError: There is no such module.
        click.ClickException: A module fails while it is imported; its traceback is the cause.
    """
    if apps:
        _prefer(Path.cwd())
    for app in apps:
        _import(app)


def _import(app: str) -> None:
    path = Path(app)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise click.UsageError(f"--app {app}: there is no such file")
    name = _name_in_packages(path.resolve()) if is_file else app
    try:
        module = import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (name == exc.name or name.startswith(f"{exc.name}.")):
            raise _failed(app, exc) from exc
        raise click.UsageError(
            f"--app {app}: there is no module {exc.name}; give a dotted name as for `python -m`, or the path of a file"
        ) from exc
    except (Exception, SystemExit) as exc:
        raise _failed(app, exc) from exc
    found = getattr(module, "__file__", None)
    if is_file and (found is None or Path(found).resolve() != path.resolve()):
        raise click.UsageError(f"--app {app}: another module is called {name} already ({found}); rename one")


def _failed(app: str, error: BaseException) -> click.ClickException:
    return click.ClickException(f"--app {app} cannot be imported: {type(error).__name__}: {error}")


def _name_in_packages(path: Path) -> str:
    """The dotted name of a file; the directory above its packages can be imported from then."""
    parts = [] if path.stem == "__init__" else [path.stem]
    directory = path.parent
    while (directory / "__init__.py").exists():
        parts.insert(0, directory.name)
        directory = directory.parent
    _prefer(directory)
    return ".".join(parts)


def _prefer(directory: Path) -> None:
    text = str(directory)
    if sys.path[:1] != [text]:
        sys.path.insert(0, text)
