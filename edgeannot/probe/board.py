"""The facts of a board, as values; and what can be told of the Python that runs and the runtime it would load, without loading it."""

from __future__ import annotations

import importlib.util
import re
import struct
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from edgeannot.base.runtimes import RUNTIMES, Runtime, installed_runtimes

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
    "python_facts",
    "runtime_facts",
    "runtime_version",
]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Cores of one kind."""

    core: str
    """The core's name ("Cortex-A72"), the x86 model, or the RISC-V microarchitecture; "unknown" where the text does not say."""
    cpus: tuple[int, ...]
    """The kernel's numbers of its processors; a hardware thread is one."""
    out_of_order: bool | None = None
    """Whether the core reorders instructions, by its name; None where the name is not known."""


@dataclass(frozen=True, slots=True)
class Processor:
    """What /proc/cpuinfo says."""

    family: str = ""
    """arm, x86, riscv, or empty."""
    bits: int = 0
    """Width of the instruction set that the kernel names flags of: 32 or 64; 0 where the text does not say."""
    clusters: tuple[Cluster, ...] = ()
    """In the order of the kernel's numbers: on big.LITTLE mostly the little cores first."""
    cores: int = 0
    """Cores that share no execution units: hardware threads of one core count once."""
    features: frozenset[str] = frozenset()
    """The flags that every processor has, as the kernel spells them; for RISC-V the extensions."""
    int8: tuple[str, ...] = ()
    """Those that matter to int8, in plain names: neon, dotprod, i8mm, bf16, sve, sse4.1, avx2, avx-vnni, avx512-vnni, rvv."""
    board: str = ""
    """The board's name where the text has one (Raspberry Pi and 32-bit Arm kernels)."""

    @property
    def cpus(self) -> tuple[int, ...]:
        """The kernel's numbers of all processors."""
        return tuple(sorted(number for cluster in self.clusters for number in cluster.cpus))

    @property
    def name(self) -> str:
        """The clusters in words: "2x Cortex-A72 + 4x Cortex-A53"; what the kernel lists last, mostly the big cores, comes first."""
        return " + ".join(f"{len(cluster.cpus)}x {cluster.core}" for cluster in reversed(self.clusters)) or "unknown processor"


@dataclass(frozen=True, slots=True)
class Limits:
    """What this process may use of the board."""

    cpus: tuple[int, ...] = ()
    """The processors it may run on (affinity and cpuset together); empty where the kernel does not say."""
    quota_cores: float | None = None
    """CPU seconds a second that its control groups allow; None without a quota."""
    memory_bytes: int | None = None
    """The smallest memory limit of its control groups; None without one."""
    cgroup: str = ""
    """v1, v2, v1+v2, or empty."""


@dataclass(frozen=True, slots=True)
class Frequency:
    """One cpufreq policy: processors that change their clock together. All in MHz; 0 where the kernel does not say."""

    cpus: tuple[int, ...]
    governor: str
    min_mhz: int
    max_mhz: int
    allowed_mhz: int
    """The highest that is allowed now: lower than `max_mhz` by a setting or while throttled."""
    now_mhz: int


@dataclass(frozen=True, slots=True)
class Zone:
    """One temperature sensor."""

    name: str
    celsius: float


@dataclass(frozen=True, slots=True)
class Cooling:
    """One cooling device: a fan, or the processor's own clock. State 0 is "not cooling"."""

    kind: str
    state: int
    max_state: int

    @property
    def slows_processor(self) -> bool:
        """Whether it works by taking speed away (cpufreq, cpuidle injection, x86 P- and T-states), and does so now."""
        return self.state > 0 and any(word in self.kind.lower() for word in ("cpufreq", "cpuidle", "processor", "powerclamp"))


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """The TFLite runtime that `auto` takes; found without importing it."""

    name: str
    version: str
    int8_xnnpack: bool | None
    """Whether int8 convolutions run in XNNPACK's kernels on this processor, and not in the runtime's older ones; None: not known."""


@dataclass(frozen=True, slots=True)
class Python:
    """The interpreter that runs this."""

    version: str
    bits: int
    soabi: str
    """The tag that binary wheels must carry, e.g. cpython-311-aarch64-linux-gnu."""


@dataclass(frozen=True, slots=True)
class Board:
    """Everything the probe found. Complete from birth; what could not be read is empty, 0 or None."""

    machine: str = ""
    """The kernel's machine name: aarch64, armv7l, armv6l, x86_64, riscv64."""
    name: str = ""
    """Of the device tree, or of the DMI tables."""
    compatible: tuple[str, ...] = ()
    """The device tree's compatible strings, most specific first."""
    processor: Processor = field(default_factory=Processor)
    limits: Limits = field(default_factory=Limits)
    memory_total_bytes: int = 0
    frequencies: tuple[Frequency, ...] = ()
    zones: tuple[Zone, ...] = ()
    cooling: tuple[Cooling, ...] = ()
    firmware_throttle: int | None = None
    """Raspberry Pi firmware's bits (`clocks.throttle_reasons` puts them into words); None on other boards."""
    runtime: RuntimeFacts | None = None
    python: Python | None = None

    @property
    def cpus(self) -> tuple[int, ...]:
        """The processors that this process may run on: a mask also names some that may come later or are switched off (proc(5))."""
        there = set(self.processor.cpus)
        return tuple(number for number in self.limits.cpus if number in there) or self.processor.cpus or self.limits.cpus

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The clusters as far as this process may run on them."""
        mine = set(self.cpus)
        cut = [(cluster, tuple(number for number in cluster.cpus if number in mine)) for cluster in self.processor.clusters]
        return tuple(Cluster(cluster.core, cpus, cluster.out_of_order) for cluster, cpus in cut if cpus)

    @property
    def usable_cores(self) -> float:
        """Cores' worth of work this process may do: affinity and quota together; hardware threads of one core count once. At least 0."""
        cpus = len(self.cpus)
        if self.processor.cores and cpus == len(self.processor.cpus):
            cpus = min(cpus, self.processor.cores)
        return min(float(cpus), self.limits.quota_cores) if self.limits.quota_cores is not None else float(cpus)

    @property
    def memory_bytes(self) -> int:
        """Memory this process may use; 0 where nothing says."""
        sizes = [size for size in (self.memory_total_bytes, self.limits.memory_bytes) if size]
        return min(sizes, default=0)

    @property
    def governor(self) -> str:
        """The cpufreq governors in force, each once, e.g. "ondemand"; empty where there is none."""
        return "+".join(dict.fromkeys(policy.governor for policy in self.frequencies if policy.governor))

    @property
    def max_mhz(self) -> int:
        """The highest clock of the fastest policy; 0 where the kernel does not say."""
        return max((policy.max_mhz for policy in self.frequencies), default=0)

    @property
    def temperature_c(self) -> float | None:
        """The hottest sensor."""
        return max((zone.celsius for zone in self.zones), default=None)


def python_facts() -> Python:
    """This interpreter: a 32-bit one on a 64-bit kernel gets 32-bit wheels, whatever `uname` says."""
    return Python(
        version=".".join(map(str, sys.version_info[:3])),
        bits=struct.calcsize("P") * 8,
        soabi=str(sysconfig.get_config_var("SOABI") or ""),
    )


def runtime_facts(processor: Processor, runtime: Runtime = "auto") -> RuntimeFacts | None:
    """Return a runtime by its name, or the first that is installed; None where there is none."""
    for name in installed_runtimes():
        if runtime not in ("auto", name):
            continue
        # Measured on x86: LiteRT does, tflite-runtime 2.14 does not. Of tflite-runtime on Arm only the micro-benchmark can tell.
        int8_xnnpack = True if name == "litert" else False if processor.family == "x86" else None
        return RuntimeFacts(name, runtime_version(name), int8_xnnpack)
    return None


def runtime_version(name: str) -> str:
    """Return the version in the name of the .dist-info folder beside the package; importlib.metadata would take 0.1 s to load."""
    package, distribution = next((value for key, value in RUNTIMES.items() if key == name), ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    stem = re.escape(distribution).replace(r"\-", "[-_.]")
    for place in (spec and spec.submodule_search_locations) or ():
        for folder in Path(place).parent.glob(f"{distribution[0]}*.dist-info"):
            if found := re.fullmatch(stem + r"-(.+)\.dist-info", folder.name):
                return found[1]
    return "of unknown version"
