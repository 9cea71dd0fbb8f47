"""Ready-made observers of tasks: `CheckMateEngine(…, observers=[log_events()])`.

Each loads what it needs when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from checkmate.observers.live import RichProgress
    from checkmate.observers.logs import log_events
    from checkmate.observers.telemetry import OpenTelemetryObserver

__all__ = ["OpenTelemetryObserver", "RichProgress", "log_events"]

_MODULES: Final = {
    "OpenTelemetryObserver": "checkmate.observers.telemetry",
    "RichProgress": "checkmate.observers.live",
    "log_events": "checkmate.observers.logs",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
