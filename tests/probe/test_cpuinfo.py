"""/proc/cpuinfo: each kernel's way to write it, and texts that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeannot.probe import Processor, parse_cpuinfo, parse_meminfo

CORE = "processor\t: {n}\nFeatures\t: {features}\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n\n"


def arm(*cores, implementer="0x41"):
    return "".join(CORE.format(n=n, features=features, part=part, implementer=implementer) for n, (part, features) in enumerate(cores))


def test_an_empty_text_is_an_unknown_processor():
    assert parse_cpuinfo("") == Processor()
    assert parse_cpuinfo("").name == "unknown processor"
    assert parse_meminfo("") == 0


def test_memory_is_in_bytes():
    assert parse_meminfo("MemTotal:         948304 kB\nMemFree: 1 kB\n") == 948304 * 1024


def test_a_flag_that_one_core_lacks_does_not_count():
    found = parse_cpuinfo(arm(("0xd05", "fp asimd asimddp"), ("0xd0b", "fp asimd asimddp i8mm")))

    assert found.int8 == ("neon", "dotprod")


def test_matrix_instructions_of_newer_arm_cores_are_named():
    # A Graviton 3, as https://github.com/ava-labs/avalanche-cli/pull/1567 shows it.
    flags = "fp asimd evtstrm aes asimddp sha512 sve asimdfhm svei8mm svebf16 i8mm bf16 dgh rng"

    found = parse_cpuinfo(arm(("0xd40", flags)))

    assert found.int8 == ("neon", "dotprod", "i8mm", "bf16", "sve")
    assert found.name == "1x Neoverse-V1"


def test_a_core_of_an_unknown_maker_keeps_its_numbers():
    found = parse_cpuinfo(arm(("0x22", "fp asimd asimddp"), implementer="0x61"))

    assert found.clusters[0].core == "core 0x61:0x22"
    assert found.clusters[0].out_of_order is None


def test_kernels_before_3_8_say_once_what_holds_for_all_cores():
    # A Cubieboard 2, as https://github.com/yujinrobot/yujin_tools/issues/45 shows it.
    text = (
        "Processor       : ARMv7 Processor rev 4 (v7l)\nprocessor       : 0\nBogoMIPS        : 2681.40\n\n"
        "processor       : 1\nBogoMIPS        : 2690.58\n\n"
        "Features        : swp half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt \nCPU implementer : 0x41\n"
        "CPU architecture: 7\nCPU variant     : 0x0\nCPU part        : 0xc07\nCPU revision    : 4\n\nHardware        : sun7i\n"
    )

    found = parse_cpuinfo(text)

    assert (found.name, found.cpus, found.int8, found.bits, found.board) == ("2x Cortex-A7", (0, 1), ("neon",), 32, "sun7i")


def test_x86_flags_and_riscv_letters_are_not_confused():
    x86 = parse_cpuinfo(
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Some CPU @ 2.00GHz\nflags\t\t: fpu lm v avx2 avx512_vnni\n"
    )

    assert (x86.int8, x86.bits, x86.name) == (("avx2", "avx512-vnni"), 64, "1x Some")


@pytest.mark.parametrize(
    ("isa", "int8", "bits"),
    [
        ("rv64imafdc", (), 64),
        ("rv64imafdcv_zicbom", ("rvv",), 64),
        ("rv64imafdcvsu", (), 64),
        ("rv32ima", (), 32),
        ("rv64imafdc_zve32x_zvfh", (), 64),
        ("nonsense", (), 32),
    ],
)
def test_riscv_extensions_are_the_letters_after_the_width(isa, int8, bits):
    found = parse_cpuinfo(f"processor\t: 0\nhart\t\t: 1\nisa\t\t: {isa}\nuarch\t\t: sifive,u74-mc\n")

    assert (found.int8, found.bits, found.family) == (int8, bits, "riscv")


FIELDS = st.sampled_from(
    ["processor", "Features", "flags", "CPU implementer", "CPU part", "isa", "uarch", "model name", "vendor_id", "physical id", "core id"]
)
LINES = st.builds("{}\t: {}".format, FIELDS, st.text(max_size=20)) | st.text(max_size=30) | st.just("")


@given(st.lists(LINES, max_size=25).map("\n".join))
def test_no_text_makes_the_parser_raise(text):
    found = parse_cpuinfo(text)

    assert 0 <= found.cores <= len(found.cpus)
    assert len(set(found.cpus)) == len(found.cpus)
    assert parse_meminfo(text) >= 0
