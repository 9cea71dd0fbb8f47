"""Fetch lists of pages with coroutines: many pages at once, many tasks in one event loop.

fetch → summarise

What to copy for an asynchronous pipeline of your own:

- Stages are ``async def``; `arun` runs them in your loop, and the storage work in threads.
- Pages are fetched in batches, the pages of a batch at the same time. `aresumable` saves the state together
  with the place, so a page whose batch was saved is not fetched again.
- Ctrl-C, or any cancellation, lets the tasks go: the same command goes on with them.
- The stage's ``timeout`` cuts a coroutine off wherever it is, and what was saved by then stays saved.

Run it with ``python async_pipeline_cm.py URL LIST...``; kill it, and run it again.
"""

import argparse
import asyncio
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from async_http import get
from pydantic import BaseModel, Field

from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMate,
    RetryPolicy,
    StageFailedException,
    TaskIO,
    open_task_io,
)
from checkmate_core.testing import CountingTaskIO


class Page(BaseModel):
    """What is kept of a page."""

    url: str
    status: int
    size: int
    sha256: str


class CrawlState(BaseStageState):
    """What the two stages know together.

    Attributes:
        urls: The pages to fetch. The task's input.
        pages: What was fetched, in that order.
    """

    urls: list[str] | None = None
    pages: list[Page] = Field(default_factory=list)


class Fetch(BaseStage[CrawlState]):
    """Fetch the pages, a batch at a time."""

    stage_name: str = "fetch"
    state: CrawlState = Field(default_factory=CrawlState)
    at_once: int = Field(default=8, gt=0, description="Pages in a batch")
    save_every: int | None = Field(
        default=None, description="Batches between two saves; None: the usual pace"
    )

    async def execute_stage(self, previous_state_copy: CrawlState) -> None:
        self.state.require("urls")
        urls = self.state.urls or []
        batches = [urls[start : start + self.at_once] for start in range(0, len(urls), self.at_once)]
        async for batch in self.aresumable(batches, every=self.save_every):
            # At once, and in the list's order: a batch counts as a whole.
            self.state.pages += await _fetch_all(batch)


async def _fetch_all(urls: list[str]) -> list[Page]:
    try:
        async with asyncio.TaskGroup() as group:
            fetches = [group.create_task(_fetch(url)) for url in urls]
    except ExceptionGroup as failed:
        # One of them says more to the retry policy, and to people, than a group does.
        raise failed.exceptions[0] from failed
    return [fetch.result() for fetch in fetches]


async def _fetch(url: str) -> Page:
    status, body = await get(url)
    return Page(url=url, status=status, size=len(body), sha256=hashlib.sha256(body).hexdigest())


class Summarise(BaseStage[CrawlState]):
    """Count what was fetched."""

    stage_name: str = "summarise"
    state: CrawlState = Field(default_factory=CrawlState)

    async def execute_stage(self, previous_state_copy: CrawlState) -> None:
        found = [page for page in self.state.pages if page.status == 200]
        digest = hashlib.sha256("".join(page.sha256 for page in self.state.pages).encode()).hexdigest()
        self.state.result = {
            "pages": len(self.state.pages),
            "found": len(found),
            "bytes": sum(page.size for page in found),
            "sha256": digest,
        }


def cm_factory_async_pipeline(
    url: TaskIO | str,
    urls: Sequence[str] | None = None,
    task_id: str | None = None,
    *,
    timeout: float | None = None,
    save_every: int | None = None,
    **options: Any,
) -> CheckMate[BaseStage[CrawlState], dict[str, Any]]:
    """The pipeline, ready for ``await arun()``.

    Args:
        url: Where the task's state is stored.
        urls: The pages; needed once.
        task_id: A task of this id is resumed if it exists, and created if not.
        timeout: Seconds that an attempt to fetch them all may take; by default any time.
        save_every: Batches between two saves; by default at the pace of `aresumable`.
        **options: More arguments of CheckMate.

    Returns:
        A task whose ``arun()`` returns counts and a digest of the pages.
    """
    first = CrawlState(urls=None if urls is None else list(urls))
    return CheckMate(
        url,
        task_id,
        [Fetch(state=first, timeout=timeout, save_every=save_every), Summarise()],
        retry_policy=RetryPolicy.exponential(0.1, cap=5.0, retry_on=OSError),
        max_attempts=3,
        **options,
    )


async def crawl(
    io: TaskIO, lists: dict[str, list[str]], *, timeout: float | None, save_every: int | None
) -> dict[str, dict[str, Any] | StageFailedException | None]:
    """Run a task for each list, all of them in this loop. A task that fails leaves the others alone.

    Returns:
        The result of each task, or why it failed.
    """

    async def run(name: str, urls: list[str]) -> dict[str, Any] | StageFailedException | None:
        task = cm_factory_async_pipeline(io, urls, name, timeout=timeout, save_every=save_every)
        try:
            return await task.arun()
        except StageFailedException as exc:
            return exc

    results = await asyncio.gather(*(run(name, urls) for name, urls in lists.items()))
    return dict(zip(lists, results, strict=True))


def main() -> int:
    """Run a task for each list, from a shell.

    Returns:
        0 if all are complete, 1 if one failed, 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(description="Fetch lists of pages, durably.")
    parser.add_argument("url", help="where the tasks' state is stored: a folder, file:///…, s3://…")
    parser.add_argument(
        "lists", nargs="+", type=Path, help="files with a URL a line; each is a task of its name"
    )
    parser.add_argument("--timeout", type=float, help="seconds that an attempt may take (default: any time)")
    parser.add_argument("--save-every", type=int, help="batches between two saves (default: the usual pace)")
    arguments = parser.parse_args()
    lists = {path.stem: path.read_text().split() for path in arguments.lists}
    io = CountingTaskIO(open_task_io(arguments.url))
    try:
        results = asyncio.run(crawl(io, lists, timeout=arguments.timeout, save_every=arguments.save_every))
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        return 130
    for name, result in results.items():
        print(f"{name}: {result}")
    print(f"storage requests of this process: {io.counts.total}")
    return int(any(isinstance(result, StageFailedException) for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
