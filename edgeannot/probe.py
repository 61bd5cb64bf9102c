"""What this board is: processor features and memory read from /proc, and the profile that follows from them."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from edgeannot.data import Cpu, Profile

__all__ = ["grade", "parse_cpuinfo", "parse_meminfo", "read_cpu"]

# What an int8 network gains from: Arm's dot product and matrix extensions, x86's VNNI (both AVX-512 and AVX forms).
_INT8_FEATURES = frozenset({"asimddp", "i8mm", "avx_vnni", "avx512_vnni"})
_VECTOR_FEATURES = frozenset({"avx2"})
_A72_PARTS = frozenset({"0xd08", "0xd09", "0xd0a"})  # Cortex-A72, A73, A75 by Arm's part numbers: out of order, no dot product
_GIB = 1 << 30


def parse_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """The model (x86 name or Arm part number) and feature flags in the text of /proc/cpuinfo, of the last core listed.

    On big.LITTLE processors the kernel lists the little cores first.
    """
    fields = dict(re.findall(r"^([^:\n\t]+?)\s*:[ \t]*(.*)$", text, re.MULTILINE))
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or fields.get("CPU part") or fields.get("uarch") or "unknown", frozenset(flags.split())


def parse_meminfo(text: str) -> int:
    """Total memory in bytes in the text of /proc/meminfo; 0 where it does not say."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def read_cpu(root: Path = Path("/")) -> Cpu:
    """The facts of this machine; `root` stands for / in tests."""
    model, features = parse_cpuinfo(_text(root / "proc/cpuinfo"))
    return Cpu(platform.machine(), model, len(os.sched_getaffinity(0)), features, parse_meminfo(_text(root / "proc/meminfo")))


def grade(cpu: Cpu) -> tuple[Profile, str]:
    """The profile of a processor and the reason in words (see docs/design.md, Profiles)."""
    if cpu.memory_bytes and cpu.memory_bytes < 0.9 * _GIB:
        return "low", f"{cpu.memory_bytes / _GIB:.1f} GiB of memory, under 1 GiB"
    if cpu.cores <= 1:
        return "low", "one core"
    if fast := sorted(cpu.features & _INT8_FEATURES):
        return "high", f"{cpu.cores} cores with int8 instructions ({', '.join(fast)})"
    if cpu.features & _VECTOR_FEATURES or cpu.model in _A72_PARTS:
        return "mid", f"{cpu.cores} cores ({cpu.model}) without int8 dot product"
    return "low", f"{cpu.cores} cores ({cpu.model}) without int8 dot product or AVX2"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
