"""Checks of the machine and its software: processor, limits, clock, heat; the configuration, Python, packages, the C library."""

from __future__ import annotations

import os
import platform
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.foreign import as_int, number_of
from edgeannot.base.runtimes import RUNTIMES
from edgeannot.base.systemd import clock_synced
from edgeannot.doctor.findings import Examined, Finding, fine, problem, warning
from edgeannot.probe import read_board
from edgeannot.probe.limits import hottest_c, read_cooling, read_throttled, short_of_memory, throttle_reasons

__all__ = ["clock", "configuration", "heat", "libc", "packages", "processor", "python"]

_OLDEST = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""Before this program was written."""
_HOT_C = 80.0
_ENOUGH_BYTES = 200 << 20


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
    elif short := short_of_memory(examined.root):
        found, _, cure = short.partition("; ")
        yield problem("memory", "memory", found, cure)
    elif board.memory_bytes and board.memory_bytes < _ENOUGH_BYTES:
        cure = "for more than the smallest models raise MemoryMax= of the unit, or the control group's limit"
        yield warning("memory", "memory", f"{board.memory_bytes >> 20} MB may be used", cure)
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


_NEEDED = ("numpy", "opencv-python-headless", "paho-mqtt", "pydantic", "pydantic-settings", "inotify-simple", "imagesize")
_SINCE = (3, 11)
_OLDEST_GLIBC = {"armv7l": (2, 34)}
"""That of tflite-runtime's wheel; wheels of 64 bits are content with any that runs Python 3.11."""


def configuration(examined: Examined) -> Iterator[Finding]:
    """Check that the configuration file and the environment can be read."""
    from edgeannot.settings import find_problems

    where = str(examined.config_file or "no file; the environment and the defaults")
    try:
        found = find_problems({}, examined.config_file)
    except EdgeannotError as exc:
        yield problem("configuration-unreadable", "configuration", str(exc), "correct it; `edgeannot config check` looks again")
        return
    for each in found:
        yield problem("configuration-wrong", "configuration", str(each), "correct it; `edgeannot config check` looks again")
    if not found:
        yield fine("configuration", "configuration", f"{where}: nothing wrong")


def python(examined: Examined) -> Iterator[Finding]:
    """Check the interpreter."""
    del examined
    bits = struct.calcsize("P") * 8
    found = f"{platform.python_version()}, {bits} bits, {sys.executable}"
    if sys.version_info < _SINCE:
        yield problem("python-old", "Python", found, "install Python 3.11 or later, and edgeannot again with it")
    elif bits == 32 and os.uname().machine in {"aarch64", "x86_64"}:
        yield warning("python-32", "Python", f"{found} on a kernel of 64 bits", "a system of 64 bits has a quicker runtime")
    else:
        yield fine("python", "Python", found)


def packages(examined: Examined) -> Iterator[Finding]:
    """Check that the packages are there, and that the runtime and numpy fit each other: importing alone does not show it."""
    version_of = examined.version_of or _version_of
    runtime = examined.settings.runtime if examined.settings else "auto"
    missing = [name for name in _NEEDED if not version_of(name)]
    if missing:
        yield problem(
            "package-missing", "packages", f"{', '.join(missing)}: not installed", "install edgeannot again: `pip install edgeannot`"
        )
    there = {name: version_of(package) for name, (_, package) in RUNTIMES.items()}
    used = next((name for name, version in there.items() if version and runtime in ("auto", name)), None)
    if used is None:
        what = "no TFLite runtime" if runtime == "auto" else f"the runtime {runtime} is not installed"
        yield problem(
            "runtime-missing", "runtime", what, "`pip install ai-edge-litert`, on 32-bit Arm `pip install tflite-runtime==2.14.0`"
        )
        return
    numpy = version_of("numpy")
    if used == "tflite-runtime" and (as_int(numpy.partition(".")[0]) or 0) >= 2:
        yield problem(
            "runtime-numpy",
            "runtime",
            f"tflite-runtime {there[used]} is made for numpy 1, and numpy {numpy} is installed: it loads, and fails with each model",
            "`pip install 'numpy<2' 'opencv-python-headless<4.12'`, or `pip install ai-edge-litert` where it has a wheel",
        )
        return
    yield fine(
        "runtime", "runtime", f"{used} {there[used]} with numpy {numpy}; {number_of(len(_NEEDED) - len(missing), 'package')} as needed"
    )


def libc(examined: Examined) -> Iterator[Finding]:
    """Check the C library, for which wheels are made."""
    del examined
    name, version = platform.libc_ver()
    machine = os.uname().machine
    numbers = tuple(as_int(part) or 0 for part in version.split(".")[:2])
    wanted = _OLDEST_GLIBC.get(machine)
    if name != "glibc":
        yield problem(
            "libc", "C library", f"{name or 'not glibc'} on {machine}", "the runtimes have wheels for glibc: use Debian, Ubuntu or the like"
        )
    elif wanted and numbers < wanted:
        yield problem(
            "libc-old", "C library", f"glibc {version}", f"the runtime's wheel needs {wanted[0]}.{wanted[1]}: upgrade to Debian 12"
        )
    else:
        yield fine("libc", "C library", f"glibc {version} on {machine}")


def _version_of(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
