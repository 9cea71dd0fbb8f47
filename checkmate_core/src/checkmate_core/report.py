"""Markdown for people: what the stages of a task are, in memory or in the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from checkmate_core.changing.migration import plan_migration
from checkmate_core.errors import TaskEngineException
from checkmate_core.journal import StaleViewError, TaskJournal
from checkmate_core.record import dump_state, load_state
from checkmate_core.state import BaseStageState, StageStateHistoryEntry
from checkmate_core.status import StageStatus, _StageStateMachine

if TYPE_CHECKING:
    from checkmate_core.inspection import TaskInspection

LIGHTWHITE_EX: Final = "\033[97m"
RESET: Final = "\033[0m"

Source: TypeAlias = Literal["memory", "persistence"]


@dataclass(frozen=True, slots=True)
class StageSection:
    """What the summary says of one stage.

    Attributes:
        name: The stage's name.
        status: Where it stands.
        class_name: Its class.
        location: Its stored object.
        attempts: How often it was begun.
        state: Its state in JSON terms.
        history: Every change of its status.
        description: What it does.
    """

    name: str
    status: StageStatus
    class_name: str
    location: str
    attempts: int
    state: dict[str, Any]
    history: Sequence[StageStateHistoryEntry]
    description: str = ""


def render_engine(
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
    sections = []
    for stage, state in zip(engine.stages, states, strict=True):
        obj_name = stage.gen_obj_name(engine)
        sections.append(
            StageSection(
                name=stage.stage_name,
                status=state.status,
                class_name=type(stage).__qualname__,
                location=obj_name.rpartition("/")[2] if basenames_only else engine.io.build_url(obj_name),
                attempts=state.attempts,
                state=_in_order(
                    state.model_dump(),
                    dump_state(state, f"stage {stage.stage_name!r} of task {engine.task_id}"),
                ),
                history=state.history,
                description=stage.description,
            )
        )
    return render_task(engine.task_id, sections, color, f" ({source})" if source_in_heading else "")


def render_task(task_id: str, sections: Sequence[StageSection], color: str = "", origin: str = "") -> str:
    """A Markdown summary of a task.

    Args:
        task_id: The task.
        sections: Its stages.
        color: ANSI sequence for headings; an empty string for none.
        origin: What to add to the main heading.
    """
    status = _StageStateMachine.overall([section.status for section in sections], f"task {task_id}")
    lines = [_heading(f"# Task {task_id}: {status}{origin}", color), ""]
    for number, section in enumerate(sections, start=1):
        lines += [
            _heading(f"## {number}. {section.name}: {section.status}", color),
            "",
            *([section.description, ""] if section.description else []),
            f"- Class: `{section.class_name}`",
            f"- Object: `{section.location}`",
            f"- Attempts: {section.attempts}",
            "",
            "```json",
            json.dumps(section.state, indent=2, ensure_ascii=False),
            "```",
            "",
            *_history(section.history),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _stored_states(engine: TaskInspection[Any, Any]) -> list[BaseStageState]:
    names = [stage.gen_obj_name(engine) for stage in engine.stages]
    journal = TaskJournal(engine.io, engine.task_id, is_fenced=False)
    created = {"status": StageStatus.CREATED}
    try:
        records = journal.read_all(names)
    except StaleViewError:
        # Not stored: what a bind would make of the templates.
        templates = engine.task_state.stage_templates
        return [template.state.model_copy(deep=True, update=created) for template in templates]
    manifest = journal.manifest
    plan_migration(manifest, engine.stages, [], None, journal.url)
    if manifest.objects != names:
        # A stage was renamed after it had begun, and this engine is not bound.
        records = journal.read_all(manifest.objects)
    states: list[BaseStageState] = []
    for index, (stage, (name, record)) in enumerate(zip(engine.stages, records.items(), strict=True)):
        if record is not None and record.is_begun:
            states.append(record.load_state(type(stage.state), engine.io.build_url(name)))
            continue
        inputs, version = manifest.stage_templates[index]["state"], manifest.schema_version_of(index)
        states.append(
            load_state(type(stage.state), inputs, journal.url, version=version, bookkeeping=created)
        )
    return states


def _in_order(value: Any, dumped: Any) -> Any:
    """``dumped`` with sets sorted: equal sets need not list their members in one order."""
    if isinstance(value, (set, frozenset)):
        return sorted(dumped, key=json.dumps)
    if isinstance(value, dict) and isinstance(dumped, dict):
        members = {str(key): member for key, member in value.items()}
        return {key: _in_order(members.get(key), member) for key, member in dumped.items()}
    if isinstance(value, (list, tuple)) and isinstance(dumped, list):
        return [_in_order(*pair) for pair in zip(value, dumped, strict=True)]
    return dumped


def _history(history: Sequence[StageStateHistoryEntry]) -> list[str]:
    if not history:
        return []
    rows = [
        f"| {entry.begin.isoformat()} | {entry.end.isoformat() if entry.end else ''} | {entry.status} "
        f"| {entry.host} | {'' if entry.epoch is None else entry.epoch} | {_cell(entry.message)} |"
        for entry in history
    ]
    return ["| Begin | End | Status | Host | Epoch | Message |", "|---|---|---|---|---|---|", *rows, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _heading(text: str, color: str) -> str:
    return f"{color}{text}{RESET}" if color else text
