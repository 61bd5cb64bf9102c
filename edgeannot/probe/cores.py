"""Names of Arm cores, by the implementer and part numbers of the main ID register (MIDR) that /proc/cpuinfo shows.

The numbers are Arm's own, from the technical reference manuals; the kernel lists them in arch/arm64/include/asm/cputype.h.
"""

from __future__ import annotations

__all__ = ["LITTLE", "core_name"]

_ARM = {
    0xB76: "ARM1176", 0xC05: "Cortex-A5", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9", 0xC0D: "Cortex-A12",
    0xC0E: "Cortex-A17", 0xC0F: "Cortex-A15", 0xD01: "Cortex-A32", 0xD02: "Cortex-A34", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35",
    0xD05: "Cortex-A55", 0xD06: "Cortex-A65", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2",
    0xD4A: "Neoverse-E1", 0xD4B: "Cortex-A78C", 0xD4C: "Cortex-X1C", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2",
    0xD80: "Cortex-A520", 0xD81: "Cortex-A720", 0xD82: "Cortex-X4", 0xD84: "Neoverse-V3", 0xD85: "Cortex-X925", 0xD87: "Cortex-A725",
}  # fmt: skip
_OTHERS = {
    (0x42, 0x100): "Brahma-B53",
    (0x43, 0x0A1): "ThunderX",
    (0x43, 0x0AF): "ThunderX2",
    (0x48, 0xD01): "TaiShan-v110",
    (0x4E, 0x003): "Denver-2",
    (0x4E, 0x004): "Carmel",
    (0x51, 0x800): "Kryo-2xx-Gold",
    (0x51, 0x801): "Kryo-2xx-Silver",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1a",
}

LITTLE = frozenset(
    {"ARM1176", "Cortex-A5", "Cortex-A7", "Cortex-A8", "Cortex-A9", "Cortex-A32", "Cortex-A34", "Cortex-A35", "Cortex-A53", "Cortex-A55"}
    | {"Cortex-A510", "Cortex-A520", "Brahma-B53", "Kryo-2xx-Silver", "ThunderX"}
)
"""Cores that issue in order, and the Cortex-A9, which reorders but has a vector unit of half the width."""


def core_name(implementer: int, part: int) -> str:
    """The name of a core, or its two numbers where it is not known: "core 0x61:0x22"."""
    known = _ARM.get(part) if implementer == 0x41 else _OTHERS.get((implementer, part))
    return known or f"core {implementer:#x}:{part:#x}"
