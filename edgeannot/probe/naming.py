"""What the board is called: the device tree's model, or the DMI tables of a PC."""

from __future__ import annotations

from pathlib import Path

from edgeannot.probe.texts import read

__all__ = ["parse_strings", "read_compatible", "read_name"]

_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
_NOBODY = {"", "to be filled by o.e.m.", "default string", "system manufacturer", "system product name", "not specified", "none", "o.e.m."}
"""What makers leave in DMI fields that they never filled."""


def parse_strings(text: str) -> tuple[str, ...]:
    """The strings of a device tree property, each ended by a NUL."""
    return tuple(part.strip() for part in text.split("\0") if part.strip())


def read_name(root: Path, fallback: str = "") -> str:
    """The board's name; `fallback` where neither table has one."""
    for tree in _TREES:
        if name := " ".join(parse_strings(read(root / tree / "model"))):
            return name
    dmi = [read(root / "sys/class/dmi/id" / field).strip() for field in ("sys_vendor", "product_name")]
    return " ".join(word for word in dmi if word.lower() not in _NOBODY) or fallback


def read_compatible(root: Path) -> tuple[str, ...]:
    """The device tree's compatible strings, most specific first."""
    return next((found for tree in _TREES if (found := parse_strings(read(root / tree / "compatible")))), ())
