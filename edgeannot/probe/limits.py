"""What holds the processor back: the limits of this process, and the board's clocks, heat and voltage.

Affinity comes from /proc/self/status; quota, memory and pressure from the control groups, version 1 and 2. See proc(5) and the
kernel's accounting/psi.rst. Clocks, temperatures, cooling and throttling come from sysfs (admin-guide/pm/cpufreq.rst,
driver-api/thermal/sysfs-api.rst). Raspberry Pi firmware reports low voltage and throttling as bits, in sysfs or by
`vcgencmd get_throttled`: 0 to 3 hold now, 16 to 19 have held since the board was started.
"""

from __future__ import annotations

import re
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeannot.base.kernel import group_folders, number, read
from edgeannot.probe.board import Cooling, Frequency, Limits, Zone

__all__ = [
    "Pressure",
    "find_pressure",
    "hottest_c",
    "parse_celsius",
    "parse_cpu_list",
    "parse_cpu_max",
    "parse_pressure",
    "parse_throttled",
    "read_cooling",
    "read_frequencies",
    "read_limits",
    "read_pressure",
    "read_throttled",
    "read_zones",
    "short_of_memory",
    "throttle_reasons",
]

_NO_LIMIT = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of a page; nothing real is near it."""
_MAX_CPU = 4096
_LEAST_BYTES = 96 << 20
"""With 80 MB pictures take ten times as long, with 64 MB the kernel ends the daemon (docs/performance.md)."""
_LEAST_ADDRESSES_BYTES = 512 << 20
"""With 400 MB of addresses a library crashes while it is loaded, with 600 MB all is well (two cores)."""


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the numbers in a kernel's list: "0-2,5" is 0, 1, 2, 5. What is not a list gives none."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        if found:
            numbers.update(range(int(found[1]), min(int(found[2] or found[1]), _MAX_CPU) + 1))
    return tuple(sorted(numbers))


def parse_cpu_max(text: str) -> float | None:
    """Parse the cores in version 2's cpu.max: "50000 100000" is 0.5; "max 100000" is None."""
    found = re.fullmatch(r"(\d{1,15}) (\d{1,15})", text.strip())
    return int(found[1]) / int(found[2]) if found and int(found[2]) else None


def read_limits(root: Path = Path("/")) -> Limits:
    """Return the limits of this process; `root` stands for /."""
    quotas, sizes, cpusets, versions = [], [], [], set()
    for version, folder in group_folders(root, "cpu"):
        versions.add(version)
        quotas.append(parse_cpu_max(read(folder / "cpu.max")) if version == 2 else _quota_v1(folder))
    for version, folder in group_folders(root, "memory"):
        versions.add(version)
        names = ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",)
        sizes += [number(read(folder / name)) for name in names]
    for version, folder in group_folders(root, "cpuset"):
        cpusets.append(parse_cpu_list(read(folder / ("cpuset.cpus.effective" if version == 2 else "cpuset.cpus"))))
    return Limits(
        cpus=_affinity(read(root / "proc/self/status")) or next((cpus for cpus in cpusets if cpus), ()),
        quota_cores=min((quota for quota in quotas if quota), default=None),
        memory_bytes=min((size for size in sizes if size and 0 < size < _NO_LIMIT), default=None),
        cgroup="+".join(f"v{version}" for version in sorted(versions)),
    )


def short_of_memory(root: Path = Path("/")) -> str:
    """Return with advice which limit of this process is too small for any model; empty where none is."""
    group, (addresses, _) = read_limits(root).memory_bytes, resource.getrlimit(resource.RLIMIT_AS)
    if group is not None and group < _LEAST_BYTES:
        return (
            f"{group >> 20} MB of memory may be used, and the smallest model needs {_LEAST_BYTES >> 20} MB: the kernel may kill this "
            "process at any time; raise MemoryMax= of the unit, or the control group's limit"
        )
    if addresses != resource.RLIM_INFINITY and addresses < _LEAST_ADDRESSES_BYTES:
        return (
            f"{addresses >> 20} MB of addresses may be used (ulimit -v), and the libraries need {_LEAST_ADDRESSES_BYTES >> 20} MB: "
            "they may fail or crash; raise that limit"
        )
    return ""


def _affinity(status: str) -> tuple[int, ...]:
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
    return parse_cpu_list(found[1]) if found else ()


def _quota_v1(folder: Path) -> float | None:
    quota, period = number(read(folder / "cpu.cfs_quota_us")), number(read(folder / "cpu.cfs_period_us"))
    return quota / period if quota and period and quota > 0 and period > 0 else None


@dataclass(frozen=True, slots=True)
class Pressure:
    """Shares of time in percent, 0 to 100, averaged over the last 10 seconds."""

    some_10s: float
    """At least one task waited."""
    full_10s: float
    """All tasks waited at once: nothing was done."""


def parse_pressure(text: str) -> Pressure | None:
    """Return the figures in a pressure file; None where the text is not one. Kernels before 5.13 leave out `full` for the CPU: 0."""
    rows = {}
    for found in re.finditer(r"^(some|full) avg10=([\d.]{1,9}) avg60=", text, re.MULTILINE):
        if re.fullmatch(r"\d+(?:\.\d+)?", found[2]):
            rows[found[1]] = float(found[2])
    if "some" not in rows:
        return None
    return Pressure(rows["some"], rows.get("full", 0.0))


def find_pressure(kind: Literal["cpu", "memory", "io"], root: Path = Path("/")) -> Path | None:
    """Return the pressure file of this process's group (version 2), else of the whole system; None where the kernel has neither."""
    folders = [folder for _, folder in group_folders(root, "")][:1]
    for path in (*(folder / f"{kind}.pressure" for folder in folders), root / "proc/pressure" / kind):
        if read_pressure(path):
            return path
    return None


def read_pressure(path: Path) -> Pressure | None:
    """Return the figures now; None where the file cannot be read any more."""
    return parse_pressure(read(path))


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
