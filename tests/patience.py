"""How long a test waits for what must come: one figure for all tests, and for the slowest machine they are to hold on."""

from __future__ import annotations

__all__ = ["DEADLINE_S"]

DEADLINE_S = 150.0
"""Seconds. It costs time only where a test fails; a quarter of one core, shared with another lot of tests, needs up to 20 times what
a free core does (measured: 13 s for what takes 0.7 s)."""
