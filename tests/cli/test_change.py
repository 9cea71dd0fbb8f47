"""`checkmate check` and `checkmate fork`."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from checkmate import StageStatus, TaskEngineException, TaskStore, open_task_io

from .changed_cm import cm_factory_first
from .conftest import Run

MODULE = "tests.cli.changed_cm"


@pytest.fixture(autouse=True)
def unchanged_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """--app changes it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("CHECKMATE_URL", raising=False)


@pytest.fixture
def url(checkmate_file_url: str) -> str:
    """A store with a finished task, one that failed in its second stage, and one that was enqueued."""
    cm_factory_first(checkmate_file_url, "done").run()
    with suppress(TaskEngineException):
        cm_factory_first(checkmate_file_url, "failed", fails="bind").run()
    with cm_factory_first(checkmate_file_url, "waiting"):
        pass
    return checkmate_file_url


def contents(url: str) -> dict[Path, tuple[bytes, int]]:
    folder = Path(url.removeprefix("file://"))
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and ".checkmate" not in path.parts
    }


def test_code_that_fits_says_so_of_every_unfinished_task_and_of_those_that_are_named(
    run: Run, url: str
) -> None:
    before = contents(url)
    found = run("check", url, "--app", f"{MODULE}:cm_factory_first")
    assert (found.stdout, found.exit_code) == ("failed fits\nwaiting fits\n", 0)
    found = run("check", url, "done", "--app", f"{MODULE}:cm_factory_first")
    assert (found.stdout, found.exit_code) == ("done fits\n", 0)
    assert contents(url) == before
    assert run("check", url, "none", "--app", MODULE).exit_code == 3


def test_of_several_factories_the_one_that_fits_best_speaks(run: Run, url: str) -> None:
    assert run("check", url, "--app", MODULE).stdout == "failed fits\nwaiting fits\n"


def test_what_would_be_migrated_is_shown_and_nothing_is_written(run: Run, url: str) -> None:
    before = contents(url)
    found = run("check", url, "--app", f"{MODULE}:cm_factory_second")
    assert found.exit_code == 0
    assert found.stdout == "".join(
        f"{task} will be migrated\n  'send' is now 'mail'\n" for task in ("failed", "waiting")
    )
    found = run("check", url, "waiting", "--app", f"{MODULE}:fourth", "--json")
    assert found.exit_code == 0
    [document] = json.loads(found.stdout)
    assert document["outcome"] == "will be migrated"
    assert document["changes"][0] == "the state of 'draw' is read by migrate() from schema_version 1 to 2"
    assert contents(url) == before


def test_what_would_be_refused_is_told_with_the_way_to_migrate_it(run: Run, url: str) -> None:
    before = contents(url)
    found = run("check", url, "--app", f"{MODULE}:third", "--json")
    assert found.exit_code == 6
    for document in json.loads(found.stdout):
        assert document["outcome"] == "is refused"
        for text in (
            "'send' is not there any more",
            "'bind' is now 'mail', it seems",
            "StageChanges(",
            "removed={'send'}",
        ):
            assert text in document["refusal"]
    told = run("check", url, "--app", f"{MODULE}:third")
    assert told.exit_code == 6
    assert "failed is refused\n  task failed (file://" in told.stdout
    assert contents(url) == before


def test_without_a_factory_the_imported_classes_are_compared(run: Run, url: str, tmp_path: Path) -> None:
    (tmp_path / "plain_module.py").write_text("import tests.cli.changed_cm\n")
    found = run("check", url, "--app", str(tmp_path / "plain_module.py"))
    assert (found.stdout, found.exit_code) == ("failed fits\nwaiting fits\n", 0)
    io = open_task_io(url)
    document = json.loads(io.read("waiting/task.json").data)
    document["stage_template_classes"][1] = "gone.Class"
    io.write("waiting/task.json", json.dumps(document).encode())
    found = run("check", url, "--app", str(tmp_path / "plain_module.py"))
    assert found.exit_code == 6
    assert "needs the stage class gone.Class" in found.stdout


@pytest.mark.parametrize(
    ("app", "fault"),
    [
        ("no.such", "no module"),
        (f"{MODULE}:nothing", "no function nothing"),
        (f"{MODULE}:needs_more", "needs more than a URL"),
    ],
)
def test_an_application_that_cannot_be_asked_is_wrong_usage(run: Run, url: str, app: str, fault: str) -> None:
    found = run("check", url, "--app", app)
    assert found.exit_code == 2
    assert fault in found.stderr


def test_a_fork_is_made_with_other_values_and_run_by_any_worker(run: Run, url: str) -> None:
    found = run(
        "fork", url, "done", "--from", "draw", "--set", "pages=7", "--set", "title=Über uns", "--id", "again",
        "--app", MODULE,
    )  # fmt: skip
    assert (found.stdout, found.exit_code) == ("again\n", 0)
    store = TaskStore(url)
    assert [task.task_id for task in store.unfinished()] == ["failed", "waiting", "again"]
    assert run("resume", url, "again", "--app", MODULE).exit_code == 0
    assert store.get("again").result == "Über uns 7"
    assert store.get("done").result == "None 1"
    assert store.get("again").status is StageStatus.COMPLETE


def test_a_fork_without_an_id_gets_one_and_tells_it(run: Run, url: str) -> None:
    found = run("fork", url, "failed", "--from", "draw", "--json")
    document = json.loads(found.stdout)
    assert TaskStore(url).get(document["task_id"]).status is StageStatus.CREATED
    assert (document["forked_from"], document["stage"], document["set"]) == ("failed", "draw", [])


@pytest.mark.parametrize(
    ("arguments", "code", "fault"),
    [
        (("failed", "--from", "bind"), 1, "not complete"),
        (("none", "--from", "draw"), 3, "no task none"),
        (("done", "--from", "draw", "--set", "pages"), 2, "FIELD=VALUE"),
        (("done", "--from", "draw", "--set", "color=1"), 1, "has no color"),
        (("done", "--from", "draw", "--set", "pages=many", "--app", MODULE), 1, "cannot be changed in pages"),
        (("done", "--from", "draw", "--id", "waiting"), 4, "exists"),
    ],
)
def test_a_fork_that_cannot_be_is_refused(
    run: Run, url: str, arguments: tuple[str, ...], code: int, fault: str
) -> None:
    before = contents(url)
    found = run("fork", url, *arguments)
    assert found.exit_code == code
    assert fault in found.stderr
    assert contents(url) == before
