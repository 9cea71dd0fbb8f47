"""What the stages promise one by one: inputs checked, outputs whole or absent, honest scores."""

from pathlib import Path
from typing import Any

import ingest_cm
import pytest
from ingest_files import Output, StaleOutputError, discard, read_records, replacing, write_records
from ingest_questions import KNOWN_ITEMS, Answer, known_items, questions_for
from ingest_search import build_index, index_digest, open_index, search

from checkmate import MissingStateException


@pytest.mark.parametrize("stage_class", ingest_cm.STAGES)
def test_every_stage_says_what_it_lacks(stage_class: Any, tmp_path: Path) -> None:
    stage = stage_class(work=tmp_path)
    with pytest.raises(MissingStateException):
        stage.execute_stage(stage.state)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage_class", ingest_cm.STAGES)
def test_a_rollback_removes_the_stages_own_output_alone(stage_class: Any, tmp_path: Path) -> None:
    names = [stage.output_name for stage in ingest_cm.STAGES]
    for name in names:
        (tmp_path / name).touch()
        (tmp_path / f"{name}.0f.partial").touch()
    stage = stage_class(work=tmp_path)
    stage.rollback_stage(stage.state)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        f"{name}{end}" for name in names if name != stage.output_name for end in ("", ".0f.partial")
    }


def test_a_rollback_before_there_is_a_work_folder_does_nothing(tmp_path: Path) -> None:
    discard(tmp_path / "absent", "listing.jsonl")
    ingest_cm.remove_outputs(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_removing_outputs_keeps_what_is_not_an_output(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "listing.jsonl").touch()
    (tmp_path / "work" / "mine.txt").touch()
    ingest_cm.remove_outputs(tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["mine.txt"]


def test_an_output_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "output"
    target.write_text("old")

    def fail_half_way() -> None:
        with replacing(target) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert [path.name for path in tmp_path.iterdir()] == ["output"]
    assert target.read_text() == "old"


def test_records_come_back_as_they_were_and_only_if_they_did_not_change(tmp_path: Path) -> None:
    records = [{"text": "line\u2028separator\nand \U0001f40c"}, {"text": ""}]
    output = write_records(tmp_path, "records", records)
    assert output.records == 2
    assert list(read_records(tmp_path, output)) == records
    with pytest.raises(StaleOutputError, match="changed"):
        read_records(tmp_path, output.model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(StaleOutputError, match="missing"):
        read_records(tmp_path, Output(path="other", sha256="", records=0))


def test_a_source_that_changes_after_it_was_listed_is_refused(documents: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    discover = ingest_cm.Discover(work=work, state=ingest_cm.IngestState(source=str(documents)))
    discover.execute_stage(discover.state)
    (documents / "module.py").write_text("changed")
    read = ingest_cm.Read(work=work, state=discover.state)
    with pytest.raises(StaleOutputError, match=r"module\.py has changed"):
        read.execute_stage(discover.state)
    assert [path.name for path in work.iterdir()] == ["listing.jsonl"]


def test_the_index_has_one_digest_for_one_content(tmp_path: Path) -> None:
    rows = [("a.py", "Apples", "red and green"), ("b.py", "Pears", "green and yellow")]
    digests = {build_index(tmp_path / name, rows) for name in ("first", "second")}
    assert digests == {index_digest(tmp_path / "first")}
    assert build_index(tmp_path / "third", rows[::-1]) not in digests


def test_a_search_ranks_documents_and_takes_any_question(tmp_path: Path) -> None:
    rows = [("a.py", "Apples", "pears once"), ("b.py", "Pears", "green"), ("b.py", "Pears", "pears, pears")]
    build_index(tmp_path / "index", rows)
    db = open_index(tmp_path / "index")
    try:
        assert search(db, "What is it with pears?", 5) == ["b.py", "a.py"]
        assert search(db, "pears", 1) == ["b.py"]
        assert search(db, '"quoted" AND (NEAR* -', 5) == []
        assert search(db, "what is it", 5) == []
    finally:
        db.close()


def test_scores() -> None:
    answer = Answer(question="?", right=["a", "b"], found=["x", "a", "y", "b"])
    assert [answer.recall(k) for k in (1, 2, 5)] == [0, 0.5, 1]
    assert answer.reciprocal_rank() == 0.5
    assert Answer(question="?", right=["a"], found=["x"]).reciprocal_rank() == 0


def test_questions_fit_the_corpus() -> None:
    library = {"argparse.py": "t", "csv.py": "t", "heapq.py": "t", "own.py": "Own words"}
    kind, questions = questions_for(library)
    assert (kind, len(questions)) == ("curated", 3)
    kind, questions = questions_for({"types.py": "Types of ours", "own.py": "Own words"})
    assert (kind, questions) == (
        "known-item",
        {"Own words": ("own.py",), "Types of ours": ("types.py",)},
    )


def test_known_items_are_unambiguous_few_and_always_the_same() -> None:
    titles = {
        f"{number:04}.txt": f"Title number {number // 2 if number < 100 else number}" for number in range(500)
    }
    titles["empty.txt"] = ""
    items = known_items(titles)
    assert 0 < len(items) <= KNOWN_ITEMS
    assert all(question == titles[path] for question, (path,) in items.items())
    assert not any(path < "0100" for (path,) in items.values())
    assert items == known_items(dict(reversed(titles.items())))
