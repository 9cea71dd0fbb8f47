"""The ownership protocol holds in every order of events within these bounds, and each flaw breaks it."""

from collections.abc import Callable

import pytest

from .liveness import find_stuck
from .search import Result, search
from .store import LOCK, Lock
from .variants import VARIANTS, Bounds, Flaw

Holds = Callable[[Bounds], Result]

_QUICK = {
    "late requests": Bounds(late=1),
    "errors, an operator, renewals": Bounds(stages=1, renewals=1, unlocks=1, errors=True),
    "clean and re-use": Bounds(stages=1, late=1, cancels=True, cleans=True, lives=2),
    "rollback of two stages": Bounds(rollbacks=True),
    "migration, late requests": Bounds(stages=1, migrations=True, late=1),
    "clean where the store cannot remove": Bounds(
        stages=1, late=1, cancels=True, cleans=True, lives=2, can_remove=False
    ),
}
_EXHAUSTIVE = {
    "plain": Bounds(late=2),
    "plain, killed and started again": Bounds(acquisitions=2, kills=True),
    "plain, with everything else that goes wrong": Bounds(late=1, renewals=1, unlocks=1, errors=True),
    "clean and re-use of two stages": Bounds(late=1, cancels=True, cleans=True, lives=2),
    "a task id used again, with two acquisitions of each client": Bounds(
        stages=1, acquisitions=2, cancels=True, cleans=True, lives=2
    ),
    "rollback, with errors, cancels and late requests": Bounds(
        rollbacks=True, errors=True, cancels=True, late=1
    ),
    "rollback, clean and re-use": Bounds(rollbacks=True, cleans=True, lives=2),
    "migration of two stages": Bounds(migrations=True, rollbacks=True, errors=True, late=1),
    "migration, rollback, clean and re-use": Bounds(
        stages=1, migrations=True, rollbacks=True, cleans=True, lives=2
    ),
    "three clients, one migrates": Bounds(clients=3, stages=1, migrations=True),
    "three clients": Bounds(clients=3, stages=1, late=1),
}


@pytest.fixture
def holds(record_property: Callable[[str, object], None]) -> Holds:
    """Search all states within bounds; none breaks an invariant, and a waiter gets on from each."""

    def check(bounds: Bounds) -> Result:
        found = search(bounds)
        assert found.broken is None, "\n".join([found.broken, *found.trace])
        assert found.is_complete
        situations, stuck = find_stuck(found.parents, bounds)
        assert stuck is None, stuck
        record_property("search", f"{found.describe()}; a waiter gets on from all {situations:,} situations")
        return found

    return check


@pytest.mark.parametrize("bounds", _QUICK.values(), ids=_QUICK)
def test_two_clients_keep_every_invariant(bounds: Bounds, holds: Holds) -> None:
    holds(bounds)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", _EXHAUSTIVE.values(), ids=_EXHAUSTIVE)
def test_every_invariant_holds_in_all_states(bounds: Bounds, holds: Holds) -> None:
    holds(bounds)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_broken_variant_is_found(name: str, record_property: Callable[[str, object], None]) -> None:
    variant = VARIANTS[name]
    found = search(variant.bounds, variant.flaw)
    assert found.broken
    print(f"{variant.flaw.value}: {found.broken}")
    print(*found.trace, sep="\n")
    record_property("search", f"{found.broken}, in {len(found.trace)} steps ({found.states:,} states)")


@pytest.mark.parametrize("bounds", dict.fromkeys(variant.bounds for variant in VARIANTS.values()))
def test_the_design_holds_where_a_variant_breaks(bounds: Bounds) -> None:
    found = search(bounds, max_states=25_000)
    assert found.broken is None, "\n".join([found.broken, *found.trace])


def test_every_flaw_has_its_proof() -> None:
    assert {variant.flaw for variant in VARIANTS.values()} | {Flaw.CANCELED_END_IS_LEFT} == set(Flaw)


def test_a_canceled_task_whose_end_nobody_notes_is_found_unfinished_for_ever() -> None:
    bounds = Bounds(stages=1, cancels=True)
    found = search(bounds, Flaw.CANCELED_END_IS_LEFT)
    _, stuck = find_stuck(found.parents, bounds, Flaw.CANCELED_END_IS_LEFT)
    assert stuck
    assert stuck.wanted == "the end of the task"


def test_a_lock_that_is_never_silent_is_not_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of liveness itself: with waiters that never take over, a dead holder is for ever."""
    found = search(Bounds())
    monkeypatch.setattr("tests.model.protocol.Protocol.believes_in_silence", False)
    _, stuck = find_stuck(found.parents, Bounds())
    assert stuck
    assert stuck.wanted == "the lock"
    held = stuck.objects[LOCK]
    assert isinstance(held, Lock)
    assert held.owner is not None
