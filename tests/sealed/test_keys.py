"""Where keys come from, and which of several is taken."""

from collections.abc import Sequence
from typing import Any

import pytest

from checkmate import SealedObjectException, StorageUnavailableException, UnsupportedBackendException
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_io_sealed import _keys
from checkmate_io_sealed.sealed import SealedTaskIO

from .keys import NEW, OLD, OTHER, holds_a_key, id_of, text

BODY = b'{"format": 1}'


@pytest.fixture
def below() -> MemoryTaskIO:
    store = MemoryTaskIO()
    SealedTaskIO(store, key=OLD).write("old", BODY)
    return store


class KeyService:
    """A key service that counts how often it is asked."""

    def __init__(self, *keys: bytes) -> None:
        self.keys: Sequence[bytes] = keys
        self.calls = 0

    def __call__(self) -> Sequence[bytes]:
        self.calls += 1
        return self.keys


@pytest.mark.parametrize(
    ("source", "variable"),
    [
        ([NEW, OLD], ""),
        ([text(NEW), OLD], ""),
        (lambda: [NEW, text(OLD)], ""),
        ("env:OUR_KEYS", f"{text(NEW)},{text(OLD)}"),
        ("env:OUR_KEYS", f" {text(NEW).rstrip('=')}\n{text(OLD).replace('+', '-').replace('/', '_')}\n"),
        ([NEW, "env:OUR_KEYS"], text(OLD)),
        (lambda: [text(NEW), "env:OUR_KEYS"], text(OLD)),
    ],
)
def test_the_first_key_seals_and_each_opens(
    below: MemoryTaskIO, source: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEYS", variable)
    io = SealedTaskIO(below, key=source)
    assert io.read("old").data == BODY
    io.write("new", BODY)
    assert SealedTaskIO(below, key=NEW).read("new").data == BODY
    assert io.newest_key_id == id_of(NEW)


def test_a_function_is_called_once_and_again_for_a_key_that_is_not_there(below: MemoryTaskIO) -> None:
    service = KeyService(OLD)
    io = SealedTaskIO(below, key=service)
    assert service.calls == 0
    for _ in range(3):
        io.read("old")
        io.write("own", BODY)
    assert service.calls == 1
    service.keys = [NEW, OLD]
    SealedTaskIO(below, key=NEW).write("theirs", BODY)
    assert io.read("theirs").data == BODY
    assert (service.calls, io.newest_key_id) == (2, id_of(NEW))


def test_a_key_that_nobody_has_is_not_asked_for_again_and_again(
    below: MemoryTaskIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = KeyService(NEW)
    io = SealedTaskIO(below, key=service)
    for _ in range(5):
        with pytest.raises(SealedObjectException, match=id_of(OLD)):
            io.read("old")
    assert service.calls == 2
    monkeypatch.setattr(_keys, "_PATIENCE", 0.0)
    service.keys = [NEW, OLD]
    assert io.read("old").data == BODY


def test_a_variable_is_looked_at_again_for_a_key_that_is_not_there(
    below: MemoryTaskIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEYS", text(NEW))
    io = SealedTaskIO(below, key="env:OUR_KEYS")
    monkeypatch.setenv("OUR_KEYS", f"{text(NEW)} {text(OLD)}")
    assert io.read("old").data == BODY


def test_a_variable_may_be_taken_away_once_it_is_read(
    below: MemoryTaskIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEYS", text(NEW))
    io = SealedTaskIO(below, key="env:OUR_KEYS")
    monkeypatch.delenv("OUR_KEYS")
    io.write("own", BODY)
    assert io.read("own").data == BODY
    with pytest.raises(SealedObjectException, match=id_of(OLD)):
        io.read("old")


def test_a_function_that_fails_is_a_store_that_cannot_be_reached(below: MemoryTaskIO) -> None:
    def fail() -> bytes:
        raise RuntimeError(f"could not unwrap {text(OLD)}")

    io = SealedTaskIO(below, key=fail)
    for attempt in (lambda: io.read("old"), lambda: io.write("new", BODY)):
        with pytest.raises(StorageUnavailableException, match="raised RuntimeError") as caught:
            attempt()
        assert not holds_a_key(caught.value)
        assert isinstance(caught.value.__cause__, RuntimeError)
    assert set(below.objects) == {"old"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (OLD[:31], "of 31 bytes"),
        (OLD + b"x", "of 33 bytes"),
        ([], "empty list"),
        ([text(OLD), "no key"], "no base64 of 32 bytes"),
        ([text(OLD)[:-4]], "of 30 bytes|of 31 bytes|no base64"),
        (["schlüssel"], "no base64"),
        ([OLD, 7], "is or holds a int"),
        (7, "is or holds a int"),
        (bytearray(OLD), "is or holds a int"),
        ("env:NOT_SET", "NOT_SET, which the option 'key' names"),
        ("env:OUR_KEYS", "OUR_KEYS holds a text that is no base64"),
    ],
)
def test_what_is_no_key_is_refused_at_once_and_not_shown(
    source: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEYS", f"{text(OLD)}!,{text(OTHER)}")
    with pytest.raises(UnsupportedBackendException, match=said) as caught:
        SealedTaskIO(MemoryTaskIO(), key=source)
    assert not holds_a_key(caught.value)
    assert text(OLD)[:20] not in str(caught.value)
