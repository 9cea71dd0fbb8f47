"""Bars in a terminal."""

import io as text_io
import threading

import pytest
from rich.console import Console

from checkmate import CheckMate, StageFailedException, StageStatus, Suspend, TaskIO, TaskStore
from checkmate.observers import RichProgress
from tests.engine.pipelines import TASK

from .tasks import Awaited, Drive, Step, engine_for, fails, synchronously


def terminal() -> Console:
    return Console(
        file=text_io.StringIO(), force_terminal=True, force_interactive=True, width=100, color_system=None
    )


def shown(progress: RichProgress) -> list[str]:
    """The lines as they stand now."""
    console = Console(file=text_io.StringIO(), width=100, color_system=None)
    with console.capture() as captured:
        console.print(*progress.display.get_renderables())
    # Without the bars and the clocks.
    lines = captured.get().splitlines()
    return [
        " ".join(word for word in line.split() if word[0] not in "━╸╺" and ":" not in word) for line in lines
    ]


@pytest.mark.parametrize("kind", [Step, Awaited])
def test_a_task_and_its_running_stage_have_a_line_each(io: TaskIO, drive: Drive, kind: type[Step]) -> None:
    lines: list[list[str]] = []

    def work(stage: Step) -> None:
        lines.append(shown(progress))
        stage.progress(3, 8, "pages")
        lines.append(shown(progress))

    with RichProgress(terminal()) as progress:
        drive(
            engine_for(io, kind(stage_name="[b]a"), kind(stage_name="b", action=work), observers=[progress])
        )
        lines.append(shown(progress))
    assert lines == [[f"{TASK} 1/2", "b 0/?"], [f"{TASK} 1/2", "b 3/8 pages"], [f"{TASK} 2/2 completed"]]


def test_attempts_and_failures_are_named(io: TaskIO) -> None:
    lines: list[list[str]] = []

    def work(stage: Step) -> None:
        lines.append(shown(progress))
        raise ValueError

    with RichProgress(terminal()) as progress:
        engine = engine_for(io, Step(stage_name="[b]a", action=work), observers=[progress])
        with pytest.raises(StageFailedException):
            synchronously(engine)
        assert lines == [[f"{TASK} 0/1", "[b]a 0/?"], [f"{TASK} 0/1", "[b]a 0/? attempt 2"]]
        assert shown(progress) == [f"{TASK} 0/1 failed"]


def test_a_task_that_goes_on_takes_its_line_again(io: TaskIO) -> None:
    def wait(stage: Step) -> None:
        if stage.state.verdict is None:
            raise Suspend(event="verdict")

    with RichProgress(terminal()) as progress:
        engine = engine_for(io, Step(stage_name="a", action=wait), observers=[progress])
        synchronously(engine)
        assert shown(progress) == [f"{TASK} 0/1 suspended"]
        engine.signal("verdict", "approved")
        synchronously(engine)
        assert shown(progress) == [f"{TASK} 1/1 completed"]


def test_several_engines_in_threads_share_a_display(io: TaskIO) -> None:
    count = 3
    meeting = threading.Barrier(count)
    lines: list[list[str]] = []

    def work(stage: Step) -> None:
        if meeting.wait(30) == 0:
            lines.append(shown(progress))
        meeting.wait(30)

    with RichProgress(terminal()) as progress:
        engines = [
            engine_for(
                io,
                Step(stage_name="first", action=lambda stage: meeting.wait(30)),
                Step(stage_name="a", action=work),
                task_id=f"task-{number}",
                observers=[progress],
            )
            for number in range(count)
        ]
        threads = [threading.Thread(target=synchronously, args=(engine,)) for engine in engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(shown(progress)) == [f"task-{number} 2/2 completed" for number in range(count)]
    # Each stage below its own task, whichever came first.
    [together] = lines
    assert together[1::2] == ["a 0/?"] * count
    assert sorted(together[::2]) == [f"task-{number} 1/2" for number in range(count)]


def test_only_the_last_tasks_that_ended_stay(io: TaskIO) -> None:
    with RichProgress(terminal()) as progress:
        for number in range(14):
            CheckMate(io, f"task-{number}", [Step(stage_name="a")], observers=[progress]).run()
        assert shown(progress) == [f"task-{number} 1/1 completed" for number in range(2, 14)]


def test_the_last_picture_is_left_on_a_terminal_and_nothing_is_printed_elsewhere(io: TaskIO) -> None:
    screen, pipe = terminal(), Console(file=text_io.StringIO())
    for number, console in enumerate((screen, pipe)):
        with RichProgress(console) as progress:
            CheckMate(io, f"task-{number}", [Step(stage_name="a")], observers=[progress]).run()
    assert isinstance(screen.file, text_io.StringIO)
    assert isinstance(pipe.file, text_io.StringIO)
    assert "task-0" in screen.file.getvalue()
    assert pipe.file.getvalue() == ""


def test_a_display_that_breaks_breaks_no_run(io: TaskIO) -> None:
    class Closed(text_io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("the terminal is gone")

    progress = RichProgress(Console(file=Closed(), force_terminal=True, force_interactive=True))
    synchronously(engine_for(io, Step(stage_name="a", action=fails(1)), observers=[progress]))
    assert TaskStore(io).get(TASK).status is StageStatus.COMPLETE
