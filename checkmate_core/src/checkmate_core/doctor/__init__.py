"""What `checkmate doctor` finds out about a store: may it hold locks, and if not, what is to be done?"""

from checkmate_core.doctor.examination import examine
from checkmate_core.doctor.findings import (
    ClockDifference,
    Condition,
    Diagnosis,
    Door,
    Latency,
    Permission,
    Race,
    Verdict,
)

__all__ = [
    "ClockDifference",
    "Condition",
    "Diagnosis",
    "Door",
    "Latency",
    "Permission",
    "Race",
    "Verdict",
    "examine",
]
