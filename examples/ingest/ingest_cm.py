"""A folder of documents, made searchable in five stages that survive the death of their process.

discover → read → chunk → index → evaluate

What to copy for a pipeline of your own:

- One state class for all stages, every attribute with a default. It carries paths, counts and
  digests; what they tell of lies in files (or a bucket, or a database), never in the state.
- A stage begins by checking what it needs: ``self.state.require(...)``.
- A stage may run twice if its process dies. So its output replaces the old one in one step, or
  appears in one step, and ``rollback_stage`` removes what an attempt left behind.
- The module is called ``NAME_cm.py`` and has a ``cm_factory_NAME`` that returns the task, ready to run.

Run it with ``python ingest_cm.py URL``; kill it, and run it again.
"""

import argparse
import hashlib
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ingest_files import Output, Record, StaleOutputError, discard, read_records, replacing, write_records
from ingest_questions import ask, mean, questions_for
from ingest_search import build_index, documents_in, index_digest, open_index, search
from ingest_text import chunk_spans, decode, find_files, normalise, printable, title_of
from pydantic import Field

from checkmate import BaseStage, BaseStageState, CheckMate

T = TypeVar("T")

on_progress: Callable[[str, int, int], None] | None = None
"""If set, called with a stage's name, how many items it has done, and of how many."""


class IngestState(BaseStageState):
    """What the five stages know together.

    Attributes:
        source: The folder of documents. The task's input, and so the only path on its own.
        listing: One record per file: path, size and digest.
        documents: One record per document: path, title, encoding and normalised text.
        skipped: How many of the files are not text.
        chunks: One record per document: where its chunks begin and end.
        chunk_count: How many chunks there are in all.
        index: The search index; its digest is that of what it holds.
        evaluation: One record per question: right documents and found ones.
    """

    source: str | None = None
    listing: Output | None = None
    documents: Output | None = None
    skipped: int | None = None
    chunks: Output | None = None
    chunk_count: int | None = None
    index: Output | None = None
    evaluation: Output | None = None


class IngestStage(BaseStage[IngestState]):
    """What the five stages share: the work folder, its cleaning up, and progress."""

    output_name: ClassVar[str]

    state: IngestState = Field(default_factory=IngestState)
    work: Path = Field(description="Folder for outputs; every process that resumes the task must see it")

    def rollback_stage(self, previous_state_copy: IngestState) -> None:
        """Remove what the failed or interrupted attempt wrote."""
        discard(self.work, self.output_name)

    def needed(self, name: str) -> Output:
        """The output of an earlier stage, or MissingStateException."""
        self.state.require(name)
        output: Output = getattr(self.state, name)
        return output

    def write_output(self, records: Iterable[Record]) -> Output:
        """Write this stage's records; they appear all at once or not at all."""
        self.work.mkdir(parents=True, exist_ok=True)
        return write_records(self.work, self.output_name, records)

    def tracked(self, items: Iterable[T], total: int) -> Iterator[T]:
        """The same items, counted while they are worked on."""
        for done, item in enumerate(items):
            self._report(done, total)
            yield item
        self._report(total, total)

    def _report(self, done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(self.stage_name, done, total)


class Discover(IngestStage):
    """List the text and source files with their sizes and digests, in a stable order."""

    output_name = "listing.jsonl"

    stage_name: str = "discover"
    description: str = "List the files with their sizes and digests"

    def execute_stage(self, previous_state_copy: IngestState) -> None:
        self.state.require("source")
        source = Path(str(self.state.source))
        paths = find_files(source, excluded=self.work)
        if not paths:
            raise ValueError(f"there are no text or source files in {source}")
        self.state.listing = self.write_output(
            _listed(source, path) for path in self.tracked(paths, len(paths))
        )


def _listed(source: Path, path: str) -> Record:
    data = (source / path).read_bytes()
    return {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Read(IngestStage):
    """Decode and normalise every listed file; skip and count what is not text."""

    output_name = "documents.jsonl"

    stage_name: str = "read"
    description: str = "Decode and normalise the documents"

    def execute_stage(self, previous_state_copy: IngestState) -> None:
        self.state.require("source", "listing")
        listing = list(read_records(self.work, self.needed("listing")))
        self.state.documents = self.write_output(self._documents(listing))
        self.state.skipped = len(listing) - self.state.documents.records

    def _documents(self, listing: list[Record]) -> Iterator[Record]:
        for file in self.tracked(listing, len(listing)):
            path = Path(str(self.state.source), file["path"])
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != file["sha256"]:
                raise StaleOutputError(f"{path} has changed since it was listed; start anew")
            if (decoded := decode(data)) is not None:
                name, text = printable(file["path"]), normalise(decoded[0])
                yield {"path": name, "title": title_of(text, name), "encoding": decoded[1], "text": text}


class Chunk(IngestStage):
    """Cut every document into overlapping windows. Offsets are enough: the text stays where it is."""

    output_name = "chunks.jsonl"

    stage_name: str = "chunk"
    description: str = "Cut the documents into overlapping windows"
    size: int = Field(default=2000, gt=0, description="Most characters in a window")
    overlap: int = Field(default=250, ge=0, description="Most characters that two windows share")

    def execute_stage(self, previous_state_copy: IngestState) -> None:
        self.state.require("documents")
        documents = self.needed("documents")
        texts = read_records(self.work, documents)
        count = 0

        def cut() -> Iterator[Record]:
            nonlocal count
            for document in self.tracked(texts, documents.records):
                spans = list(chunk_spans(document["text"], self.size, self.overlap))
                count += len(spans)
                yield {"path": document["path"], "spans": spans}

        self.state.chunks = self.write_output(cut())
        self.state.chunk_count = count


class Index(IngestStage):
    """Build the full-text index."""

    output_name = "index.sqlite"

    stage_name: str = "index"
    description: str = "Build the full-text index"

    def execute_stage(self, previous_state_copy: IngestState) -> None:
        self.state.require("documents", "chunks", "chunk_count")
        texts = read_records(self.work, self.needed("documents"))
        cuts = read_records(self.work, self.needed("chunks"))
        pairs = self.tracked(zip(texts, cuts, strict=True), self.needed("documents").records)
        rows = (
            (document["path"], document["title"], document["text"][start:end])
            for document, chunk in pairs
            for start, end in chunk["spans"]
        )
        with replacing(self.work / self.output_name) as partial_index:
            digest = build_index(partial_index, rows)
        self.state.index = Output(path=self.output_name, sha256=digest, records=self.state.chunk_count or 0)


class Evaluate(IngestStage):
    """Ask questions with known answers, and report how many answers the search finds."""

    output_name = "evaluation.jsonl"

    stage_name: str = "evaluate"
    description: str = "Measure the search by questions with known answers"
    k: int = Field(default=5, gt=0, description="Depth at which recall is taken")

    def execute_stage(self, previous_state_copy: IngestState) -> None:
        self.state.require("listing", "documents", "skipped", "chunks", "index")
        index = self.needed("index")
        path = self.work / index.path
        if not path.is_file() or index_digest(path) != index.sha256:
            raise StaleOutputError(f"{path} is not what the stage before wrote; start anew")
        with closing(open_index(path)) as db:
            kind, questions = questions_for(documents_in(db))
            asked = self.tracked(questions.items(), len(questions))
            answers = list(ask(asked, partial(search, db)))
        self.state.evaluation = self.write_output(answer.model_dump() for answer in answers)
        names = ("listing", "documents", "chunks", "index", "evaluation")
        self.state.result = {
            "files": self.needed("listing").records,
            "documents": self.needed("documents").records,
            "skipped": self.state.skipped,
            "chunks": index.records,
            "questions": len(answers),
            "question_set": kind,
            f"recall_at_{self.k}": mean([answer.recall(self.k) for answer in answers]),
            "mrr": mean([answer.reciprocal_rank() for answer in answers]),
            "digests": {name: self.needed(name).sha256 for name in names},
        }


STAGES: tuple[type[IngestStage], ...] = (Discover, Read, Chunk, Index, Evaluate)


def cm_factory_ingest(
    url: str,
    source: str | Path | None = None,
    work: str | Path = "ingest-work",
    task_id: str | None = None,
    *,
    engine: type[CheckMate[IngestStage, Record]] = CheckMate,
    **options: Any,
) -> CheckMate[IngestStage, Record]:
    """The ingest task, ready to run.

    Args:
        url: Where the task's state is stored.
        source: Folder of documents; by default the running interpreter's standard library.
        work: Folder for the stages' outputs.
        task_id: A task of this id is resumed if it exists, and created if not.
        engine: CheckMate, or a subclass that wants to hear of every transition.
        **options: More arguments of CheckMate, such as ``retry_policy`` and ``max_attempts``.

    Returns:
        A task whose ``run()`` returns counts, recall and digests.
    """
    folder = Path(work).resolve()
    first = IngestState(source=str(Path(source or sysconfig.get_path("stdlib")).resolve()))
    stages: list[IngestStage] = [
        Discover(work=folder, state=first),
        Read(work=folder),
        Chunk(work=folder),
        Index(work=folder),
        Evaluate(work=folder),
    ]
    return engine(url, task_id=task_id, stage_templates=stages, **options)


def remove_outputs(work: str | Path) -> None:
    """Remove what the stages left in a work folder, and the folder itself if nothing else is in it."""
    folder = Path(work)
    if folder.is_dir():
        discard(folder, *(stage.output_name for stage in STAGES))
        if not any(folder.iterdir()):
            folder.rmdir()


def main() -> None:
    """Run the task from a shell."""
    parser = argparse.ArgumentParser(description="Ingest a folder of documents, durably.")
    parser.add_argument("url", help="where the task's state is stored: a folder, file:///…, s3://…")
    parser.add_argument("--source", help="folder of documents (default: the standard library)")
    parser.add_argument("--work", default="ingest-work", help="folder for outputs (default: %(default)s)")
    parser.add_argument("--task-id", default="ingest", help="name of the task (default: %(default)s)")
    arguments = parser.parse_args()
    task = cm_factory_ingest(arguments.url, arguments.source, arguments.work, arguments.task_id)
    for name, value in (task.run() or {}).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
