"""The conformance kit: one suite that every TaskIO backend passes, ours and yours."""

from checkmate_core.testing.conformance.subject import RaceEvidence, RawStore, Subject
from checkmate_core.testing.conformance.suite import (
    GROUPS,
    FailedCase,
    TaskIOConformance,
    cases,
    run_conformance,
)

__all__ = [
    "GROUPS",
    "FailedCase",
    "RaceEvidence",
    "RawStore",
    "Subject",
    "TaskIOConformance",
    "cases",
    "run_conformance",
]
