"""The sensors over made-up trees of /sys and /proc."""

import pytest

from edgeannot.base.kernel import free_memory_bytes
from edgeannot.daemon.governor import DEFAULT_TRIP_C, SensorReadings
from edgeannot.daemon.governor_loop import Sensors, read_trips


@pytest.fixture
def tree(tmp_path):
    """Writes files under a root of the test's own."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return write


def zone(number, milli, **trips):
    """The files of a thermal zone; trips: kind -> temperature in thousandths of a degree."""
    folder = f"sys__class__thermal__thermal_zone{number}"
    files = {f"{folder}__temp": milli, f"{folder}__type": "cpu-thermal"}
    for i, (kind, at) in enumerate(trips.items()):
        files |= {f"{folder}__trip_point_{i}_type": kind, f"{folder}__trip_point_{i}_temp": at}
    return files


def test_a_board_without_sensors_feels_nothing(tmp_path):
    assert Sensors(tmp_path).read() == SensorReadings()
    assert free_memory_bytes(tmp_path) is None


def test_the_passive_trip_point_is_the_bound_and_eighty_degrees_where_there_is_none(tree):
    root = tree(**zone(0, 50_000, passive=75_000, critical=110_000), **zone(1, 50_000, critical=90_000), **zone(2, 50_000, passive=0))

    assert [trip for _, trip in read_trips(root)] == [75.0, DEFAULT_TRIP_C, DEFAULT_TRIP_C]


def test_the_zone_nearest_to_its_own_bound_counts(tree):
    root = tree(**zone(0, 70_000, passive=72_000), **zone(1, 75_000, passive=100_000))
    felt = Sensors(root).read()

    assert (felt.temperature_c, felt.trip_c) == (70.0, 72.0)


@pytest.mark.parametrize("stuck", [255_000, -273_150, 2_147_483_647])
def test_a_sensor_that_shows_what_no_board_has_is_no_heat(tree, stuck):
    assert Sensors(tree(**zone(0, stuck, passive=75_000), **zone(1, 50_000))).read().temperature_c == 50.0


def test_a_processor_that_is_slowed_down_to_cool_it_is_throttled(tree):
    device = "sys__class__thermal__cooling_device0__"
    root = tree(**{f"{device}type": "cpufreq-cpu0", f"{device}cur_state": 0, f"{device}max_state": 4})
    assert Sensors(root).read().throttled is False

    tree(**{f"{device}cur_state": 2})
    assert Sensors(root).read().throttled is True


@pytest.mark.parametrize(("bits", "throttled"), [("0", False), ("50000", False), ("1", False), ("2", True), ("4", True), ("8", True)])
def test_of_the_firmwares_bits_those_count_that_slow_the_processor_down_now(tree, bits, throttled):
    """A supply that is too low is told of, but it alone slows nothing down."""
    root = tree(sys__devices__platform__soc__placeholder="")
    path = root / "sys/devices/platform/soc/soc:firmware/get_throttled"
    path.parent.mkdir(parents=True)
    path.write_text(bits + "\n")
    felt = Sensors(root).read()

    assert felt.throttled is throttled
    assert bool(felt.notes) is (bits != "0")


def test_memory_pressure_is_read_each_time_and_heat_less_often(tree):
    now = [0.0]
    pressure = "some avg10={0} avg60=0.00 avg300=0.00 total=0\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=0"
    root = tree(**zone(0, 50_000), proc__pressure__memory=pressure.format("1.00"))
    sensors = Sensors(root, clock=lambda: now[0])
    sensors.read()
    tree(**zone(0, 60_000), proc__pressure__memory=pressure.format("9.00"))
    now[0] = 1.0
    soon = sensors.read()
    now[0] = 2.0
    later = sensors.read()

    assert (soon.memory_some, soon.memory_full, soon.temperature_c) == (9.0, 0.5, 50.0)
    assert later.temperature_c == 60.0


def test_free_memory_is_the_least_of_the_machines_and_the_groups(tree):
    root = tree(proc__meminfo="MemTotal: 900000 kB\nMemAvailable:     500000 kB")
    assert free_memory_bytes(root) == 500_000 * 1024

    tree(
        proc__self__cgroup="0::/box",
        proc__self__mountinfo="30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw",
        **{
            "sys__fs__cgroup__box__memory.max": 200_000_000,
            "sys__fs__cgroup__box__memory.current": 150_000_000,
            "sys__fs__cgroup__box__memory.stat": "anon 1\ninactive_file 20000000\nactive_file 5",
        },
    )
    assert free_memory_bytes(root) == 70_000_000
