"""Clock frequencies, temperatures and cooling, from sysfs (kernel: admin-guide/pm/cpufreq.rst, driver-api/thermal/sysfs-api.rst)."""

from __future__ import annotations

import re
from pathlib import Path

from edgeannot.probe.board import Cooling, Frequency, Zone
from edgeannot.probe.limits import parse_cpu_list
from edgeannot.probe.texts import number, read

__all__ = ["hottest_c", "parse_celsius", "read_cooling", "read_frequencies", "read_zones"]

_COLDEST_C, _HOTTEST_C = -60.0, 200.0
"""Sensors that are switched off report figures far outside, such as -274 °C."""


def read_frequencies(root: Path = Path("/")) -> tuple[Frequency, ...]:
    """One entry a policy, in the order of their numbers."""
    return tuple(_policy(folder) for folder in _numbered(root / "sys/devices/system/cpu/cpufreq", "policy"))


def _policy(folder: Path) -> Frequency:
    def mhz(name: str) -> int:
        return (number(read(folder / name)) or 0) // 1000

    cpus = parse_cpu_list(read(folder / "related_cpus").strip().replace(" ", ","))
    return Frequency(
        cpus=cpus,
        governor=read(folder / "scaling_governor").strip(),
        min_mhz=mhz("cpuinfo_min_freq"),
        max_mhz=mhz("cpuinfo_max_freq"),
        allowed_mhz=mhz("scaling_max_freq"),
        now_mhz=mhz("scaling_cur_freq"),
    )


def read_zones(root: Path = Path("/")) -> tuple[Zone, ...]:
    """The sensors that can be read now."""
    zones = []
    for folder in _numbered(root / "sys/class/thermal", "thermal_zone"):
        celsius = parse_celsius(read(folder / "temp"))
        if celsius is not None:
            zones.append(Zone(read(folder / "type").strip() or folder.name, celsius))
    return tuple(zones)


def parse_celsius(text: str) -> float | None:
    """Degrees in the thousandths that a sensor shows; None where it shows nothing, or what no board has."""
    milli = number(text)
    return milli / 1000 if milli is not None and _COLDEST_C < milli / 1000 < _HOTTEST_C else None


def hottest_c(root: Path = Path("/")) -> float | None:
    """The hottest sensor, in °C; None where the board has none (kernel: Documentation/driver-api/thermal/sysfs-api.rst)."""
    return max((zone.celsius for zone in read_zones(root)), default=None)


def read_cooling(root: Path = Path("/")) -> tuple[Cooling, ...]:
    """The cooling devices and how much each does now."""
    return tuple(
        Cooling(read(folder / "type").strip(), number(read(folder / "cur_state")) or 0, number(read(folder / "max_state")) or 0)
        for folder in _numbered(root / "sys/class/thermal", "cooling_device")
    )


def _numbered(parent: Path, prefix: str) -> list[Path]:
    """The folders prefix0, prefix1, ... in the order of their numbers."""
    try:
        names = [entry.name for entry in parent.iterdir()]
    except OSError:
        return []
    numbers = sorted(int(found[1]) for name in names if (found := re.fullmatch(re.escape(prefix) + r"(\d{1,6})", name)))
    return [parent / f"{prefix}{n}" for n in numbers]
