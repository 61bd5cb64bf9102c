"""Recorded boards are read and graded as what they are, and each of their facts names its source."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeannot.choice.auto_profile import grade
from edgeannot.probe import read_board
from tests.docs_pages import DOCS
from tests.probe import recorded
from tests.probe.page import boards_page

NAMES = recorded.names()
READ = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/self/cgroup",
    "proc/self/mountinfo",
    "proc/self/status",
    "proc/sys/kernel/arch",
    "proc/device-tree/model",
    "proc/device-tree/compatible",
    "sys/class/dmi/id/product_name",
    "sys/devices/system/cpu/cpufreq/policy0/related_cpus",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/cooling_device0/cur_state",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
)


def board(name):
    return read_board(recorded.FOLDER / name)


def test_there_are_more_than_thirty_boards_of_three_architectures():
    assert len(NAMES) > 30
    assert {board(name).processor.family for name in NAMES} == {"arm", "x86", "riscv"}


@pytest.mark.parametrize("name", NAMES)
def test_a_board_grades_as_its_class_and_says_why(name):
    found = grade(board(name))

    assert found.profile == recorded.source(name)["grade"]
    assert found.reasons[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_a_board_names_its_public_source(name):
    sources = recorded.source(name)["sources"]

    for file in recorded.files(name):
        assert [key for key in sources if file == key or (key.endswith("/") and file.startswith(key))], file
    for key, where in sources.items():
        assert "github.com/" in where or "https://" in where
        assert (recorded.FOLDER / name / key).exists(), f"{key} has a source, but is not there"


@pytest.mark.parametrize("name", NAMES)
def test_no_board_gives_away_a_serial_number(name):
    assert "Serial" not in (recorded.FOLDER / name / "proc/cpuinfo").read_text()


@pytest.mark.parametrize(
    ("name", "machine", "processor", "int8"),
    [
        ("pi-zero-w", "armv6l", "1x ARM1176", ()),
        ("pi-zero-2w", "armv7l", "4x Cortex-A53", ("neon",)),
        ("pi-5", "aarch64", "4x Cortex-A76", ("neon", "dotprod")),
        ("orangepi-4", "aarch64", "2x Cortex-A72 + 4x Cortex-A53", ("neon",)),
        ("khadas-edge2", "aarch64", "4x Cortex-A76 + 4x Cortex-A55", ("neon", "dotprod")),
        ("jetson-tx2", "aarch64", "2x Denver-2 + 4x Cortex-A57", ("neon",)),
        ("odroid-xu3", "armv7l", "4x Cortex-A15 + 4x Cortex-A7", ("neon",)),
        ("visionfive-2", "riscv64", "4x sifive,u74-mc", ()),
        ("bananapi-f3", "riscv64", "8x spacemit,x60", ("rvv",)),
        ("radxa-x4", "x86_64", "4x Intel N100", ("sse4.1", "avx2", "avx-vnni")),
        ("core2-e6550", "x86_64", "2x Intel Core2 Duo E6550", ()),
    ],
)
def test_processors_are_named_with_what_matters_to_int8(name, machine, processor, int8):
    found = board(name)

    assert (found.machine, found.processor.name, found.processor.int8) == (machine, processor, int8)


def test_the_draft_of_the_vector_extension_is_not_the_ratified_one():
    assert "0.7.1" in (recorded.FOLDER / "lichee-pi-4a/proc/cpuinfo").read_text()
    assert board("lichee-pi-4a").processor.int8 == ()


def test_two_threads_of_a_core_are_one_core():
    found = board("atom-n2800")

    assert (len(found.cpus), found.processor.cores, found.usable_cores) == (4, 2, 2.0)


def test_names_come_from_the_device_tree_before_cpuinfo():
    assert board("pi-5").name == "Raspberry Pi 5 Model B Rev 1.1"
    assert board("khadas-edge2").compatible == ("khadas,edge2", "rockchip,rk3588")
    assert board("odroid-xu3").name == "ODROID-XU3"


def test_clocks_and_heat_are_read():
    found = board("pi-5")

    assert [(f.cpus, f.governor, f.min_mhz, f.max_mhz) for f in found.frequencies] == [((0, 1, 2, 3), "ondemand", 1500, 2400)]
    assert (found.governor, found.max_mhz, found.temperature_c) == ("ondemand", 2400, 44.6)
    assert [f.max_mhz for f in board("orangepi-4").frequencies] == [1512, 2016]


def test_a_container_is_graded_by_its_limits_and_not_by_its_host():
    host, half, small = (board(name) for name in ("xeon-guest", "container-half-core", "container-256mb"))

    assert host.processor == half.processor == small.processor
    assert (grade(host).profile, grade(half).profile, grade(small).profile) == ("mid", "low", "low")
    assert (half.usable_cores, half.limits.cgroup, small.memory_bytes, small.limits.cgroup) == (0.5, "v2", 256 << 20, "v1")
    assert "CPU quota" in grade(half).reasons[0]
    assert "control group's limit" in grade(small).reasons[0]


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=60), min_size=len(READ), max_size=len(READ)))
def test_no_content_of_its_files_makes_a_board_raise(tmp_path_factory, contents):
    root = tmp_path_factory.mktemp("root")
    for name, content in zip(READ, contents, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    assert grade(read_board(root)).profile in {"low", "mid", "high"}


def test_an_empty_root_is_a_board_of_which_nothing_is_known(tmp_path):
    found = read_board(tmp_path)

    assert (found.machine, found.name, found.cpus, found.usable_cores, found.memory_bytes) == ("", "", (), 0.0, 0)
    assert (found.governor, found.max_mhz, found.temperature_c, found.firmware_throttle) == ("", 0, None, None)
    assert grade(found).profile == "low"
    assert grade(found).reasons[0] == "nothing is known of the processor"


def test_this_machine_can_be_read():
    found = read_board(Path("/"))

    assert found.usable_cores > 0
    assert found.memory_bytes > 0
    assert found.runtime is not None
    assert found.runtime.version[0].isdigit()


def test_the_boards_page_is_made_from_the_code():
    assert (DOCS / "boards.md").read_text(encoding="utf-8") == boards_page(), "run `make docs`"
