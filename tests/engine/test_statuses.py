"""The state machine of a stage and the status of a task, against independent rules."""

import re
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checkmate import InvalidTransitionException, StageStatus, TaskIO
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.status import _StageStateMachine

from .pipelines import TASK, engine_for, steps

U, N, R, T, C, X, E, S, B, D = (
    StageStatus(name)
    for name in (
        *("UNBOUND", "CREATED", "RUNNING", "RETRY", "COMPLETE", "CANCELED", "ERROR"),
        *("SUSPENDED", "ROLLING_BACK", "ROLLED_BACK"),
    )
)
LETTERS = {U: "U", N: "N", R: "R", T: "T", C: "C", X: "X", E: "E", S: "S", B: "B", D: "D"}
ALLOWED = {
    (U, N),
    (N, R), (N, X), (N, D),
    (R, R), (R, T), (R, C), (R, X), (R, E), (R, S), (R, B), (R, D),
    (T, R), (T, X), (T, E), (T, B),
    (S, R), (S, X), (S, B),
    (E, R), (E, B),
    (C, B),
    (B, B), (B, D),
}  # fmt: skip


@pytest.mark.parametrize(("current", "new"), list(product(StageStatus, repeat=2)))
def test_every_pair_of_statuses_is_allowed_or_refused(current: StageStatus, new: StageStatus) -> None:
    if (current, new) in ALLOWED:
        _StageStateMachine.check_transition(current, new, "here")
    else:
        with pytest.raises(InvalidTransitionException, match=f"here cannot go from {current} to {new}"):
            _StageStateMachine.check_transition(current, new, "here")


def told(statuses: list[StageStatus]) -> StageStatus | None:
    """What a task with these stages is; None for what cannot be. In the language of regular expressions."""
    word = "".join(LETTERS[status] for status in statuses)
    if re.fullmatch("U+", word):
        return U
    if re.fullmatch("C*B?D*N*", word) and set("BD") & set(word):
        return D if word.startswith("D") else B
    found = re.fullmatch("(C*)([NRTXES]?)(N*)", word)
    if found is None:
        return None
    if found[2] in ("", "N"):
        return N if "N" in word else C
    return next(status for status, letter in LETTERS.items() if letter == found[2])


@given(st.lists(st.sampled_from(StageStatus), min_size=1, max_size=8))
@example([C, N])
@example([C, C, C])
@example([C, R, N])
@example([U, U])
@example([R, R])
def test_the_status_of_a_task_follows_from_its_stages(statuses: list[StageStatus]) -> None:
    engine = engine_for(MemoryTaskIO(), steps(*(f"s{number}" for number in range(len(statuses)))))
    for stage, status in zip(engine.stages, statuses, strict=True):
        stage.state.status = status
    expected = told(statuses)
    if expected is None:
        with pytest.raises(InvalidTransitionException, match=TASK):
            _ = engine.status
    else:
        assert engine.status is expected


@given(st.lists(st.sampled_from([N, R, T, C, X, E, S, B, D]), min_size=1, max_size=4))
@example([C, C, D, N])
@example([C, B, D])
@example([D, D, N])
def test_a_stored_task_of_any_statuses_is_resumed_refused_or_left_alone(statuses: list[StageStatus]) -> None:
    from .pipelines import MANIFEST, Logged, document, edit, is_locked, raw_without_locks

    io, log = MemoryTaskIO(), Logged()
    names = [f"s{number}" for number in range(len(statuses))]
    with engine_for(io, steps(*names)) as engine:
        engine.execute()
    for index, status in enumerate(statuses):
        edit(io, f"{TASK}/stages/{index:03d}-s{index}.json", status=status)
    edit(io, f"{TASK}/task.json", ended=None, ended_as=None)
    before = raw_without_locks(io)
    expected = told(statuses)
    engine = engine_for(io, steps(*names, action=log))
    refused: Any = None
    try:
        with engine:
            engine.execute(strict_recovery=True)
    except Exception as exc:
        refused = exc
    if expected is None or expected in (X, D):
        told_as = {X: "TaskCanceledException", D: "TaskRolledBackException"}
        assert type(refused).__name__ == (told_as[expected] if expected else "InvalidTransitionException")
        assert log.names == []
        after = raw_without_locks(io)
        if expected:
            # Nothing but what whoever ended it had no time to note.
            assert document(io, MANIFEST)["ended_as"] == expected
            after[MANIFEST] = before[MANIFEST]
        assert after == before
    elif expected is B:
        assert type(refused).__name__ == "TaskRolledBackException"
        assert log.names == []
        found = [document(io, f"{TASK}/stages/{i:03d}-s{i}.json")["status"] for i in range(len(statuses))]
        assert found == [N if status is N else D for status in statuses]
        assert document(io, MANIFEST)["ended_as"] == D
    else:
        assert refused is None
        first = next((index for index, status in enumerate(statuses) if status is not C), len(statuses))
        assert log.names == names[first:]
    assert not is_locked(io)


def test_statuses_are_their_names(io: TaskIO) -> None:
    for status in StageStatus:
        assert status == status.name == str(status) == f"{status}"
    assert engine_for(io).status is StageStatus.UNBOUND
    with engine_for(io) as engine:
        assert engine.status is StageStatus.CREATED
