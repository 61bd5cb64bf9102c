"""Read what this board is and what of it the process may use: `read_board`.

Each module parses texts of the kernel into facts by pure functions, and never raises for an odd text. Nothing here imports numpy,
OpenCV or a runtime, so that a daemon knows its board in milliseconds.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgeannot.base.kernel import read
from edgeannot.probe.board import (
    Board,
    Cluster,
    Cooling,
    Frequency,
    Limits,
    Processor,
    Python,
    RuntimeFacts,
    Zone,
    python_facts,
    runtime_facts,
)
from edgeannot.probe.cpuinfo import parse_cpuinfo
from edgeannot.probe.limits import read_cooling, read_frequencies, read_limits, read_throttled, read_zones

__all__ = [
    "Board",
    "Cluster",
    "Cooling",
    "Frequency",
    "Limits",
    "Processor",
    "Python",
    "RuntimeFacts",
    "Zone",
    "parse_cpuinfo",
    "parse_meminfo",
    "parse_strings",
    "read_board",
    "read_compatible",
    "read_name",
]


def parse_meminfo(text: str) -> int:
    """Return total memory in bytes in the text of /proc/meminfo; 0 where it does not say."""
    found = re.search(r"^MemTotal:\s+(\d{1,15}) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def read_board(root: Path = Path("/")) -> Board:
    """Return the facts of this board. `root` stands for /: everything that comes from files is looked for under it."""
    processor = parse_cpuinfo(read(root / "proc/cpuinfo"))
    return Board(
        machine=_machine(root, processor),
        name=read_name(root, processor.board),
        compatible=read_compatible(root),
        processor=processor,
        limits=read_limits(root),
        memory_total_bytes=parse_meminfo(read(root / "proc/meminfo")),
        frequencies=read_frequencies(root),
        zones=read_zones(root),
        cooling=read_cooling(root),
        firmware_throttle=read_throttled(root),
        runtime=runtime_facts(processor),
        python=python_facts(),
    )


def _machine(root: Path, processor: Processor) -> str:
    """Return the kernel's name of the machine: from the kernel itself, else the one that the processor's flags belong to."""
    if arch := read(root / "proc/sys/kernel/arch").strip():  # Linux 6.1 and later
        return arch
    if root == Path("/"):
        return os.uname().machine
    names = {("arm", 64): "aarch64", ("arm", 32): "armv7l", ("x86", 64): "x86_64", ("x86", 32): "i686"}
    names |= {("riscv", 64): "riscv64", ("riscv", 32): "riscv32"}
    if any(cluster.core == "ARM1176" for cluster in processor.clusters):
        return "armv6l"
    return names.get((processor.family, processor.bits), "")


_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
_NOBODY = {"", "to be filled by o.e.m.", "default string", "system manufacturer", "system product name", "not specified", "none", "o.e.m."}
"""What makers leave in DMI fields that they never filled."""


def parse_strings(text: str) -> tuple[str, ...]:
    """Return the strings of a device tree property, each ended by a NUL."""
    return tuple(part.strip() for part in text.split("\0") if part.strip())


def read_name(root: Path, fallback: str = "") -> str:
    """Return the board's name; `fallback` where neither table has one."""
    for tree in _TREES:
        if name := " ".join(parse_strings(read(root / tree / "model"))):
            return name
    dmi = [read(root / "sys/class/dmi/id" / field).strip() for field in ("sys_vendor", "product_name")]
    return " ".join(word for word in dmi if word.lower() not in _NOBODY) or fallback


def read_compatible(root: Path) -> tuple[str, ...]:
    """Return the device tree's compatible strings, most specific first."""
    return next((found for tree in _TREES if (found := parse_strings(read(root / tree / "compatible")))), ())
