"""One line of the table of faults."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass
class Row:
    """One line of the table."""

    fault: str
    sent: int = 0
    received: int = 0
    lost: int = 0
    repeated: int = 0
    quarantined: int = 0
    note: str = "FAILED: it did not come to a verdict"
