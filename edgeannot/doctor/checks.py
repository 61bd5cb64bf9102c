"""The checks by name, in the order of their lines. A new one is a function and a line here."""

from __future__ import annotations

from collections.abc import Sequence

from edgeannot.doctor.brokers import brokers
from edgeannot.doctor.cameras import cameras
from edgeannot.doctor.findings import Check
from edgeannot.doctor.folders import results, state, watched
from edgeannot.doctor.machine import clock, heat, processor
from edgeannot.doctor.models import WITHIN_S, models
from edgeannot.doctor.ports import ports
from edgeannot.doctor.software import configuration, libc, packages, python
from edgeannot.doctor.unit import unit

__all__ = ["CHECKS"]

CHECKS: Sequence[Check] = (
    Check("configuration", configuration, 5),
    Check("python", python, 2),
    Check("packages", packages, 5),
    Check("libc", libc, 2),
    Check("processor", processor, 5),
    Check("models", models, WITHIN_S),
    Check("state", state, 6),
    Check("results", results, 6),
    Check("watched", watched, 10),
    Check("cameras", cameras, 16),
    Check("brokers", brokers, 16),
    Check("ports", ports, 6),
    Check("clock", clock, 2),
    Check("heat", heat, 4),
    Check("unit", unit, 8),
)
