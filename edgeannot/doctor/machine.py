"""Checks of the machine: processor and limits, clock, heat."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from edgeannot.base.systemd import clock_synced
from edgeannot.doctor.findings import Examined, Finding, fine, problem, warning
from edgeannot.probe import read_board
from edgeannot.probe.clocks import hottest_c, read_cooling, read_throttled, throttle_reasons

__all__ = ["clock", "heat", "processor"]

_OLDEST = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""Before this program was written."""
_HOT_C = 80.0
_LEAST_BYTES = 200 << 20


def processor(examined: Examined) -> Iterator[Finding]:
    """Check the processor's instructions, and what limits hold for this process."""
    board = read_board(examined.root)
    quota = board.limits.quota_cores
    limits = f"{len(board.cpus)} of {len(board.processor.cpus)} hardware threads" + (f", a quota of {quota:g} cores" if quota else "")
    found = f"{board.processor.name or board.machine}, for int8: {', '.join(board.processor.int8) or 'nothing known'}; {limits}"
    if board.machine == "armv6l":
        yield problem(
            "processor-old", "processor", f"{found}: ARMv6 has no NEON", "use a Raspberry Pi 2 or later: no runtime has wheels for this one"
        )
    elif board.memory_bytes and board.memory_bytes < _LEAST_BYTES:
        yield problem(
            "memory", "memory", f"{board.memory_bytes >> 20} MB may be used", "raise MemoryMax= of the unit, or the control group's limit"
        )
    elif quota is not None and quota < 0.25:
        yield warning("quota", "processor", found, "raise CPUQuota= of the unit: a picture takes seconds")
    else:
        yield fine("processor", "processor", found)


def clock(examined: Examined) -> Iterator[Finding]:
    """Check the date, by which certificates and messages are judged."""
    now = examined.now()
    shown = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
    cure = "switch time synchronisation on: `timedatectl set-ntp true`, or install systemd-timesyncd or chrony"
    if now < _OLDEST:
        yield problem("clock-wrong", "clock", f"{shown}, which is past: certificates seem not to be valid yet", cure)
    elif not clock_synced():
        yield warning("clock-unsynced", "clock", f"{shown}, not synchronised: messages say `clock_synced` false", cure)
    else:
        yield fine("clock", "clock", f"{shown}, synchronised")


def heat(examined: Examined) -> Iterator[Finding]:
    """Check temperature, supply and throttling."""
    hottest, bits = hottest_c(examined.root), read_throttled(examined.root)
    slowed = [device.kind for device in read_cooling(examined.root) if device.slows_processor]
    reasons = [reason for reason in throttle_reasons(bits) if "since" not in reason] if bits else []
    found = "no sensor" if hottest is None else f"{hottest:.0f} °C"
    if reasons or slowed:
        cure = (
            "give it a stronger power supply" if any("voltage" in reason for reason in reasons) else "give it a heat sink or a fan, and air"
        )
        yield warning(
            "throttled", "temperature", "; ".join([found, *reasons, *(f"{kind} slows the processor down" for kind in slowed)]), cure
        )
    elif hottest is not None and hottest >= _HOT_C:
        yield warning("hot", "temperature", found, "give it a heat sink or a fan, and air")
    else:
        yield fine("temperature", "temperature", f"{found}, not slowed down")
