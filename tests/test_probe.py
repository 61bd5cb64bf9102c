"""The probe: facts from the kernel's texts, and the profile that follows from them."""

import pytest

from edgeannot.data import Cpu
from edgeannot.probe import grade, parse_cpuinfo, parse_meminfo, read_cpu

GIB = 1 << 30
ARM = (
    "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid{extra}\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {part}\n\n"
)
X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Some CPU @ 2.00GHz\nflags\t\t: fpu sse4_1 avx2 avx_vnni\n\n"


def test_an_empty_text_is_an_unknown_processor():
    assert parse_cpuinfo("") == ("unknown", frozenset())
    assert parse_meminfo("") == 0


def test_names_and_flags_are_read_from_both_kinds_of_cpuinfo():
    assert parse_cpuinfo(X86)[0] == "Some CPU @ 2.00GHz"
    assert "avx_vnni" in parse_cpuinfo(X86)[1]
    assert parse_cpuinfo(ARM.format(extra=" asimddp", part="0xd0b")) == (
        "0xd0b",
        frozenset(["fp", "asimd", "evtstrm", "crc32", "cpuid", "asimddp"]),
    )


def test_on_big_little_the_last_core_counts():
    text = ARM.format(extra="", part="0xd03") + ARM.format(extra=" asimddp", part="0xd0b")

    assert parse_cpuinfo(text)[0] == "0xd0b"


def test_memory_is_in_bytes():
    assert parse_meminfo("MemTotal:         948304 kB\nMemFree: 1 kB\n") == 948304 * 1024


@pytest.mark.parametrize(
    ("cpu", "profile"),
    [
        (Cpu("aarch64", "0xd03", 4, frozenset({"asimd"}), 4 * GIB), "low"),
        (Cpu("aarch64", "0xd08", 4, frozenset({"asimd"}), 4 * GIB), "mid"),
        (Cpu("aarch64", "0xd0b", 4, frozenset({"asimd", "asimddp"}), 8 * GIB), "high"),
        (Cpu("aarch64", "0xd0b", 4, frozenset({"asimddp"}), GIB // 2), "low"),
        (Cpu("x86_64", "old", 2, frozenset({"sse4_1"}), 4 * GIB), "low"),
        (Cpu("x86_64", "newer", 2, frozenset({"avx2"}), 4 * GIB), "mid"),
        (Cpu("x86_64", "new", 4, frozenset({"avx2", "avx_vnni"}), 8 * GIB), "high"),
        (Cpu("x86_64", "new", 1, frozenset({"avx2", "avx512_vnni"}), 8 * GIB), "low"),
    ],
)
def test_boards_are_graded_by_int8_instructions_cores_and_memory(cpu, profile):
    assert grade(cpu)[0] == profile


def test_this_machine_can_be_read(tmp_path):
    assert read_cpu().cores >= 1
    assert read_cpu(tmp_path).features == frozenset()
