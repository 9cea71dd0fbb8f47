"""log_events: each event as a record of `logging`, with its facts as attributes of the record."""

import logging
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from checkmate_core import Observer, StageEvent
from checkmate_core.events import EventKind

LEVELS: Final[Mapping[EventKind, int]] = MappingProxyType(
    {
        "started": logging.INFO,
        "progressed": logging.INFO,
        "retried": logging.WARNING,
        "completed": logging.INFO,
        "failed": logging.ERROR,
        "suspended": logging.INFO,
        "canceled": logging.WARNING,
        "rolling_back": logging.WARNING,
        "rolled_back": logging.WARNING,
        "interrupted": logging.WARNING,
    }
)
"""How serious each kind of event is."""


def log_events(
    logger: str | logging.Logger = "checkmate.stages",
    *,
    levels: Mapping[EventKind, int] = MappingProxyType({}),
    progress_every: float = 30.0,
    monotonic: Callable[[], float] = time.monotonic,
) -> Observer:
    """An observer that logs.

    A record's message is for people. Its attributes are for machines: ``checkmate_event``, ``checkmate_base_url``, ``checkmate_task_id``,
    ``checkmate_stage``, ``checkmate_stage_index``, ``checkmate_stages_total``, ``checkmate_status``,
    ``checkmate_attempt``, ``checkmate_epoch``, ``checkmate_seconds`` (None while it goes on),
    ``checkmate_progress_done``, ``checkmate_progress_total`` and ``checkmate_interruptions``. A record of
    "failed" carries the exception.

    Args:
        logger: Where to, or its name.
        levels: Instead of those of `LEVELS`.
        progress_every: Seconds between two records of one stage's progress, at least.
        monotonic: Where they are counted.
    """
    return _Log(
        logging.getLogger(logger) if isinstance(logger, str) else logger,
        {**LEVELS, **levels},
        progress_every,
        monotonic,
    )


class _Log:
    def __init__(
        self,
        logger: logging.Logger,
        levels: Mapping[EventKind, int],
        progress_every: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._logger = logger
        self._levels = levels
        self._progress_every = progress_every
        self._monotonic = monotonic
        # When each task's running stage was last told of. Needs no lock: a race may cost a record, no more.
        self._told: dict[tuple[str, str, int | None], float] = {}

    def __call__(self, event: StageEvent) -> None:
        task = (event.base_url, event.task_id, event.epoch)
        if event.kind == "progressed":
            now = self._monotonic()
            if now - self._told.setdefault(task, now) < self._progress_every:
                return
            self._told[task] = now
        elif event.kind == "started":
            self._told[task] = self._monotonic()
        else:
            self._told.pop(task, None)
        level = self._levels[event.kind]
        if self._logger.isEnabledFor(level):
            error = event.error if event.kind == "failed" else None
            self._logger.log(level, "%s", _text(event), exc_info=error, extra=_facts(event))


def _text(event: StageEvent) -> str:
    where = f"task {event.task_id}: stage {event.stage_index + 1} of {event.stages_total}, {event.stage_name}"
    if event.kind == "progressed":
        return f"{where}: {event.progress}"
    seconds = _seconds(event)
    took = "" if seconds is None else f" after {seconds:.1f} s"
    return f"{where} {event.kind.replace('_', ' ')}{took}: {event.message}"


def _facts(event: StageEvent) -> dict[str, Any]:
    progress = event.progress
    facts = {
        "event": event.kind,
        "base_url": event.base_url,
        "task_id": event.task_id,
        "stage": event.stage_name,
        "stage_index": event.stage_index,
        "stages_total": event.stages_total,
        "status": str(event.status),
        "attempt": event.attempt,
        "epoch": event.epoch,
        "seconds": _seconds(event),
        "progress_done": progress.done if progress else None,
        "progress_total": progress.total if progress else None,
        "interruptions": event.interruptions,
    }
    return {f"checkmate_{name}": value for name, value in facts.items()}


def _seconds(event: StageEvent) -> float | None:
    return None if event.end is None else (event.end - event.begin).total_seconds()
