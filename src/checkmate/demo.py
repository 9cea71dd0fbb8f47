"""``checkmate demo``: a real pipeline that can be killed in any stage, and resumes."""

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from rich.progress import TaskID

TASK_ID = "ingest-demo"
STAGES = ("discover", "read", "chunk", "index", "evaluate")


@click.command()
@click.option("--url", default="checkmate-demo/tasks", show_default=True, help="Where the task is stored.")
@click.option(
    "--source",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of documents.  [default: Python's standard library]",
)
@click.option(
    "--work", default="checkmate-demo/work", show_default=True, help="Folder for the stages' files."
)
@click.option("--kill-in", type=click.Choice(STAGES), help="Die by SIGKILL in the middle of this stage.")
@click.option("--fresh", is_flag=True, help="Remove the task and its files first, and start anew.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def demo(url: str, source: str | None, work: str, kill_in: str | None, fresh: bool, as_json: bool) -> None:
    """Index a folder of documents in five stages, and survive a kill in any of them.

    Run it with --kill-in index, then again without: it resumes behind the last complete stage.
    """
    from checkmate import CheckMate, PersistenceDataNotFoundException, TaskStore, open_task_io

    ingest_cm = load_example()
    io = open_task_io(url)

    def stored_stages() -> dict[str, Any]:
        try:
            return {stage.name: stage for stage in TaskStore(url).get(TASK_ID).stages}
        except PersistenceDataNotFoundException:
            return {}

    before = stored_stages()
    if fresh:
        if before:
            old = ingest_cm.cm_factory_ingest(url, source, work, TASK_ID)
            old.bind()
            old.unbind(clean=True)
        ingest_cm.remove_outputs(work)
        before = {}
    _check_source(before, source)
    done = {name: _seconds(stage) for name, stage in before.items() if str(stage.status) == "COMPLETE"}
    if kill_in in done:
        raise click.UsageError(
            f"stage {kill_in!r} of task {TASK_ID} is complete and will not run again; add --fresh to start anew"
        )

    show = _Silent() if as_json else _Live() if sys.stdout.isatty() else _Lines()
    if len(done) == len(STAGES):
        show.say(f"Task {TASK_ID} is complete: nothing to run. Start anew with --fresh.")
    elif before:
        show.say(f"Resuming task {TASK_ID} at {io.build_url(TASK_ID)}")
    else:
        show.say(f"Starting task {TASK_ID} at {io.build_url(TASK_ID)}")

    class Watched(CheckMate[Any, Any]):
        def state_update_hook(self, stage: Any) -> None:
            show.status(stage.stage_name, str(stage.status).lower(), stage.attempts)

    def on_progress(name: str, count: int, total: int) -> None:
        show.progress(name, count, total)
        if name == kill_in and 2 * count >= total:
            show.close()
            _die(name, count, total)

    ingest_cm.on_progress = on_progress
    show.open(done)
    try:
        result = ingest_cm.cm_factory_ingest(url, source, work, TASK_ID, engine=Watched).run()
    finally:
        show.close()
        ingest_cm.on_progress = None

    after = stored_stages()
    if as_json:
        stages = [_summary(name, stage, name in done) for name, stage in after.items()]
        report = {"task_id": TASK_ID, "url": io.build_url(TASK_ID), "stages": stages, "result": result}
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        show.say("")
        for line in _result_lines(result):
            show.say(line)


def load_example() -> Any:
    """The module ``ingest_cm``: of the checkout if this is one, else the copy inside the package.

    It is imported by the same name from either place, so that a task begun by one can be resumed
    by the other.
    """
    here = Path(__file__).resolve().parent
    for folder in (here.parents[1] / "examples" / "ingest", here / "examples" / "ingest"):
        if (folder / "ingest_cm.py").is_file():
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
            return importlib.import_module("ingest_cm")
    raise click.ClickException(f"the example pipeline is missing from {here}: install checkmate again")


class _Silent:
    """A display that shows nothing: what ``--json`` needs, and the shape of the others."""

    def say(self, text: str) -> None: ...
    def open(self, done: dict[str, float | None]) -> None: ...
    def status(self, name: str, status: str, attempts: int) -> None: ...
    def progress(self, name: str, count: int, total: int) -> None: ...
    def close(self) -> None: ...


class _Lines(_Silent):
    """One line for every change of a stage's status."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._counts: dict[str, str] = {}

    def say(self, text: str) -> None:
        click.echo(text)

    def open(self, done: dict[str, float | None]) -> None:
        for name in done:
            self.say(f"{name:10} complete, not run again")

    def status(self, name: str, status: str, attempts: int) -> None:
        if status == "running":
            self._begun[name] = time.monotonic()
        self.say(
            f"{name:10} {_wording(status, attempts):22} {self._counts.get(name, ''):>13} {self._took(name)}"
        )

    def progress(self, name: str, count: int, total: int) -> None:
        self._counts[name] = f"{count:,}/{total:,}"

    def _took(self, name: str) -> str:
        return f"{time.monotonic() - self._begun[name]:8.1f} s" if name in self._counts else ""


class _Live(_Lines):
    """A row for every stage, redrawn in place."""

    def __init__(self) -> None:
        super().__init__()
        from rich.progress import BarColumn, Progress, TextColumn

        cells = (
            "{task.description:10}",
            "{task.fields[count]:>13}",
            "{task.fields[took]:>8}",
            "{task.fields[status]}",
        )
        name, *others = (TextColumn(cell, markup=False) for cell in cells)
        self._rows: Progress = Progress(name, BarColumn(), *others)
        self._ids: dict[str, TaskID] = {
            name: self._rows.add_task(name, total=1, count="", took="", status="") for name in STAGES
        }

    def open(self, done: dict[str, float | None]) -> None:
        for name, seconds in done.items():
            took = "" if seconds is None else f"{seconds:.1f} s"
            self._rows.update(self._ids[name], completed=1, took=took, status="complete, not run again")
        self._rows.start()

    def status(self, name: str, status: str, attempts: int) -> None:
        self._begun.setdefault(name, time.monotonic())
        self._rows.update(self._ids[name], status=_wording(status, attempts), took=self._took(name))

    def progress(self, name: str, count: int, total: int) -> None:
        super().progress(name, count, total)
        self._rows.update(
            self._ids[name], completed=count, total=total, count=self._counts[name], took=self._took(name)
        )

    def close(self) -> None:
        self._rows.stop()


def _wording(status: str, attempts: int) -> str:
    return f"{status}, attempt {attempts}" if attempts > 1 else status


def _check_source(stages: dict[str, Any], source: str | None) -> None:
    stored = stages[STAGES[0]].state.get("source") if stages else None
    if source is not None and stored is not None and Path(source).resolve() != Path(stored):
        raise click.UsageError(
            f"task {TASK_ID} was begun with the documents of {stored}, not {source}; "
            "leave --source out to go on with it, or add --fresh to start anew"
        )


def _die(name: str, count: int, total: int) -> NoReturn:
    click.echo(
        f"Killing this process by SIGKILL in the middle of stage {name!r} ({count} of {total} done). "
        "The same command without --kill-in resumes.",
        err=True,
    )
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived SIGKILL")


def _seconds(stage: Any) -> float | None:
    last = stage.history[-1] if stage.history else None
    return round((last.end - last.begin).total_seconds(), 3) if last and last.end else None


def _summary(name: str, stage: Any, is_old: bool) -> dict[str, Any]:
    return {
        "name": name,
        "status": str(stage.status),
        "attempts": stage.attempts,
        "seconds": _seconds(stage),
        "run_now": not is_old,
    }


def _result_lines(result: dict[str, Any]) -> Iterable[str]:
    recall = next(name for name in result if name.startswith("recall_at_"))
    yield f"documents   {result['documents']:,} of {result['files']:,} files, {result['skipped']:,} skipped"
    yield f"chunks      {result['chunks']:,}"
    yield f"recall@{recall.removeprefix('recall_at_')}    {result[recall]:.3f}"
    yield f"MRR         {result['mrr']:.3f}   ({result['questions']} {result['question_set']} questions)"
    yield from (f"{name:11} sha256 {digest[:16]}…" for name, digest in result["digests"].items())
