"""Tables for people, drawn by rich."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from checkmate_core import StageStatus, TaskView

STYLES = {
    StageStatus.COMPLETE: "green",
    StageStatus.RUNNING: "cyan",
    StageStatus.RETRY: "yellow",
    StageStatus.ERROR: "red",
    StageStatus.CANCELED: "magenta",
    StageStatus.SUSPENDED: "blue",
    StageStatus.ROLLING_BACK: "yellow",
    StageStatus.ROLLED_BACK: "magenta",
}


def print_tasks(tasks: Sequence[TaskView]) -> None:
    """Print a table of tasks."""
    if not tasks:
        Console().print("no tasks")
        return
    situations = [situation(task) for task in tasks]
    holders = [task.holder or "" for task in tasks]
    table = Table(
        Column("Task", overflow="fold"),
        Column("Status", no_wrap=True),
        "Stages",
        Column("Created", no_wrap=True),
    )
    # A narrow terminal has room for what there is to say.
    said = {"Situation": situations, "Locked by": holders}
    said = {title: texts for title, texts in said.items() if any(texts)}
    for title in said:
        table.add_column(title, overflow="fold")
    for index, task in enumerate(tasks):
        table.add_row(
            task.task_id,
            _status(task),
            f"{task.stages_complete}/{len(task.stages)}",
            _time(task.created),
            *(escape(texts[index]) for texts in said.values()),
        )
    console = Console()
    console.print(table)
    for task in tasks:
        if task.fault:
            console.print(f"[red]{task.task_id}[/red]: {escape(task.fault)}")


def print_task(task: TaskView) -> None:
    """Print one task with its stages and their history."""
    console = Console()
    console.print(f"[bold]{task.task_id}[/bold] {styled(task.status)}  {escape(task.url)}")
    console.print(f"created {_time(task.created)}" + (f", ended {_time(task.ended)}" if task.ended else ""))
    if said := situation(task):
        console.print(escape(said))
    if task.holder:
        console.print(f"locked by {escape(task.holder)}")
    table = Table(
        "Stage",
        Column("Status", no_wrap=True),
        "Attempts",
        "Epoch",
        Column("Last change", no_wrap=True),
        "Message",
    )
    for stage in task.stages:
        last = stage.history[-1] if stage.history else None
        table.add_row(
            escape(stage.name),
            styled(stage.status),
            str(stage.attempts),
            "" if stage.epoch is None else str(stage.epoch),
            _time(last.end or last.begin) if last else "",
            escape(last.message) if last else "",
        )
    console.print(table)


def situation(task: TaskView) -> str:
    """How far the running stage is, or what the task waits for, in words; empty where that says nothing."""
    stage = task.current
    if stage is None:
        return ""
    parts = []
    if task.suspension:
        parts.append(f"waits for {task.suspension} since {_time(stage.history[-1].end)}")
        parts.append("due" if task.is_due else "not due")
    if stage.status is StageStatus.RETRY and stage.notes.retry_at:
        parts.append(f"next attempt at {_time(stage.notes.retry_at)}")
    if stage.status is StageStatus.ERROR:
        parts.append(stage.history[-1].message)
    if task.progress:
        parts.append(str(task.progress))
    if stage.notes.interruptions:
        parts.append(f"interrupted {stage.notes.interruptions} times in a row")
    return f"{stage.name}: {', '.join(parts)}" if parts else ""


def styled(status: StageStatus) -> str:
    """A status in its color, as rich markup."""
    style = STYLES.get(status)
    return f"[{style}]{status}[/{style}]" if style else str(status)


def _status(task: TaskView) -> str:
    if task.fault:
        return "[red]unreadable[/red]"
    return "removing" if task.is_removing else styled(task.status)


def _time(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""
