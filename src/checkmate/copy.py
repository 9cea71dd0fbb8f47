"""`checkmate copy`: tasks from one store to another."""

import json
from typing import Any

import click

from checkmate.cli import exit_code
from checkmate_core import CopiedTask, CopyOutcome, CopyReport, copy_tasks

_ADVICE = (
    "Two copies of a task are two tasks, and no fence spans two stores: remove or cancel each task in "
    "SOURCE before it goes on in DESTINATION."
)


@click.command()
@click.argument("source", metavar="SRC_URL")
@click.argument("destination", metavar="DST_URL")
@click.argument("task_ids", metavar="[TASK]...", nargs=-1)
@click.option("--even-if-locked", is_flag=True, help="Copy tasks that somebody seems to be working on.")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Tasks at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def copy(
    ctx: click.Context,
    source: str,
    destination: str,
    task_ids: tuple[str, ...],
    even_if_locked: bool,
    concurrency: int,
    as_json: bool,
) -> None:
    """Copy tasks between any two stores: those named, or all.

    SRC_URL is only read. Interrupted, the same command goes on: it writes what is missing, reads
    back what it wrote, and compares what is there by SHA-256. A task that is locked, or that has
    another state in DST_URL, is refused and the others go on; the exit code is then that of the first
    task refused.

    Let nobody work on the tasks meanwhile. Two copies of a task are two tasks: remove or cancel it in
    SRC_URL before it goes on in DST_URL.
    """
    report = copy_tasks(
        source,
        destination,
        task_ids or None,
        even_if_locked=even_if_locked,
        concurrency=concurrency,
        on_task=None if as_json else _print_task,
    )
    if as_json:
        click.echo(json.dumps(_document(report), indent=2, ensure_ascii=False))
    else:
        _print_sum(report)
    if not report.is_complete:
        for task in report.failed if as_json else ():
            _print_error(task)
        ctx.exit(exit_code(report.failed[0].error or Exception()))


def _print_task(task: CopiedTask) -> None:
    if task.error:
        _print_error(task)
    else:
        click.echo(
            f"{task.outcome:13}  {task.task_id}  {task.written} of {task.objects} objects written, "
            f"{task.size:,} bytes  sha256 {task.sha256[:16]}…"
        )


def _print_error(task: CopiedTask) -> None:
    click.echo(f"checkmate: {task.task_id} was not copied: {task.error}", err=True)


def _print_sum(report: CopyReport) -> None:
    counts = {outcome: sum(task.outcome is outcome for task in report.tasks) for outcome in CopyOutcome}
    said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    click.echo(f"{report.source} to {report.destination}: {said or 'no tasks'}")
    if report.not_tried:
        click.echo(
            f"checkmate: {len(report.not_tried)} tasks were not tried as a store could not be reached; the same "
            "command goes on",
            err=True,
        )
    if counts[CopyOutcome.COPIED] or counts[CopyOutcome.ALREADY_THERE]:
        click.echo(_ADVICE.replace("SOURCE", report.source).replace("DESTINATION", report.destination))


def _document(report: CopyReport) -> dict[str, Any]:
    return {
        "source": report.source,
        "destination": report.destination,
        "is_complete": report.is_complete,
        "tasks": [
            {
                "task_id": task.task_id,
                "outcome": task.outcome,
                "objects": task.objects,
                "written": task.written,
                "bytes": task.size,
                "sha256": task.sha256,
                "error": str(task.error) if task.error else None,
            }
            for task in report.tasks
        ],
        "not_tried": list(report.not_tried),
    }
