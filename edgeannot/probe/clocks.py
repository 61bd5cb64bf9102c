"""Read clocks, temperatures, cooling and throttling from sysfs (kernel: admin-guide/pm/cpufreq.rst, driver-api/thermal/sysfs-api.rst).

Raspberry Pi firmware reports low voltage and throttling as bits, in sysfs or by `vcgencmd get_throttled`: 0 to 3 hold now, 16 to 19 have
held since the board was started.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgeannot.base.kernel import number, read
from edgeannot.probe.board import Cooling, Frequency, Zone
from edgeannot.probe.limits import parse_cpu_list

__all__ = [
    "hottest_c",
    "parse_celsius",
    "parse_throttled",
    "read_cooling",
    "read_frequencies",
    "read_throttled",
    "read_zones",
    "throttle_reasons",
]

_COLDEST_C, _HOTTEST_C = -60.0, 200.0
"""Sensors that are switched off report figures far outside, such as -274 °C."""


def read_frequencies(root: Path = Path("/")) -> tuple[Frequency, ...]:
    """Return the cpufreq policies, in the order of their numbers."""
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
    """Return the sensors that can be read now."""
    zones = []
    for folder in _numbered(root / "sys/class/thermal", "thermal_zone"):
        celsius = parse_celsius(read(folder / "temp"))
        if celsius is not None:
            zones.append(Zone(read(folder / "type").strip() or folder.name, celsius))
    return tuple(zones)


def parse_celsius(text: str) -> float | None:
    """Return the temperature in a sensor's text, thousandths of °C; None where it is no number or out of range."""
    milli = number(text)
    return milli / 1000 if milli is not None and _COLDEST_C < milli / 1000 < _HOTTEST_C else None


def hottest_c(root: Path = Path("/")) -> float | None:
    """Return the hottest sensor, in °C; None where the board has none (kernel: Documentation/driver-api/thermal/sysfs-api.rst)."""
    return max((zone.celsius for zone in read_zones(root)), default=None)


def read_cooling(root: Path = Path("/")) -> tuple[Cooling, ...]:
    """Return the cooling devices and how much each does now."""
    return tuple(
        Cooling(read(folder / "type").strip(), number(read(folder / "cur_state")) or 0, number(read(folder / "max_state")) or 0)
        for folder in _numbered(root / "sys/class/thermal", "cooling_device")
    )


def _numbered(parent: Path, prefix: str) -> list[Path]:
    """Return the folders prefix0, prefix1, ... in the order of their numbers."""
    try:
        names = [entry.name for entry in parent.iterdir()]
    except OSError:
        return []
    numbers = sorted(int(found[1]) for name in names if (found := re.fullmatch(re.escape(prefix) + r"(\d{1,6})", name)))
    return [parent / f"{prefix}{n}" for n in numbers]


_NOW = {
    0: "the supply voltage is too low",
    1: "the clock is capped",
    2: "the processor is throttled",
    3: "the soft temperature limit holds",
}
_SINCE = {
    16: "the supply voltage was too low",
    17: "the clock was capped",
    18: "the processor was throttled",
    19: "the soft temperature limit was reached",
}
_SYSFS = "sys/devices/platform/soc/soc:firmware/get_throttled"
_TIMEOUT_S = 1.0


def parse_throttled(text: str) -> int | None:
    """Return the bits in "throttled=0x50005" (vcgencmd) or "50005" (sysfs); None where the text is neither."""
    found = re.fullmatch(r"(?:throttled=0x|0x)?([0-9a-fA-F]{1,8})", text.strip())
    return int(found[1], 16) if found else None


def throttle_reasons(bits: int) -> tuple[str, ...]:
    """Return a sentence for each bit, current ones first; a current one is not repeated as past."""
    now = [text for bit, text in _NOW.items() if bits >> bit & 1]
    past = [f"{text} since it was started" for bit, text in _SINCE.items() if bits >> bit & 1 and not bits >> (bit - 16) & 1]
    return tuple(now + past)


def read_throttled(root: Path = Path("/")) -> int | None:
    """Return the firmware's bits; None where there is no such firmware. Runs `vcgencmd` only where sysfs does not say (a Pi 5)."""
    bits = parse_throttled(read(root / _SYSFS))
    tools = () if bits is not None else (root / "usr/bin/vcgencmd", root / "opt/vc/bin/vcgencmd")
    for tool in tools:
        if tool.exists():
            return parse_throttled(_output(tool))
    return bits


def _output(tool: Path) -> str:
    import subprocess  # noqa: PLC0415 - 10 ms that only a Raspberry Pi has to spend

    try:
        return subprocess.run([tool, "get_throttled"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
