"""Embed a corpus of Python files with a small real model, and measure how well it is found again.

collect → chunk → embed → index → evaluate

What to copy for a job of your own that handles very many items:

- Items go through in shards. Each shard's vectors are an artifact, the state keeps the refs: some 250 bytes
  for each, whatever is in it. `resumable` saves the state together with the place in the loop.
- Whatever the process dies of, shards that were saved are not embedded again. Those since the last save
  are, and their artifacts, being the same bytes, are not stored twice.
- The stage names what it used (the model and its version) in the state, and refuses to mix two of them.

Run it with ``python embedding_cm.py URL``; kill it, and run it again.
"""

import argparse
import logging
import os
import signal
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
from embedding_corpus import Listing, Shard, list_sources, questions, read_shard
from embedding_model import DIMENSIONS, Vectors, load_model, model_name
from pydantic import Field

from checkmate import ArtifactRef, BaseStage, BaseStageState, CheckMate, StageEvent, TaskIO, open_task_io
from checkmate_core.testing import CountingTaskIO

on_shard: Callable[[int], None] | None = None
"""If set, called with the number of each shard that was embedded and is not saved yet."""

BLOCK = 4096
"""Vectors that are compared at a time."""


class EmbeddingState(BaseStageState):
    """What the five stages know together.

    Attributes:
        folders: Where the corpus is. The task's input.
        listing: The files, with their digests.
        texts: Shards of documents cut into chunks.
        chunks: How many chunks there are in all.
        model: What made the vectors.
        vectors: The vectors of each shard of texts.
        index: All vectors as one array.
    """

    folders: list[str] | None = None
    listing: ArtifactRef | None = None
    texts: list[ArtifactRef] = Field(default_factory=list)
    chunks: int = 0
    model: str | None = None
    vectors: list[ArtifactRef] = Field(default_factory=list)
    index: ArtifactRef | None = None


class EmbeddingStage(BaseStage[EmbeddingState]):
    """What the five stages share."""

    state: EmbeddingState = Field(default_factory=EmbeddingState)

    def shards(self) -> Iterator[Shard]:
        """The texts, a shard at a time."""
        for ref in self.state.texts:
            yield self.artifacts.load(ref, Shard)


class Collect(EmbeddingStage):
    """List the files of the corpus with their digests."""

    stage_name: str = "collect"

    def execute_stage(self, previous_state_copy: EmbeddingState) -> None:
        self.state.require("folders")
        listing = list_sources(self.state.folders or [])
        if not listing.sources:
            raise ValueError(f"there are no Python files in {', '.join(self.state.folders or [])}")
        self.state.listing = self.artifacts.put("listing", listing)


class Chunk(EmbeddingStage):
    """Read the files and cut them into windows, in shards of so many files."""

    stage_name: str = "chunk"
    size: int = Field(default=1000, gt=0, description="Most characters in a window")
    files: int = Field(default=200, gt=0, description="Files in a shard")
    save_every: int | None = Field(default=None, description="Shards between two saves; None: the usual pace")

    def execute_stage(self, previous_state_copy: EmbeddingState) -> None:
        self.state.require("listing")
        sources = self.artifacts.load(self.state.listing, Listing).sources
        for start in self.resumable(range(0, len(sources), self.files), every=self.save_every):
            shard = read_shard(sources[start : start + self.files], self.size)
            self.state.texts.append(self.artifacts.put(f"texts-{start}", shard))
            self.state.chunks += len(shard.texts)


class Embed(EmbeddingStage):
    """Embed every chunk: the long stage, which goes on where it was saved."""

    stage_name: str = "embed"
    save_every: int | None = Field(default=None, description="Shards between two saves; None: the usual pace")

    def execute_stage(self, previous_state_copy: EmbeddingState) -> None:
        if self.state.model not in (None, model_name()):
            raise ValueError(
                f"the vectors so far were made by {self.state.model}, and here is {model_name()}"
            )
        self.state.model = model_name()
        embed = load_model()
        for ref in self.resumable(self.state.texts, every=self.save_every):
            vectors = embed(self.artifacts.load(ref, Shard).texts)
            number = len(self.state.vectors)
            self.state.vectors.append(self.artifacts.put(f"vectors-{number}", vectors))
            if on_shard is not None:
                on_shard(number)


class Index(EmbeddingStage):
    """Put all vectors into one array, through a file: it may be larger than the memory."""

    stage_name: str = "index"

    def execute_stage(self, previous_state_copy: EmbeddingState) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder, "index.npy")
            shape = (self.state.chunks, DIMENSIONS)
            array = numpy.lib.format.open_memmap(path, mode="w+", dtype=numpy.float32, shape=shape)
            row = 0
            for ref in self.state.vectors:
                part = self.artifacts.load(ref)
                array[row : row + len(part)] = part
                row += len(part)
            array.flush()
            del array
            self.state.index = self.artifacts.put("index", path, codec="npy")


class Evaluate(EmbeddingStage):
    """Ask for documents by their summaries, which are not in what was embedded."""

    stage_name: str = "evaluate"
    most: int = Field(default=500, gt=0, description="Most questions")

    def execute_stage(self, previous_state_copy: EmbeddingState) -> None:
        self.state.require("index")
        documents = [(each.summary, len(each.chunks)) for shard in self.shards() for each in shard.documents]
        embedded = [(summary, count) for summary, count in documents if count]
        asked = questions([summary for summary, _ in embedded], self.most)
        queries = load_model()(list(asked.values())) if asked else numpy.zeros((0, DIMENSIONS), "f4")
        with TemporaryDirectory() as folder:
            path = Path(folder, "index.npy")
            self.artifacts.download(self.state.index, path)
            best = _best_scores(numpy.load(path, mmap_mode="r"), queries, [count for _, count in embedded])
        ranks = [
            1 + int((best[:, column] > best[document, column]).sum()) for column, document in enumerate(asked)
        ]
        self.state.result = {
            "files": len(documents),
            "chunks": self.state.chunks,
            "model": self.state.model,
            "index_bytes": self.state.index.size if self.state.index else 0,
            "index_sha256": self.state.index.sha256 if self.state.index else "",
            "questions": len(ranks),
            "recall_at_10": _mean([float(rank <= 10) for rank in ranks]),
            "mrr": _mean([1 / rank for rank in ranks]),
        }


def _best_scores(index: Vectors, queries: Vectors, counts: list[int]) -> Vectors:
    """For each document and query, the score of the chunk that fits best."""
    owners = numpy.repeat(numpy.arange(len(counts)), counts)
    best = numpy.full((len(counts), len(queries)), -1, numpy.float32)
    for start in range(0, len(index), BLOCK):
        scores = index[start : start + BLOCK] @ queries.T
        numbers, firsts = numpy.unique(owners[start : start + BLOCK], return_index=True)
        best[numbers] = numpy.maximum(best[numbers], numpy.maximum.reduceat(scores, firsts, axis=0))
    return best


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def cm_factory_embedding(
    url: TaskIO | str,
    folders: list[str] | None = None,
    task_id: str | None = None,
    *,
    files: int = 200,
    size: int = 1000,
    save_every: int | None = None,
    **options: Any,
) -> CheckMate[EmbeddingStage, dict[str, Any]]:
    """The embedding task, ready to run.

    Args:
        url: Where the task's state and vectors are stored.
        folders: The corpus; by default the standard library of the running interpreter.
        task_id: A task of this id is resumed if it exists, and created if not.
        files: Files in a shard.
        size: Most characters in a window.
        save_every: Shards between two saves; by default at the pace of `resumable`.
        **options: More arguments of CheckMate.

    Returns:
        A task whose ``run()`` returns counts, the digest of the index, and the search's quality.
    """
    first = EmbeddingState(folders=[str(Path(each).resolve()) for each in folders or [_standard_library()]])
    stages: list[EmbeddingStage] = [
        Collect(state=first),
        Chunk(files=files, size=size, save_every=save_every),
        Embed(save_every=save_every),
        Index(),
        Evaluate(),
    ]
    return CheckMate(url, task_id, stages, **options)


def _standard_library() -> str:
    return sysconfig.get_path("stdlib")


def _print_event(event: StageEvent) -> None:
    print(f"{event.stage_name}: {event.progress or event.message}")


def main() -> None:
    """Run the task from a shell."""
    parser = argparse.ArgumentParser(description="Embed a corpus of Python files, durably.")
    parser.add_argument("url", help="where state and vectors are stored: a folder, file:///…, s3://…")
    parser.add_argument(
        "--source", action="append", help="folder of Python files (default: the standard library)"
    )
    parser.add_argument("--task-id", default="embedding", help="name of the task (default: %(default)s)")
    parser.add_argument("--files", type=int, default=200, help="files in a shard (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=1000, help="characters in a window (default: %(default)s)"
    )
    parser.add_argument("--save-every", type=int, help="shards between two saves (default: the usual pace)")
    parser.add_argument("--kill-at", type=int, metavar="SHARD", help="SIGKILL once this shard is embedded")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)  # importing the model would set INFO
    embedded: list[int] = []

    def count(number: int) -> None:
        embedded.append(number)
        if number == arguments.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    global on_shard
    on_shard = count
    io = CountingTaskIO(open_task_io(arguments.url))
    task = cm_factory_embedding(
        io,
        arguments.source,
        arguments.task_id,
        files=arguments.files,
        size=arguments.size,
        save_every=arguments.save_every,
        # Renewals are requests, too: on a slow machine there would be more of them than the README says.
        lease=600.0,
        observers=[_print_event],
    )
    result = task.run()
    for name, value in (result or {}).items():
        print(f"{name}: {value}")
    print(f"shards embedded by this process: {len(embedded)}")
    print(f"storage requests of this process: {io.counts.total}")


if __name__ == "__main__":
    main()
