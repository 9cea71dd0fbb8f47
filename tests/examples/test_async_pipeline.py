"""The asynchronous pipeline as a user runs it, against a server that counts and that can stall."""

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.examples.shell import command, run

from checkmate import StageStatus, TaskStore

AT_ONCE = 8


class Site(ThreadingHTTPServer):
    """Answers each path with itself; stalls at some of them while it is told to."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.stalling: set[str] = set()
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.together: threading.Barrier | None = None

    def write_list(self, path: Path, pages: int) -> Path:
        path.write_text(
            "".join(f"http://127.0.0.1:{self.server_port}/{path.stem}/{page}\n" for page in range(pages))
        )
        return path


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        if self.server.together is not None:
            self.server.together.wait(30)
        if self.path in self.server.stalling:
            self.server.stalled.set()
            self.server.go_on.wait(60)
        body = self.path.encode()
        try:
            self.send_response(404 if self.path.endswith("/7") else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # whoever asked is dead

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield site
        site.go_on.set()
        site.shutdown()
        thread.join()


def pages_of(said: str, name: str) -> str:
    return next(line for line in said.splitlines() if line.startswith(f"{name}: "))


def test_tasks_and_pages_are_under_way_together_and_cost_18_requests(site: Site, tmp_path: Path) -> None:
    lists = [site.write_list(tmp_path / f"{name}.txt", AT_ONCE) for name in ("a", "b")]
    # No page is answered before all pages of both tasks were asked for.
    site.together = threading.Barrier(2 * AT_ONCE)

    # One batch each, so no save in between, however slow the machine.
    said = run("async_pipeline", tmp_path / "tasks", *lists, "--save-every", "2")

    assert "'pages': 8, 'found': 7, 'bytes': 28" in pages_of(said, "a")
    assert "'pages': 8, 'found': 7, 'bytes': 28" in pages_of(said, "b")
    assert "storage requests of this process: 18" in said


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_was_saved_is_not_fetched_again_after(how: signal.Signals, site: Site, tmp_path: Path) -> None:
    pages = [site.write_list(tmp_path / "list.txt", 3 * AT_ONCE), "--save-every", "1"]
    undisturbed = pages_of(run("async_pipeline", tmp_path / "other", *pages), "list")
    site.asked.clear()
    site.stalling = {f"/list/{2 * AT_ONCE + 3}"}
    with subprocess.Popen(
        command("async_pipeline", tmp_path / "tasks", *pages), stdout=subprocess.PIPE
    ) as process:
        assert site.stalled.wait(60)
        process.send_signal(how)
        said, _ = process.communicate(timeout=60)
    task = TaskStore((tmp_path / "tasks").as_uri()).get("list")
    assert task.stages[0].status is StageStatus.RUNNING
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert b"the same command goes on" in said
        assert task.holder is None
    else:
        assert process.returncode == -signal.SIGKILL
    site.stalling.clear()

    resumed = run("async_pipeline", tmp_path / "tasks", *pages)

    assert pages_of(resumed, "list") == undisturbed
    saved = {f"/list/{page}" for page in range(2 * AT_ONCE)}
    assert {path: site.asked[path] for path in saved} == dict.fromkeys(saved, 1)
    assert site.asked[f"/list/{2 * AT_ONCE}"] == 2


def test_a_time_limit_cuts_the_stage_off_and_keeps_what_was_saved(site: Site, tmp_path: Path) -> None:
    pages = [site.write_list(tmp_path / "list.txt", 2 * AT_ONCE), "--save-every", "1"]
    site.stalling = {f"/list/{AT_ONCE}"}
    said = run("async_pipeline", tmp_path / "tasks", *pages, "--timeout", "2", status=1)
    assert "StageTimeoutException" in pages_of(said, "list")
    assert site.stalled.is_set()
    site.stalling.clear()

    assert "'pages': 16" in pages_of(run("async_pipeline", tmp_path / "tasks", *pages), "list")

    assert [site.asked[f"/list/{page}"] for page in range(2 * AT_ONCE)] == [1] * AT_ONCE + [2] * AT_ONCE
