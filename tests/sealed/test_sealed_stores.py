"""What a store holds that was opened with a key or with compression, and what it refuses."""

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from checkmate import (
    CheckMate,
    CheckMateEngine,
    CopyOutcome,
    CorruptObjectException,
    SealedObjectException,
    StageStatus,
    TaskStore,
    UnsupportedBackendException,
    copy_tasks,
    open_task_io,
)
from checkmate_core.io import registry
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.io.sealed_body import COMPRESSED, ENCRYPTED, MAGIC
from checkmate_core.testing import CountingTaskIO
from checkmate_core.types import ABSENT
from checkmate_io_sealed import _envelope
from checkmate_io_sealed.sealed import SealedTaskIO
from tests.engine.pipelines import LOCK, MANIFEST, TASK, Step, engine_for, steps

from .keys import NEW, OLD, OTHER, holds_a_key, id_of, opened, stored, text

SECRET = "the patient's name"
BODY = json.dumps({"format": 1, "text": SECRET * 100}).encode()


@pytest.fixture
def url(checkmate_memory_url: str) -> str:
    return checkmate_memory_url


@pytest.fixture
def task(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with one finished task, and one that somebody holds, sealed by the key in OUR_KEY."""
    monkeypatch.setenv("OUR_KEY", text(OLD))
    io = open_task_io(url, compress="zstd", key="env:OUR_KEY")
    with engine_for(io, [Step(stage_name=SECRET[:5])]) as engine:
        engine.execute()
    engine_for(io, task_id="held").bind()
    return url


def test_nothing_of_a_task_can_be_read_below(task: str) -> None:
    found = stored(task)
    assert set(found) > {MANIFEST, "_locks/held.lock"}
    for name, data in found.items():
        assert data[:4] == MAGIC, name
        assert data[5] & ENCRYPTED, name
        assert not any(word in data for word in (b"COMPLETE", b"Step", b"format", SECRET.encode()))
        assert not holds_a_key(data)
    assert any(data[5] & COMPRESSED for data in found.values())


@pytest.mark.parametrize("query", ["?compress=zstd&key=env:OUR_KEY", "?key=env:OUR_KEY"])
def test_every_place_that_takes_a_url_takes_the_options(task: str, query: str) -> None:
    assert TaskStore(task + query).get(TASK).status is StageStatus.COMPLETE
    assert TaskStore(task, key="env:OUR_KEY").get(TASK).result == 1
    loaded = CheckMate[Step, int].load(task + query, TASK)
    assert loaded.run() == 1
    with CheckMateEngine[Step, int](task + query, "another", steps()) as engine:
        engine.execute()
    assert stored(task)["another/task.json"][:4] == MAGIC


def test_a_wrong_key_names_the_right_one_and_changes_nothing(task: str) -> None:
    before = stored(task)
    io = open_task_io(task, key=[NEW, OTHER])
    attempts: list[Callable[[], object]] = [
        lambda: TaskStore(io).get(TASK),
        lambda: engine_for(io).bind(),
        lambda: CheckMate[Step, int].load(io, TASK),
        lambda: TaskStore(io).unlock("held"),
        lambda: io.read(MANIFEST),
    ]
    for attempt in attempts:
        with pytest.raises(SealedObjectException, match=id_of(OLD)) as caught:
            attempt()
        assert f"{id_of(NEW)}, {id_of(OTHER)}" in str(caught.value)
        assert not holds_a_key(caught.value)
    assert stored(task) == before


def test_without_the_layer_a_store_says_that_it_is_sealed(task: str) -> None:
    before = stored(task)
    plain = open_task_io(task)
    for attempt in (
        lambda: TaskStore(plain).get(TASK),
        lambda: engine_for(plain).bind(),
        # An object that merely cannot be read would be replaced by a released lock.
        lambda: TaskStore(plain).unlock("held"),
        lambda: TaskStore(task, compress="zstd").get(TASK),
    ):
        with pytest.raises(SealedObjectException, match=f"sealed with the key {id_of(OLD)}.*env:NAME"):
            attempt()
    [first, second] = TaskStore(plain).list()
    assert all(id_of(OLD) in (task.fault or "") for task in (first, second))
    assert stored(task) == before


def test_without_the_layer_a_compressed_store_says_so(url: str) -> None:
    engine_for(open_task_io(url, compress="zstd")).bind()
    with pytest.raises(SealedObjectException, match="compress='zstd'"):
        TaskStore(url).get(TASK)


def test_one_task_that_cannot_be_opened_hides_no_other(task: str) -> None:
    body = stored(task)[MANIFEST]
    open_task_io(task).write(MANIFEST, body[:-1] + bytes([body[-1] ^ 1]))
    [first, second] = TaskStore(task, key=OLD).list()
    assert (first.task_id, second.task_id) == (TASK, "held")
    assert "was changed" in (first.fault or "")
    assert second.fault is None


def test_an_object_that_is_not_sealed_is_refused_unless_it_is_asked_for(url: str) -> None:
    open_task_io(url).write("a/plain", BODY)
    open_task_io(url, compress="zstd").write("a/packed", BODY)
    for name, said in (("a/plain", "is not encrypted, and"), ("a/packed", "but only compressed, and")):
        with pytest.raises(SealedObjectException, match=f"{said}.*allow_plain=True"):
            open_task_io(url, key=OLD).read(name)
        for more in (open_task_io(url, key=OLD, allow_plain=True), opened(f"{url}?compress=zstd")):
            assert more.read(name).data == BODY


def test_an_object_under_another_name_is_refused(url: str) -> None:
    io = open_task_io(url, key=OLD)
    io.write("a/task.json", BODY)
    open_task_io(url).write("b/task.json", stored(url)["a/task.json"])
    with pytest.raises(CorruptObjectException, match=r"b/task.json was changed.*another name") as caught:
        io.read("b/task.json")
    assert not isinstance(caught.value, SealedObjectException)
    assert io.read("a/task.json").data == BODY


def damaged(whole: bytes) -> Iterator[tuple[int, bytes]]:
    """Every body that differs from ``whole`` in one bit, or is cut off, with the first byte that is wrong."""
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(flipped)
    for length in range(len(whole)):
        yield length, whole[:length]


@pytest.mark.parametrize("key", [OLD, None], ids=["encrypted", "compressed"])
def test_damage_anywhere_is_found_and_not_taken_for_a_wrong_key(url: str, key: bytes | None) -> None:
    io = opened(url, compress="zstd", **({"key": key} if key else {}))
    io.write("a/b", BODY)
    # Of the first four bytes depends whether it looks sealed, of the next which release it looks to be of.
    for first, body in damaged(io.below.read("a/b").data):
        if first < len(MAGIC) and key is None:
            continue
        io.below.write("a/b", body)
        with pytest.raises(CorruptObjectException) as caught:
            io.read("a/b")
        assert isinstance(caught.value, SealedObjectException) == (
            first <= len(MAGIC) and len(body) != len(MAGIC)
        )
        assert "a/b" in str(caught.value)
        assert "none of those given" not in str(caught.value)
        assert not holds_a_key(caught.value)


@given(body=st.binary(max_size=3000), times=st.integers(0, 100), key=st.booleans(), compress=st.booleans())
def test_any_body_comes_back(body: bytes, times: int, key: bool, compress: bool) -> None:
    io = SealedTaskIO(
        MemoryTaskIO("memory://any"), key=OLD if key else None, compress="zstd" if compress else None
    )
    io.write("a/b", body * times)
    assert io.read("a/b").data == body * times


def test_what_unfolds_beyond_all_measure_is_refused_before_it_unfolds(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_envelope, "_ALWAYS_ALLOWED", 10_000)
    io = opened(url, compress="zstd")
    io.write("bomb", b"x")
    bomb = zstandard.ZstdCompressor().compress(bytes(10_000_000))
    header = bytearray(io.below.read("bomb").data[:6])
    header[5] |= COMPRESSED
    io.below.write("bomb", bytes(header) + _envelope._crc(bytes(header), bomb) + bomb)
    with pytest.raises(CorruptObjectException, match="to 10,000,000"):
        io.read("bomb")
    # A body of that kind is our own to write, too.
    io.write("own", bytes(10_000_000))
    assert io.read("own").data == bytes(10_000_000)


def test_an_operation_stays_one_request() -> None:
    below = CountingTaskIO(MemoryTaskIO())
    io = SealedTaskIO(below, compress="zstd", key=OLD)
    version = io.write("a", BODY, expect=ABSENT)
    assert io.read("a").version == version
    io.read_many(["a", "b"])
    io.exists("a")
    io.remove("a", expect=io.write("a", BODY, expect=version))
    counts = below.counts
    assert (counts.writes, counts.reads, counts.exists, counts.removes) == (2, 3, 1, 1)


def test_equal_bodies_have_versions_of_their_own(url: str) -> None:
    io = open_task_io(url, key=OLD)
    assert io.write("a", BODY) != io.write("a", BODY)


def test_copying_to_and_from_a_sealed_store_keeps_every_byte(url: str) -> None:
    for name in ("one", "two"):
        with engine_for(open_task_io(url), task_id=name) as engine:
            engine.execute()
    sealed, back = f"{url}-sealed", f"{url}-back"
    there = copy_tasks(url, open_task_io(sealed, compress="zstd", key=OLD))
    assert {task.outcome for task in there.tasks} == {CopyOutcome.COPIED}
    assert all(data[:4] == MAGIC for data in stored(sealed).values())
    again = copy_tasks(open_task_io(sealed, key=OLD), back)
    assert [task.sha256 for task in again.tasks] == [task.sha256 for task in there.tasks]
    assert stored(back) == stored(url)
    wrong = copy_tasks(open_task_io(sealed, key=NEW), f"{url}-wrong")
    assert all(isinstance(task.error, SealedObjectException) for task in wrong.failed)
    assert (len(wrong.failed), stored(f"{url}-wrong")) == (2, {})


def test_a_damaged_lock_is_not_mistaken_for_a_free_one(task: str) -> None:
    body = stored(task)["_locks/held.lock"]
    open_task_io(task).write("_locks/held.lock", body[:-1])
    with pytest.raises(CorruptObjectException, match="was changed, cut off"):
        engine_for(open_task_io(task, key=OLD), task_id="held").bind()
    assert not open_task_io(task).exists(LOCK)


def test_a_client_is_kept_and_shows_no_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", text(OLD))
    first = opened(url, compress="zstd", key=OLD)
    assert opened(url, compress="zstd", key=OLD) is first
    by_name = opened(f"{url}?key=env:OUR_KEY")
    assert opened(url, key="env:OUR_KEY") is by_name
    assert by_name.below is first.below
    monkeypatch.setenv("OUR_KEY", text(NEW))
    assert opened(url, key="env:OUR_KEY").newest_key_id == id_of(NEW)
    shown = (first, by_name, vars(first), registry._clients, vars(first._envelope), first._keys)
    assert not any(holds_a_key(repr(each)) for each in shown)
    open_task_io("s3://bucket/x", key="an access key", secret=text(OTHER), region="us-east-1")
    assert not holds_a_key(registry._clients)


def test_a_pickle_holds_the_name_of_a_key_and_never_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", text(OLD))
    io = SealedTaskIO(MemoryTaskIO("memory://pickled"), key="env:OUR_KEY")
    io.write("a", BODY)
    pickled = pickle.dumps(io)
    assert not holds_a_key(pickled)
    assert pickle.loads(pickled).read("a").data == BODY
    with pytest.raises(TypeError, match="the key would be in the pickle"):
        pickle.dumps(SealedTaskIO(MemoryTaskIO(), key=OLD))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?key=AAAA", "carries the secret 'key' .*env:NAME"),
        (f"?key={text(OLD).replace('+', '%2B')}", "carries the secret 'key'"),
        ("?key=env:", "carries the secret 'key'"),
        ("?key=env:NOT_SET", "NOT_SET, which the option 'key' names, is not set"),
        ("?compress=lz4", "by 'zstd', not by 'lz4'"),
        ("?allow_plain=true", "allow_plain goes with a key"),
        ("?allow_plain=perhaps", "allow_plain is true or false"),
    ],
)
def test_an_option_that_cannot_be_is_refused(url: str, query: str, said: str) -> None:
    with pytest.raises(UnsupportedBackendException, match=said) as caught:
        open_task_io(url + query)
    assert not holds_a_key(caught.value)


@pytest.mark.parametrize("query", ["?key=env:OUR_KEY", "?compress=zstd&key=x", "?x=1&allow_plain=true"])
def test_a_path_with_a_query_is_not_taken_for_the_name_of_a_plain_store(query: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedBackendException, match="is a plain path, which has no options"):
        open_task_io(f"{tmp_path}/jobs{query}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"compress": "zstd"}, {"key": "env:X"}, {"key": OLD}])
def test_without_the_distribution_the_error_says_what_to_install(
    url: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_scan_layers", dict)
    with pytest.raises(UnsupportedBackendException, match=r"pip install 'checkmate\[sealed\]'"):
        open_task_io(url, **options)


def test_options_of_the_same_names_stay_the_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = open_task_io("s3://bucket/x", key="an id", secret="a secret", region="us-east-1")
    assert not isinstance(s3, SealedTaskIO)
    sftp = open_task_io("sftp://host/x?compress=true", username="me")
    assert not isinstance(sftp, SealedTaskIO)
    both = SealedTaskIO(s3, key=OLD)
    assert (both.base_url, both.probe_scope) == (s3.base_url, s3.probe_scope)
