"""`checkmate reseal`: every object of a store under its newest key."""

import json
from typing import TYPE_CHECKING, Any

import click

from checkmate.cli import exit_code
from checkmate_core import UnsupportedBackendException

if TYPE_CHECKING:
    from checkmate_io_sealed.reseal import ResealedTask, ResealReport


@click.command()
@click.argument("url", envvar="CHECKMATE_URL")
@click.option("--task", "task_ids", metavar="TASK", multiple=True, help="Only this task; may be repeated.")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Tasks at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def reseal(ctx: click.Context, url: str, task_ids: tuple[str, ...], concurrency: int, as_json: bool) -> None:
    """Seal by the newest key what an earlier one sealed.

    URL names the variable that holds the keys, the newest first: s3://bucket/jobs?key=env:NAME. With
    &allow_plain=true, what is not encrypted yet is encrypted. Interrupted, the same command goes on.

    Tasks that somebody works on are left to their workers, and reported: run it again when they are
    done. The exit code is then that of the first task that failed.
    """
    try:
        from checkmate_io_sealed.reseal import reseal_tasks
    except ImportError as exc:
        raise UnsupportedBackendException(
            f"keys need checkmate-io-sealed, which cannot be imported ({exc}): pip install 'checkmate[sealed]'"
        ) from exc

    report = reseal_tasks(
        url, task_ids or None, concurrency=concurrency, on_task=None if as_json else _print_task
    )
    if as_json:
        click.echo(json.dumps(_document(report), indent=2, ensure_ascii=False))
    else:
        _print_sum(report)
    if not report.is_complete:
        ctx.exit(exit_code(report.failed[0].error or Exception()))


def _print_task(task: "ResealedTask") -> None:
    name = task.task_id or "(no task's)"
    if task.error:
        click.echo(f"checkmate: {name} was not sealed anew: {task.error}", err=True)
    else:
        click.echo(f"{task.outcome:8}  {name}  {task.resealed} of {task.objects} objects")


def _print_sum(report: "ResealReport") -> None:
    written, found = (sum(getattr(task, what) for task in report.tasks) for what in ("resealed", "objects"))
    under = f"under the key {report.key_id}" if report.key_id else "without a key"
    click.echo(f"{report.base_url}: {written} of {found} objects sealed anew {under}")
    if report.failed:
        click.echo(
            f"checkmate: {len(report.failed)} tasks may still need an earlier key; keep it, and run this again",
            err=True,
        )


def _document(report: "ResealReport") -> dict[str, Any]:
    return {
        "url": report.base_url,
        "key_id": report.key_id,
        "is_complete": report.is_complete,
        "tasks": [
            {
                "task_id": task.task_id or None,
                "outcome": task.outcome,
                "objects": task.objects,
                "resealed": task.resealed,
                "error": str(task.error) if task.error else None,
            }
            for task in report.tasks
        ],
    }
