"""What tests of backends and of durable code stand on. Shipped; needs no pytest.

- `TaskIOConformance`: the suite that every backend passes.
- `FaultyTaskIO`: a store whose requests fail, get lost, come late or are raced on demand.
- `CountingTaskIO`: a store that counts requests.
- `crash`, `resume`, `check_every_crash`: a pipeline's process dies at a chosen point, and another goes on.
- `simulate`: the real engine, many of it at once, in a world where everything goes wrong.
"""

from checkmate_core.testing.conformance import (
    FailedCase,
    RaceEvidence,
    RawStore,
    Subject,
    TaskIOConformance,
    run_conformance,
)
from checkmate_core.testing.counting import CountingTaskIO, RequestCounts
from checkmate_core.testing.crashes import (
    CrashPoint,
    SimulatedCrashError,
    check_every_crash,
    crash,
    crash_points,
    resume,
)
from checkmate_core.testing.faults import (
    ApplyLater,
    Call,
    CallAfter,
    CallBefore,
    Fault,
    FaultyTaskIO,
    LoseResponse,
    Operation,
    RaiseBefore,
    writes_to,
)
from checkmate_core.testing.simulation import Run, Scenario, ViolationError, simulate, simulate_scenario

__all__ = [
    "ApplyLater",
    "Call",
    "CallAfter",
    "CallBefore",
    "CountingTaskIO",
    "CrashPoint",
    "FailedCase",
    "Fault",
    "FaultyTaskIO",
    "LoseResponse",
    "Operation",
    "RaceEvidence",
    "RaiseBefore",
    "RawStore",
    "RequestCounts",
    "Run",
    "Scenario",
    "SimulatedCrashError",
    "Subject",
    "TaskIOConformance",
    "ViolationError",
    "check_every_crash",
    "crash",
    "crash_points",
    "resume",
    "run_conformance",
    "simulate",
    "simulate_scenario",
    "writes_to",
]
