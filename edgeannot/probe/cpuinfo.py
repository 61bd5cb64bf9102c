"""Parse /proc/cpuinfo of Arm, x86 and RISC-V kernels; no text raises.

Arm cores are named by the implementer and part numbers of the main ID register (MIDR). The numbers are Arm's own, from the technical
reference manuals; the kernel lists them in arch/arm64/include/asm/cputype.h.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from edgeannot.probe.board import Cluster, Processor

__all__ = ["LITTLE", "core_name", "parse_cpuinfo"]

Fields = Mapping[str, str]

_FIELD = re.compile(r"([^:\n]*?)[ \t]*:[ \t]*(.*)")
_INT8 = {
    # The kernel's spelling -> ours; what an int8 network gains from (dotprod, i8mm, VNNI), and what it needs at least (neon, sse4.1).
    "neon": "neon", "asimd": "neon", "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve",
    "sse4_1": "sse4.1", "avx2": "avx2", "avx_vnni": "avx-vnni", "avx512_vnni": "avx512-vnni", "v": "rvv",
}  # fmt: skip
_MAX_CPUS = 4096
"""More than any kernel is built for: a text that claims more is not a processor's."""


def parse_cpuinfo(text: str) -> Processor:
    """Return the processor that the text describes; an empty one where it describes none."""
    blocks = list(_blocks(text))
    whole = {key: value for block in blocks for key, value in block.items()}
    cpus = _processors(blocks)
    family = _family(whole)
    features = _common_features(cpus.values(), family)
    int8 = tuple(name for flag, name in _INT8.items() if flag in features and (flag == "v") == (family == "riscv"))
    return Processor(
        family=family,
        bits=_bits(family, whole, features),
        clusters=_clusters(cpus, family),
        cores=_cores(cpus),
        features=features,
        int8=tuple(dict.fromkeys(int8)),
        board=whole.get("Model") or whole.get("Hardware", ""),
    )


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """Yield one dictionary a paragraph."""
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r", "")):
        fields = [found for line in paragraph.splitlines() if (found := _FIELD.fullmatch(line.strip()))]
        if fields:
            yield {found[1].strip(): found[2].strip() for found in fields}


def _processors(blocks: Iterable[Fields]) -> dict[int, Fields]:
    """Collect fields by processor number. 32-bit Arm kernels before 3.8 say what holds for all cores once, beside the numbers."""
    shared: dict[str, str] = {}
    numbered: dict[int, Fields] = {}
    for block in blocks:
        number = _number(block.get("processor", ""), -1)
        if 0 <= number < _MAX_CPUS:
            numbered[number] = block
        else:
            shared.update(block)
    return {number: {**shared, **block} for number, block in sorted(numbered.items())}


def _family(fields: Fields) -> str:
    if "CPU implementer" in fields or "CPU part" in fields:
        return "arm"
    if "isa" in fields:
        return "riscv"
    return "x86" if "vendor_id" in fields or "flags" in fields else ""


def _common_features(cpus: Iterable[Fields], family: str) -> frozenset[str]:
    """Return the flags that all processors have: a thread may run on any of them."""
    sets = [_extensions(fields.get("isa", "")) if family == "riscv" else _flags(fields) for fields in cpus]
    return frozenset.intersection(*sets) if sets else frozenset()


def _flags(fields: Fields) -> frozenset[str]:
    return frozenset((fields.get("flags") or fields.get("Features") or "").split())


def _extensions(isa: str) -> frozenset[str]:
    """Return the extensions in an ISA string such as rv64imafdcv_zba_zbb.

    The letters s and u are not extensions: T-Head's kernels append them, and their `v` is the draft 0.7.1 of the vector
    extension, which code for the ratified 1.0 does not run on.
    """
    single, *longer = isa.strip().lower().split("_")
    found = re.fullmatch(r"rv(?:32|64)([a-z]*)", single)
    letters = found[1] if found else ""
    if letters.endswith("su"):
        letters = letters[:-2].replace("v", "")
    return frozenset(letters) | frozenset(part for part in longer if part)


def _bits(family: str, fields: Fields, features: frozenset[str]) -> int:
    if family == "arm":
        return 64 if {"asimd", "fp"} & features else 32
    if family == "riscv":
        return 64 if fields.get("isa", "").startswith("rv64") else 32
    return (64 if "lm" in features else 32) if family == "x86" else 0


def _clusters(cpus: Mapping[int, Fields], family: str) -> tuple[Cluster, ...]:
    """Group processors by name, in the order in which the names first come."""
    by_name: dict[str, list[int]] = {}
    for number, fields in cpus.items():
        by_name.setdefault(_core(fields, family), []).append(number)
    return tuple(Cluster(name, tuple(numbers), _out_of_order(name, family)) for name, numbers in by_name.items())


def _core(fields: Fields, family: str) -> str:
    if family == "arm":
        implementer, part = _number(fields.get("CPU implementer", "")), _number(fields.get("CPU part", ""))
        return core_name(implementer, part) if implementer and part else "unknown"
    name = fields.get("uarch") or fields.get("model name") if family == "riscv" else fields.get("model name")
    return re.sub(r"\s+", " ", re.sub(r"\((?:R|TM)\)|\bCPU\b|@.*", "", name or "")).strip() or "unknown"


def _out_of_order(name: str, family: str) -> bool | None:
    if family != "arm" or name == "unknown" or name.startswith("core "):
        return None
    return name not in LITTLE


def _cores(cpus: Mapping[int, Fields]) -> int:
    """Count cores where x86 kernels tell them from hardware threads, else processors."""
    places = {(fields.get("physical id"), fields.get("core id")) for fields in cpus.values()}
    return len(places) if all(None not in place for place in places) else len(cpus)


def _number(text: str, default: int = 0) -> int:
    # The kernel writes small numbers; int() itself refuses texts of thousands of digits.
    return int(text, 0) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,8}", text) else default


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
    """Return the name of a core, or its two numbers where it is not known: "core 0x61:0x22"."""
    known = _ARM.get(part) if implementer == 0x41 else _OTHERS.get((implementer, part))
    return known or f"core {implementer:#x}:{part:#x}"
