"""Stores that cannot do everything, and work without a lock."""

import pytest

from checkmate import (
    BindLock,
    LockLostException,
    TaskIO,
    UnsupportedBackendException,
)
from checkmate_core.types import Capability

from .pipelines import LOCK, Limited, Logged, document, engine_for, raw, stage_documents, steps


@pytest.mark.parametrize("missing", [Capability.CREATE, Capability.SWAP])
def test_a_store_that_cannot_hold_a_lock_is_refused_with_the_way_out(missing: Capability) -> None:
    io = Limited(missing)
    with pytest.raises(UnsupportedBackendException, match="no_lock=True"):
        BindLock(io, LOCK)
    with pytest.raises(UnsupportedBackendException, match="no_lock=True"):
        engine_for(io).bind()
    assert raw(io) == {}
    with engine_for(io, no_lock=True) as engine:
        engine.execute()
        assert engine.check_sync()
    with engine_for(io, no_lock=True) as engine:
        assert engine.task_result == 3


def test_where_nothing_can_be_removed_the_released_lock_says_finished() -> None:
    io = Limited(Capability.REMOVE_IF)
    with engine_for(io) as engine:
        engine.execute()
    assert not engine.has_lockfile
    found = document(io, LOCK)
    assert found["owner"] is None
    assert found["finished"] is True
    with engine_for(io) as again:
        assert again.task_result == 3


def test_without_a_lock_there_is_no_token_and_the_second_writer_is_told(io: TaskIO, log: Logged) -> None:
    first, second = engine_for(io, no_lock=True), engine_for(io, steps(action=log), no_lock=True)
    with first, second:
        assert first.fencing_token is None
        assert not first.has_lockfile
        first.execute()
        assert stage_documents(io)[0]["history"][0]["status"] == "RUNNING"
        assert stage_documents(io)[0]["history"][0]["epoch"] is None
        before = raw(io)
        with pytest.raises(LockLostException):
            second.execute()
        assert raw(io) == before
    assert log.names == []
