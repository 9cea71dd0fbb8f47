"""What travels from a stage to the next."""

from typing import Any

import pytest
from pydantic import Field

from checkmate import (
    BaseStage,
    BaseStageState,
    CheckMateEngine,
    StageFailedException,
    StageStatus,
    TaskIO,
)

from .cargo import Cargo, Carry, run, sets
from .pipelines import TASK, Notes, Step, engine_for, steps


def test_what_still_holds_its_default_takes_the_value_of_the_previous_stage(io: TaskIO) -> None:
    first = Carry(
        stage_name="a", action=sets(nothing="set", number=9, words=["y"], nested={"k": [1]}, result="mine")
    )
    a, b, c = run(io, first, Carry(stage_name="b"), Carry(stage_name="c"))
    for stage in (b, c):
        assert stage.state.model_dump(exclude={"status", "attempts", "history", "result", "derived"}) == {
            "nothing": "set",
            "number": 9,
            "words": ["y"],
            "nested": {"k": [1]},
        }
    assert b.state.result is None, "bookkeeping does not travel"
    assert [stage.attempts for stage in (a, b, c)] == [1, 1, 1]


def test_what_a_template_sets_is_kept(io: TaskIO) -> None:
    first = Carry(stage_name="a", action=sets(number=9, nothing="set"))
    second = Carry(stage_name="b", state=Cargo(number=1, words=["own"]))
    _, b = run(io, first, second)
    assert (b.state.number, b.state.words, b.state.nothing) == (1, ["own"], "set")


def test_a_value_equal_to_the_default_counts_as_not_set(io: TaskIO) -> None:
    first = Carry(stage_name="a", action=sets(number=9))
    _, b = run(io, first, Carry(stage_name="b", state=Cargo(number=7)))
    assert b.state.number == 9


def test_a_value_of_another_type_that_equals_the_default_is_not_the_default(io: TaskIO) -> None:
    class Flags(BaseStageState):
        level: int | bool = 0

    class Flag(BaseStage[Flags]):
        state: Flags = Field(default_factory=Flags)

        def execute_stage(self, previous_state_copy: Flags) -> None:
            if self.stage_name == "a":
                self.state.level = 5

    with CheckMateEngine[Flag, Any](
        io, TASK, [Flag(stage_name="a"), Flag(stage_name="b", state=Flags(level=False))]
    ) as engine:
        engine.execute()
        assert engine.stages[1].state.level is False


def test_mutable_values_are_not_shared_between_stages(io: TaskIO) -> None:
    def grow(stage: Carry, previous: Cargo) -> None:
        stage.state.words.append(stage.stage_name)
        stage.state.nested.setdefault("k", []).append(len(stage.state.words))
        previous.words.append("noise")
        previous.nested.clear()

    a, b, c = run(io, *(Carry(stage_name=name, action=grow) for name in "abc"))
    assert [stage.state.words for stage in (b, c)] == [
        ["x", "a", "noise", "b"],
        ["x", "a", "noise", "b", "c"],
    ]
    assert a.state.words == ["x", "a", "noise"], "on the first stage the previous state is its own"
    assert b.state.nested == {"k": [4]}


def test_values_are_carried_forward_once_and_not_again_at_a_retry(io: TaskIO) -> None:
    seen: list[int] = []

    def action(stage: Carry, previous: Cargo) -> None:
        seen.append(stage.state.number)
        if len(seen) < 3:
            raise ValueError

    first = Carry(stage_name="a", action=sets(number=9))
    engine = CheckMateEngine[Carry, Any](io, TASK, [first, Carry(stage_name="b", action=action)])
    for _ in range(2):
        with pytest.raises(StageFailedException), engine:
            engine.execute()
    with engine:
        engine.execute()
    assert seen == [9, 9, 9]


def test_the_first_stage_gets_a_reference_and_the_others_a_deep_copy(io: TaskIO) -> None:
    same: list[bool] = []

    def action(stage: Step, previous: Notes) -> None:
        same.append(previous is stage.state)
        others = [other for other in stage.engine.stages if other.state is previous]
        assert len(others) == same[-1]
        if not same[-1]:
            assert previous.trail == stage.state.trail[:-1]
            assert previous.status is StageStatus.COMPLETE

    with engine_for(io, steps(action=action)) as engine:
        engine.execute()
    assert same == [True, False, False]


def test_a_resumed_task_has_the_inputs_it_was_created_with(io: TaskIO) -> None:
    """Also in the stages that never began, whatever the templates of the resuming process hold."""

    def templates(source: str) -> list[Step]:
        return [Step(stage_name=name, state=Notes(source=f"{source} {name}")) for name in "ab"]

    with engine_for(io, templates("stored")):
        pass
    with engine_for(io, templates("given")) as engine:
        assert [stage.status for stage in engine.stages] == [StageStatus.CREATED] * 2
        assert [stage.state.source for stage in engine.stages] == ["stored a", "stored b"]
        assert engine.check_sync()
        engine.execute()
        assert [stage.state.source for stage in engine.stages] == ["stored a", "stored b"]
    assert [stage.state.source for stage in engine.stages] == ["given a", "given b"], (
        "the templates are restored"
    )
