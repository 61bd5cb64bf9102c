"""The checks of `edgeannot doctor` by name, in the order of their lines; a new one is a function and a line here.

They run side by side, each within its time: a broker and a camera that are dead cost no more than the slowest of them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

from edgeannot.base.errors import EdgeannotError
from edgeannot.doctor.cameras import cameras as check_cameras  # `edgeannot.doctor.cameras` stays the module
from edgeannot.doctor.connections import brokers, ports
from edgeannot.doctor.findings import Check, Examined, Finding, problem
from edgeannot.doctor.folders import results, secrets, state, watched
from edgeannot.doctor.machine import clock, configuration, heat, libc, packages, processor, python
from edgeannot.doctor.models import WITHIN_S
from edgeannot.doctor.models import models as check_models
from edgeannot.doctor.unit import unit as check_unit

__all__ = ["CHECKS", "OVERDUE", "run_checks"]

OVERDUE = "-overdue"
"""What the code of a check that did not end in time ends with."""

CHECKS: Sequence[Check] = (
    Check("configuration", configuration, 5),
    Check("python", python, 2),
    Check("packages", packages, 5),
    Check("libc", libc, 2),
    Check("processor", processor, 5),
    Check("models", check_models, WITHIN_S),
    Check("state", state, 6),
    Check("results", results, 6),
    Check("watched", watched, 10),
    Check("secrets", secrets, 6),
    Check("cameras", check_cameras, 16),
    Check("brokers", brokers, 16),
    Check("ports", ports, 6),
    Check("clock", clock, 2),
    Check("heat", heat, 4),
    Check("unit", check_unit, 8),
)


def run_checks(examined: Examined, checks: Sequence[Check]) -> list[Finding]:
    """Return the findings of all checks in their order. One that does not end in time is a finding; its thread is left behind."""
    begun = time.monotonic()
    done: dict[str, queue.SimpleQueue[list[Finding]]] = {check.name: queue.SimpleQueue() for check in checks}
    for check in checks:
        threading.Thread(target=_run, args=(check, examined, done[check.name]), name=f"check {check.name}", daemon=True).start()
    found: list[Finding] = []
    for check in checks:
        try:
            found += done[check.name].get(timeout=max(0.01, begun + check.within_s - time.monotonic()))
        except queue.Empty:
            said = f"the check did not end within {check.within_s:g} s"
            found.append(
                problem(f"{check.name}{OVERDUE}", check.name, said, "look at what it waits for: a device, a mount or a server that hangs")
            )
    return found


def _run(check: Check, examined: Examined, done: queue.SimpleQueue[list[Finding]]) -> None:
    found: list[Finding] = []
    try:
        found.extend(check.run(examined))
    except EdgeannotError as exc:
        said, _, cure = str(exc).partition("; ")
        found.append(problem(f"{check.name}-error", check.name, said, cure or "correct that setting: `edgeannot config` has its origin"))
    except Exception as exc:  # noqa: BLE001 - a check that breaks must not hide the others
        said = f"the check broke: {type(exc).__name__}: {exc}"
        found.append(problem(f"{check.name}-broke", check.name, said, "please report this line"))
    done.put(found)
