"""Large values of a task: what can be put, how it is stored, and how it comes back."""

import asyncio
import io as pyio
import json
import math
import random
import sys
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from checkmate import (
    ArtifactRef,
    CorruptObjectException,
    IncompatibleTaskException,
    InvalidStateException,
    LockLostException,
    MissingStateException,
    PersistenceDataNotFoundException,
    TaskEngineException,
    TaskIO,
    TaskStore,
    copy_tasks,
)
from checkmate_core.artifacts import INLINE_BELOW, TaskArtifacts
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.record import MAX_STATE_BYTES
from checkmate_core.testing import CallBefore, CountingTaskIO, FaultyTaskIO, Operation, RequestCounts
from checkmate_core.types import Capability

from .albums import CONTENT, PART, album_engine, artifact_objects, artifacts_of
from .pipelines import (
    MANIFEST,
    TASK,
    FakeClock,
    Limited,
    Notes,
    Step,
    document,
    engine_for,
    raw,
    steps,
)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskArtifacts, "part_size", PART)


class Point(BaseModel):
    x: float
    when: date | None = None


class NamedPoint(Point):
    name: str


class Line(BaseModel):
    start: Point
    extra: Any = None


def put(io: TaskIO, value: Any, **options: Any) -> ArtifactRef:
    return artifacts_of(io).put("it", value, **{"inline_below": 0, **options})


@given(
    size=st.one_of(
        st.integers(0, 12 * PART),
        st.sampled_from([0, 1, PART - 1, PART, PART + 1, 4 * PART, 5 * PART, 9 * PART + 1]),
    ),
    chunk=st.integers(1, 3 * PART),
    inline_below=st.sampled_from([0, PART, 2 * PART]),
    cut=st.integers(0, 12 * PART),
)
def test_content_of_any_size_comes_back_in_every_way(
    size: int, chunk: int, inline_below: int, cut: int
) -> None:
    io = MemoryTaskIO()
    content = random.Random(size).randbytes(size)
    artifacts = artifacts_of(io)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("checkmate_core.artifacts.task_artifacts._CHUNK", chunk)
        ref = artifacts.put("it", pyio.BytesIO(content), inline_below=inline_below)
    assert ref == artifacts.put("it", content, inline_below=inline_below), (
        "the same content is the same artifact"
    )
    assert (ref.size, artifacts.read(ref)) == (size, content)
    # What fits into one object is one; the ref alone holds what is below the threshold, if that fits, too.
    is_inline = size < inline_below and size <= PART
    parts = 0 if is_inline else math.ceil(size / PART) + 1 if size > PART else 1
    assert len(io.objects) == parts
    with artifacts.open(ref) as file:
        assert b"".join(iter(lambda: file.read(chunk), b"")) == content
        file.seek(cut)
        assert file.read(chunk) == content[cut : cut + chunk]
        assert file.seek(0, pyio.SEEK_END) == size


def test_a_stage_puts_and_a_later_one_reads(io: TaskIO) -> None:
    with album_engine(io) as engine:
        engine.execute()
        assert engine.task_result == len(CONTENT)
        assert engine.check_sync()
    view = TaskStore(io).get(TASK).stages[-1]
    ref = ArtifactRef.model_validate(view.state["photo"])
    assert (ref.kept, ref.size) == ("parts", len(CONTENT))
    assert TaskStore(io).artifacts(TASK).read(ref) == CONTENT
    assert not hasattr(TaskStore(io).artifacts(TASK), "put")
    assert len(artifact_objects(io)) == 12


def test_small_values_stay_in_the_state(io: TaskIO) -> None:
    content = bytes(range(PART))
    with album_engine(io, content=content) as engine:
        engine.execute()
    assert artifact_objects(io) == []
    ref = ArtifactRef.model_validate(TaskStore(io).get(TASK).stages[0].state["photo"])
    assert (ref.kept, TaskStore(io).artifacts(TASK).read(ref)) == ("inline", content)
    assert "inline=" not in repr(ref)
    assert INLINE_BELOW == 4096


def test_files_are_put_and_downloaded(io: TaskIO, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CONTENT)
    artifacts = artifacts_of(io)
    ref = artifacts.put("it", source)
    with source.open("rb") as file:
        file.seek(3)
        assert artifacts.read(artifacts.put("rest", file)) == CONTENT[3:]
    target.write_bytes(b"old")
    assert artifacts.download(ref, target) == target
    assert target.read_bytes() == CONTENT
    artifacts.download(put(io, b"small"), str(target))
    assert target.read_bytes() == b"small"
    with pytest.raises(FileNotFoundError):
        artifacts.put("it", tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["source", "target"]


def test_models_come_back_by_the_type_that_is_asked_for(memory: TaskIO) -> None:
    artifacts = artifacts_of(memory)
    point = NamedPoint(x=math.nan, when=date(2026, 11, 24), name="n")
    ref = artifacts.put("point", NamedPoint(x=1.5, name="n"))
    assert ref.codec == "json"
    assert artifacts.load(ref, NamedPoint) == NamedPoint(x=1.5, name="n")
    assert artifacts.load(ref) == {"x": 1.5, "when": None, "name": "n"}
    with pytest.raises(
        IncompatibleTaskException, match=r"artifact 'point' of task task-1 does not fit Line: start"
    ):
        artifacts.load(ref, Line)
    for lossy in (point, Line(start=NamedPoint(x=1, name="lost")), Line(start=Point(x=1), extra=(1, 2))):
        with pytest.raises(InvalidStateException, match=r"'bad' of task task-1 (would come|cannot be read)"):
            artifacts.put("bad", lossy)


def test_arrays_come_back_as_they_were(memory: TaskIO) -> None:
    import numpy as np

    artifacts = artifacts_of(memory)
    for array in (
        np.arange(1000.0).reshape(10, 100),
        np.asfortranarray(np.arange(100, dtype="i2").reshape(10, 10)),
        np.array(3),
        np.zeros((0, 3)),
        np.zeros(5, dtype=[("a", "i4"), ("b", "U3")]),
    ):
        ref = artifacts.put("array", array)
        found = artifacts.load(ref, np.ndarray)
        assert (ref.codec, found.dtype, found.shape) == ("npy", array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()
    before = raw(memory)
    for refused in (np.array([object()]), np.ma.masked_array([1], mask=[True])):
        with pytest.raises(InvalidStateException, match="plain arrays"):
            artifacts.put("array", refused)
    with pytest.raises(IncompatibleTaskException, match="is a bytes, not a ndarray"):
        artifacts.load(artifacts.put("raw", b""), np.ndarray)
    pickled = pyio.BytesIO()
    np.save(pickled, np.array([object()]), allow_pickle=True)
    ref = artifacts.put("pickled", pickled.getvalue(), codec="npy", inline_below=PART * 4)
    with pytest.raises(IncompatibleTaskException, match="without pickle"):
        artifacts.load(ref)
    assert {name for name in raw(memory) if name not in before} <= set(artifact_objects(memory))


def test_tables_come_back_as_they_were(memory: TaskIO) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    artifacts = artifacts_of(memory)
    table = pa.table({"id": range(500), "text": [str(number) for number in range(500)]})
    ref = artifacts.put("table", table)
    assert (ref.codec, ref.kept) == ("parquet", "parts")
    assert artifacts.load(ref, pa.Table) == table
    # A file that is opened reads only what is asked for.
    file = parquet.ParquetFile(artifacts.open(ref), pre_buffer=False)
    assert file.read(["text"], use_threads=False) == table.select(["text"])
    file = pyio.BytesIO()
    parquet.write_table(table, file)
    assert artifacts.load(artifacts.put("file", file.getvalue(), codec="parquet")) == table
    with pytest.raises(InvalidStateException, match="'table' of task task-1 cannot be stored as Parquet"):
        artifacts.put("table", pa.table({"x": pa.array([None], pa.month_day_nano_interval())}))
    with pytest.raises(IncompatibleTaskException, match="is no Parquet file"):
        artifacts.load(artifacts.put("file", b"no", codec="parquet"))


@pytest.mark.parametrize("codec", ["npy", "parquet"])
def test_a_missing_library_is_named_with_what_installs_it(
    memory: TaskIO, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    artifacts = artifacts_of(memory)
    ref = artifacts.put("it", b"bytes", codec=codec)
    for name in ("numpy", "numpy.lib.format", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TaskEngineException, match=r"pip install 'checkmate\[(numpy|arrow)\]'") as caught:
        artifacts.load(ref)
    assert isinstance(caught.value.__cause__, ImportError)
    assert artifacts.read(ref) == b"bytes"


@pytest.mark.parametrize(
    ("value", "options", "match"),
    [
        ("text", {}, r"put Path\(…\) or ….encode\(\)"),
        (3, {}, "is a builtins.int"),
        ({}, {}, "is a builtins.dict"),
        (pyio.StringIO("text"), {}, "opened in binary mode"),
        (b"", {"codec": "pickle"}, "there is no codec 'pickle'"),
        (Point(x=1), {"codec": "npy"}, "is stored as json, not as npy"),
        (b"", {"inline_below": 10**9}, "inline_below must be from 0"),
        (b"", {"inline_below": -1}, "inline_below must be from 0"),
        (b"", {"name": ""}, "1 to 150 characters"),
        (b"", {"name": 7}, "1 to 150 characters"),
    ],
)
def test_what_cannot_be_put_is_refused_before_anything_is_stored(
    memory: TaskIO, value: Any, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidStateException, match=match):
        artifacts_of(memory).put(options.pop("name", "it"), value, **options)
    assert raw(memory) == {}


def test_a_file_in_text_mode_that_hides_it_is_refused(memory: TaskIO) -> None:
    class Odd:
        def read(self, size: int = -1) -> Any:
            return "text"

    with pytest.raises(InvalidStateException, match="returns str"):
        artifacts_of(memory).put("it", Odd())


def test_a_ref_that_is_not_there_yet_says_so(memory: TaskIO) -> None:
    artifacts = artifacts_of(memory)
    for way in (artifacts.read, artifacts.load, artifacts.open, lambda ref: artifacts.download(ref, "x")):
        with pytest.raises(MissingStateException, match="the ref is None"):
            way(None)


WAYS = ["read", "open", "load", "download"]


def take(artifacts: TaskArtifacts, ref: ArtifactRef, way: str, folder: Path) -> bytes:
    if way == "open":
        with artifacts.open(ref) as file:
            return b"".join(iter(lambda: file.read(10), b""))
    if way == "download":
        return artifacts.download(ref, folder / "target").read_bytes()
    found: bytes = getattr(artifacts, way)(ref)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [PART, 11 * PART], ids=["one object", "parts"])
def test_damage_is_found_before_the_bytes_are_handed_out(
    memory: TaskIO, tmp_path: Path, way: str, size: int
) -> None:
    artifacts = artifacts_of(memory)
    ref = artifacts.put("photo", CONTENT[:size], inline_below=0)
    before = raw(memory)
    for name in [name for name in before if not name.endswith(".json")]:
        for damaged in (before[name][:-1], bytes([before[name][0] ^ 1]) + before[name][1:]):
            memory.write(name, damaged)
            with pytest.raises(
                CorruptObjectException, match=rf"{name}, which holds artifact 'photo' of task {TASK}"
            ):
                take(artifacts, ref, way, tmp_path)
        memory.remove(name)
        with pytest.raises(
            PersistenceDataNotFoundException, match=rf"'photo' .* is not whole: .*{name} is not there"
        ):
            take(artifacts, ref, way, tmp_path)
        memory.write(name, before[name])
    assert list(tmp_path.iterdir()) == []
    assert take(artifacts, ref, way, tmp_path) == CONTENT[:size]


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_index_is_found(memory: TaskIO, tmp_path: Path, way: str) -> None:
    artifacts = artifacts_of(memory)
    ref = artifacts.put("photo", CONTENT[: 2 * PART])
    artifacts.put("photo", CONTENT[PART : 3 * PART])
    name = f"{TASK}/artifacts/1-{ref.sha256}.json"
    index = document(memory, name)
    for changes, match in (
        ({"parts": index["parts"][::-1]}, "each of its 2 parts is what its index says, but together"),
        ({"parts": index["parts"][:1]}, "not as many parts"),
        ({"size": ref.size - 1}, "is of other content than its name says"),
    ):
        memory.write(name, json.dumps({**index, **changes}).encode())
        with pytest.raises(CorruptObjectException, match=match):
            take(artifacts, ref, way, tmp_path)
    memory.write(name, b"{")
    with pytest.raises(CorruptObjectException, match="artifact index"):
        artifacts.put("photo", CONTENT[: 2 * PART])


def test_a_damaged_inline_value_is_found(memory: TaskIO) -> None:
    ref = artifacts_of(memory).put("it", b"value")
    assert ref.inline is not None
    for text in (ref.inline[:-4], "AAAA" + ref.inline[4:], "!"):
        with pytest.raises(CorruptObjectException, match="'it' of task task-1 is kept in the state itself"):
            artifacts_of(memory).read(ref.model_copy(update={"inline": text}))
    with pytest.raises(ValueError, match="in the ref if it is kept inline"):
        ArtifactRef.model_validate({**ref.model_dump(), "inline": None})


def test_an_unknown_codec_is_refused_and_its_bytes_can_be_read(memory: TaskIO) -> None:
    ref = put(memory, b"bytes").model_copy(update={"codec": "later"})
    with pytest.raises(IncompatibleTaskException, match="codec 'later', which this CheckMate does not know"):
        artifacts_of(memory).load(ref)
    assert artifacts_of(memory).read(ref) == b"bytes"


def test_putting_the_same_content_again_sends_no_part(memory: TaskIO) -> None:
    counting = CountingTaskIO(memory)
    put(counting, CONTENT)
    # Eleven parts and the index; looks end when so many in a row were missing that nothing can be there.
    assert counting.counts == RequestCounts(writes=12, exists=7)
    before = counting.counts
    put(counting, CONTENT)
    assert counting.counts - before == RequestCounts(writes=1, reads=1, exists=11), (
        "the index alone is offered"
    )
    before = counting.counts
    artifacts_of(counting).read(put(memory, CONTENT))
    assert counting.counts - before == RequestCounts(reads=12)


def test_parts_of_another_size_are_as_good(memory: TaskIO, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = put(memory, CONTENT)
    monkeypatch.setattr(TaskArtifacts, "part_size", PART // 2)
    assert put(memory, CONTENT) == ref
    assert artifacts_of(memory).read(ref) == CONTENT


def test_a_store_that_cannot_create_holds_artifacts(tmp_path: Path) -> None:
    io = Limited(*Capability)
    with album_engine(io, no_lock=True) as engine:
        engine.execute()
        assert engine.task_result == len(CONTENT)
        engine.unbind(clean=True)
        engine.bind()
        assert set(raw(io)) == {MANIFEST}


def test_a_worker_that_lost_the_task_stops_sending(memory: TaskIO) -> None:
    def lose() -> None:
        if len(artifact_objects(memory)) >= 3:
            raise LockLostException("lost")

    with pytest.raises(LockLostException):
        artifacts_of(memory, check_held=lose).put("it", CONTENT * 10)
    # Those that were on their way already.
    assert 3 <= len(artifact_objects(memory)) <= 6


def test_a_stage_whose_lock_was_taken_stops_sending(memory: TaskIO) -> None:
    client, clock = FaultyTaskIO(memory), FakeClock()
    client.plan(
        lambda call: call.operation is Operation.WRITE and "/artifacts/" in call.name,
        CallBefore(lambda _: clock.stand_still(10_000)),
    )
    engine = album_engine(client)
    engine.clock = clock
    with pytest.raises(LockLostException), engine:
        engine.execute()
    # Those that were on their way already.
    assert len(artifact_objects(memory)) <= 4


def test_clean_removes_all_without_reading_it(io: TaskIO) -> None:
    with album_engine(io) as engine:
        engine.execute()
    counting = CountingTaskIO(io)
    engine = album_engine(counting)
    engine.bind()
    before = counting.counts
    engine.unbind(clean=True)
    assert set(raw(io)) == {MANIFEST}
    assert (counting.counts - before).reads <= 2, "of the stages, for their versions"
    with pytest.raises(PersistenceDataNotFoundException):
        TaskStore(io).artifacts(TASK)


def test_a_store_without_conditional_removal_keeps_no_artifacts_either() -> None:
    io = Limited(Capability.REMOVE_IF)
    with album_engine(io) as engine:
        engine.execute()
        engine.unbind(clean=True)
        engine.bind()
    assert artifact_objects(io) == []


def test_a_sweep_that_comes_late_leaves_the_next_life_its_artifacts(memory: TaskIO) -> None:
    """The names of both lives would be one, and so would the versions, were they of the content alone."""
    with album_engine(memory) as engine:
        engine.execute()
    refs: list[ArtifactRef] = []

    def next_life(_: object) -> None:
        with album_engine(memory) as second:
            second.execute()
            refs.append(second.stages[0].state.photo)

    late = FaultyTaskIO(memory)
    late.plan(
        lambda call: call.operation is Operation.REMOVE and "/artifacts/" in call.name, CallBefore(next_life)
    )
    cleaning = album_engine(late, no_lock=True)
    cleaning.bind()
    cleaning.unbind(clean=True)
    assert len(refs) == 1
    assert TaskStore(memory).artifacts(TASK).read(refs[0]) == CONTENT
    base_epoch = document(memory, MANIFEST)["base_epoch"]
    assert all(name.startswith(f"{TASK}/artifacts/{base_epoch}-") for name in artifact_objects(memory))


def test_a_late_part_of_an_earlier_life_is_garbage_that_goes_with_the_next(memory: TaskIO) -> None:
    with album_engine(memory) as engine:
        engine.execute()
        engine.unbind(clean=True)
        engine.bind()
    put(memory, b"late" * PART)
    with album_engine(memory) as engine:
        engine.unbind(clean=True)
        engine.bind()
    assert artifact_objects(memory) == []


def test_copies_of_a_task_bring_their_artifacts(io: TaskIO) -> None:
    with album_engine(io) as engine:
        engine.unbind(clean=True)
        engine.bind()
        engine.execute()
        ref = engine.stages[0].state.photo
    target = MemoryTaskIO()
    assert copy_tasks(io, target).is_complete
    assert TaskStore(target).artifacts(TASK).read(ref) == CONTENT
    assert copy_tasks(io, target).tasks[0].written == 0
    with album_engine(target) as engine:
        engine.execute()
        assert engine.stages[1].artifacts.read(ref) == CONTENT


def test_a_state_that_grew_too_large_is_refused_with_advice(memory: TaskIO) -> None:
    def grow(to: int) -> Callable[[Step, Notes], None]:
        def action(stage: Step, _: Notes) -> None:
            stage.state.trail = ["é" * (to // 2)]

        return action

    room = MAX_STATE_BYTES - 100
    with engine_for(memory, steps("a", action=grow(room))) as engine:
        engine.execute()
        engine.unbind(clean=True)
        engine.bind()
    with engine_for(memory, steps("a", action=grow(MAX_STATE_BYTES))) as engine:
        with pytest.raises(TaskEngineException) as caught:
            engine.execute()
        fault = caught.value if isinstance(caught.value, InvalidStateException) else caught.value.__cause__
        assert isinstance(fault, InvalidStateException)
        for advice in (
            "stage 'a' of task task-1",
            "4,194,304 are allowed",
            "trail (4,194,3",
            "self.artifacts.put(name, value)",
        ):
            assert advice in str(fault)
    assert sum(map(len, raw(memory).values())) < 10_000, "nothing of it was stored"
    templates = [Step(stage_name="a", state=Notes(source="x" * MAX_STATE_BYTES))]
    with pytest.raises(InvalidStateException, match=r"artifacts.put"):
        engine_for(memory, templates, task_id="other").bind()
    assert not list(memory.list("other/"))


class Slow:
    """A file that never ends, and says when it is read."""

    def __init__(self) -> None:
        self.reads = threading.Event()

    def read(self, size: int = -1, /) -> bytes:
        self.reads.set()
        return bytes(size)


def test_coroutines_put_and_read_in_threads(io: TaskIO, tmp_path: Path) -> None:
    async def use() -> None:
        artifacts = artifacts_of(io)
        ref = await artifacts.aput("it", CONTENT)
        assert await artifacts.aread(ref) == CONTENT
        assert await artifacts.aload(ref) == CONTENT
        assert await artifacts.aload(ref, bytes) == CONTENT
        assert (await artifacts.adownload(ref, tmp_path / "target")).read_bytes() == CONTENT

    asyncio.run(use())


def test_a_cancelled_put_has_ended_when_the_cancellation_arrives(memory: TaskIO) -> None:
    file = Slow()

    async def use() -> None:
        task = asyncio.create_task(artifacts_of(memory).aput("it", file))
        await asyncio.to_thread(file.reads.wait)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        names = {thread.name.partition("_")[0] for thread in threading.enumerate()}
        assert "checkmate uploads" not in names
        file.reads.clear()
        await asyncio.sleep(0.01)
        assert not file.reads.is_set()

    asyncio.run(use())
