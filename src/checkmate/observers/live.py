"""RichProgress: what tasks are doing, live in a terminal."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from checkmate_core import StageEvent

if TYPE_CHECKING:
    from typing import Self

    from rich.console import RenderableType

_ENDED_SHOWN: Final = 12
"""How many tasks that have ended stay visible: a terminal has only so many lines."""


@dataclass
class _Bars:
    """The lines of one task.

    Attributes:
        task: Of the task.
        group: Keeps the lines of a task together.
        stage: Of the stage that is running.
    """

    task: TaskID
    group: int
    stage: TaskID | None = None


class RichProgress:
    """An observer with a bar for each task, and below it one for the stage that is running.

        with RichProgress() as progress:
            CheckMate(url, task_id, stages, observers=[progress]).run()

    A task's bar counts its stages, a stage's bar what the stage says of its progress. One display is for any
    number of engines, in any threads and event loops. Where the console is no terminal it prints nothing.

    Attributes:
        display: What is shown: the application may put lines of its own on it.
    """

    def __init__(self, console: Console | None = None, *, transient: bool = False) -> None:
        """Make it; it shows itself in a ``with`` block.

        Args:
            console: Where to; standard error if None, so that a program's output stays clean.
            transient: Whether the bars vanish at the end.
        """
        console = Console(stderr=True) if console is None else console
        self._is_shown = console.is_interactive or console.is_jupyter
        self.display = _Grouped(
            # Names are anybody's text, not markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            console=console,
            transient=transient,
            disable=not self._is_shown,
        )
        self._lock = threading.Lock()
        self._tasks: dict[tuple[str, str], _Bars] = {}
        self._ended: dict[tuple[str, str], _Bars] = {}
        self._groups = itertools.count()

    def __enter__(self) -> Self:
        """Show it."""
        if self._is_shown:
            self.display.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave it as it is, or take it away where it is ``transient``."""
        if self._is_shown:
            self.display.stop()

    def __call__(self, event: StageEvent) -> None:
        """Take an event."""
        key = (event.base_url, event.task_id)
        with self._lock:
            bars = self._tasks.get(key) or self._begin(key, event)
            if event.kind in ("started", "progressed", "rolling_back"):
                self._show_stage(bars, event)
            elif bars.stage is not None:
                self.display.remove_task(bars.stage)
                bars.stage = None
            if event.kind != "progressed":
                self._show_task(bars, event)
            if event.ends_run:
                self._end(key)

    def _begin(self, key: tuple[str, str], event: StageEvent) -> _Bars:
        if (before := self._ended.pop(key, None)) is not None:
            self.display.remove_task(before.task)
        group = next(self._groups)
        bar = self.display.add_task(event.task_id, total=event.stages_total, what="", group=group)
        bars = self._tasks[key] = _Bars(bar, group)
        return bars

    def _end(self, key: tuple[str, str]) -> None:
        bars = self._ended[key] = self._tasks.pop(key)
        self.display.stop_task(bars.task)
        if len(self._ended) > _ENDED_SHOWN:
            oldest = next(iter(self._ended))
            self.display.remove_task(self._ended.pop(oldest).task)

    def _show_task(self, bars: _Bars, event: StageEvent) -> None:
        is_told = event.ends_run or event.kind == "retried"
        self.display.update(
            bars.task,
            completed=event.stage_index + (event.kind == "completed"),
            what=event.kind.replace("_", " ") if is_told else "",
        )

    def _show_stage(self, bars: _Bars, event: StageEvent) -> None:
        if bars.stage is None:
            bars.stage = self.display.add_task(
                f"  {event.stage_name}", total=None, what=_attempt(event), group=bars.group
            )
        progress = event.progress
        if event.kind == "progressed" and progress is not None:
            self.display.update(
                bars.stage, completed=progress.done, total=progress.total, what=progress.message
            )


class _Grouped(Progress):
    """The lines of a task under one another, though they were added at different times."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The table."""
        yield self.make_tasks_table(sorted(self.tasks, key=lambda line: (line.fields["group"], line.id)))


def _attempt(event: StageEvent) -> str:
    if event.kind == "rolling_back":
        return "rolling back"
    return f"attempt {event.attempt}" if event.attempt > 1 else ""
