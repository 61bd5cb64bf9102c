"""What changes while the board runs: clocks, heat, throttling, pressure; and what it is called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeannot.base.kernel import read
from edgeannot.probe import parse_strings, read_name
from edgeannot.probe.limits import (
    Pressure,
    find_pressure,
    hottest_c,
    parse_pressure,
    parse_throttled,
    read_cooling,
    read_frequencies,
    read_pressure,
    read_throttled,
    read_zones,
    throttle_reasons,
)
from tests.probe.test_limits import V2, write

PSI = "some avg10=12.50 avg60=3.00 avg300=1.00 total=123\nfull avg10=2.00 avg60=0.50 avg300=0.10 total=45\n"


def test_an_empty_root_has_no_clocks_heat_or_pressure(tmp_path):
    assert read_frequencies(tmp_path) == read_zones(tmp_path) == read_cooling(tmp_path) == ()
    assert read_throttled(tmp_path) is None
    assert find_pressure("memory", tmp_path) is None
    assert read_name(tmp_path) == ""


def test_policies_come_in_the_order_of_their_numbers(tmp_path):
    base = "sys/devices/system/cpu/cpufreq"
    for n, cpus in ((10, "10 11"), (2, "2"), (0, "0 1")):
        write(tmp_path, {f"{base}/policy{n}/related_cpus": f"{cpus}\n", f"{base}/policy{n}/cpuinfo_max_freq": "1800000\n"})

    assert [policy.cpus for policy in read_frequencies(tmp_path)] == [(0, 1), (2,), (10, 11)]
    assert read_frequencies(tmp_path)[0].max_mhz == 1800


def test_a_sensor_that_is_off_is_left_out(tmp_path):
    base = "sys/class/thermal/thermal_zone"
    write(tmp_path, {f"{base}0/temp": "-274000\n", f"{base}1/temp": "51540\n", f"{base}1/type": "cpu-thermal\n", f"{base}2/type": "gpu\n"})

    assert [(zone.name, zone.celsius) for zone in read_zones(tmp_path)] == [("cpu-thermal", 51.54)]


@pytest.mark.parametrize(
    ("kind", "state", "slows"),
    [("cpufreq-cpu0", "2", True), ("cpufreq-cpu0", "0", False), ("pwm-fan", "3", False), ("Processor", "1", True)],
)
def test_a_fan_cools_without_taking_speed(tmp_path, kind, state, slows):
    base = "sys/class/thermal/cooling_device0"
    write(tmp_path, {f"{base}/type": kind, f"{base}/cur_state": state, f"{base}/max_state": "9"})

    assert [device.slows_processor for device in read_cooling(tmp_path)] == [slows]


@pytest.mark.parametrize(
    ("text", "bits"),
    [("throttled=0x50005\n", 0x50005), ("50005\n", 0x50005), ("0", 0), ("", None), ("error=1", None), ("VCHI failed", None)],
)
def test_the_firmware_answers_in_two_spellings(text, bits):
    assert parse_throttled(text) == bits


def test_what_holds_now_is_not_said_again_as_past():
    assert throttle_reasons(0) == ()
    assert throttle_reasons(0x50005) == ("the supply voltage is too low", "the processor is throttled")
    assert throttle_reasons(0x80000) == ("the soft temperature limit was reached since it was started",)


def test_the_firmware_is_read_from_sysfs(tmp_path):
    write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "80008\n"})

    assert read_throttled(tmp_path) == 0x80008


@pytest.mark.parametrize(("script", "bits"), [("echo throttled=0x50000", 0x50000), ("exit 1", None), ("printf '\\377'", None)])
def test_the_tool_is_asked_where_sysfs_does_not_say(tmp_path, script, bits):
    tool = tmp_path / "usr/bin/vcgencmd"
    write(tmp_path, {"usr/bin/vcgencmd": f"#!/bin/sh\n{script}\n"})
    tool.chmod(0o755)

    assert read_throttled(tmp_path) == bits


def test_pressure_is_that_of_the_own_group_where_the_kernel_counts_it(tmp_path):
    write(tmp_path, {"proc/pressure/memory": PSI.replace("12.50", "99.00")})
    assert read_pressure(find_pressure("memory", tmp_path)) == Pressure(99.0, 2.0)

    write(tmp_path, {"proc/self/mountinfo": V2, "proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/memory.pressure": PSI})
    assert read_pressure(find_pressure("memory", tmp_path)) == Pressure(12.5, 2.0)


def test_old_kernels_have_no_full_line_for_the_processor():
    assert parse_pressure("some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n") == Pressure(1.0, 0.0)


@given(st.text(max_size=120) | st.text(alphabet="somefull avg10=.\n", max_size=80))
def test_no_text_makes_the_parsers_raise(text):
    parse_pressure(text)
    parse_throttled(text)
    assert all(part for part in parse_strings(text))


def test_a_pc_is_named_by_its_maker_unless_the_maker_left_the_field_as_it_was(tmp_path):
    dmi = "sys/class/dmi/id"
    write(tmp_path, {f"{dmi}/sys_vendor": "LENOVO\n", f"{dmi}/product_name": "20FAS00000\n"})
    assert read_name(tmp_path, "fallback") == "LENOVO 20FAS00000"

    write(tmp_path, {f"{dmi}/sys_vendor": "To Be Filled By O.E.M.\n", f"{dmi}/product_name": "Default string\n"})
    assert read_name(tmp_path, "fallback") == "fallback"


def test_the_hottest_readable_zone_counts(tmp_path):
    assert hottest_c(tmp_path) is None
    for i, text in enumerate(["41000\n", "55500\n", "broken"]):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{i}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(text)

    assert hottest_c(tmp_path) == 55.5


def test_what_lies_in_proc_sys_is_read_in_pieces():
    """The kernel refuses to be asked for megabytes there."""
    assert read(Path("/proc/sys/kernel/ostype")) == "Linux\n"
