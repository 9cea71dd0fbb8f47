"""Markdown for people: what the stages of a task are, in memory or in the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from checkmate_core.errors import TaskEngineException
from checkmate_core.journal import StaleViewError, TaskJournal
from checkmate_core.record import dump_state
from checkmate_core.state import BaseStageState
from checkmate_core.status import StageStatus, _StageStateMachine

if TYPE_CHECKING:
    from checkmate_core.inspection import TaskInspection

LIGHTWHITE_EX: Final = "\033[97m"
RESET: Final = "\033[0m"

Source: TypeAlias = Literal["memory", "persistence"]


def render_stages(
    engine: TaskInspection[Any, Any],
    source: Source,
    color: str,
    basenames_only: bool,
    source_in_heading: bool,
) -> str:
    """The text of `CheckMateEngine.dump_stages`; its arguments are explained there."""
    if source == "memory":
        states = [stage.state for stage in engine.stages]
    elif source == "persistence":
        states = _stored_states(engine)
    else:
        raise TaskEngineException(f"there is no source {source!r}; use 'memory' or 'persistence'")
    status = _StageStateMachine.overall([state.status for state in states], f"task {engine.task_id}")
    origin = f" ({source})" if source_in_heading else ""
    lines = [_heading(f"# Task {engine.task_id}: {status}{origin}", color), ""]
    for index, (stage, state) in enumerate(zip(engine.stages, states, strict=True)):
        obj_name = stage.gen_obj_name(engine)
        shown = obj_name.rpartition("/")[2] if basenames_only else engine.io.build_url(obj_name)
        lines += [
            _heading(f"## {index + 1}. {stage.stage_name}: {state.status}", color),
            "",
            *([stage.description, ""] if stage.description else []),
            f"- Class: `{type(stage).__qualname__}`",
            f"- Object: `{shown}`",
            f"- Attempts: {state.attempts}",
            "",
            "```json",
            json.dumps(dump_state(state, f"stage {stage.stage_name!r}"), indent=2, ensure_ascii=False),
            "```",
            "",
            *_history(state),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _stored_states(engine: TaskInspection[Any, Any]) -> list[BaseStageState]:
    names = [stage.gen_obj_name(engine) for stage in engine.stages]
    try:
        records = TaskJournal(engine.io, engine.task_id, is_fenced=False).read_all(names)
    except StaleViewError:
        records = dict.fromkeys(names)
    states = []
    for stage, template, name in zip(engine.stages, engine.task_state.stage_templates, names, strict=True):
        record = records[name]
        if record is None:
            # Never begun: what a bind would make of the template.
            state = template.state.model_copy(deep=True, update={"status": StageStatus.CREATED})
        else:
            state = record.load_state(type(stage.state), engine.io.build_url(name))
        states.append(state)
    return states


def _history(state: BaseStageState) -> list[str]:
    if not state.history:
        return []
    rows = [
        f"| {entry.begin.isoformat()} | {entry.end.isoformat() if entry.end else ''} | {entry.status} "
        f"| {entry.host} | {'' if entry.epoch is None else entry.epoch} | {_cell(entry.message)} |"
        for entry in state.history
    ]
    return ["| Begin | End | Status | Host | Epoch | Message |", "|---|---|---|---|---|---|", *rows, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _heading(text: str, color: str) -> str:
    return f"{color}{text}{RESET}" if color else text
