"""What tests of backends and of durable code stand on. Shipped; needs no pytest.

- `TaskIOConformance`: the suite that every backend passes.
- `FaultyTaskIO`: a store whose requests fail, get lost, come late or are raced on demand.
- `CountingTaskIO`: a store that counts requests.
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

__all__ = [
    "ApplyLater",
    "Call",
    "CallAfter",
    "CallBefore",
    "CountingTaskIO",
    "FailedCase",
    "Fault",
    "FaultyTaskIO",
    "LoseResponse",
    "Operation",
    "RaceEvidence",
    "RaiseBefore",
    "RawStore",
    "RequestCounts",
    "Subject",
    "TaskIOConformance",
    "run_conformance",
    "writes_to",
]
