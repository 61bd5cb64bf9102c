"""What the governor feels: heat, throttling and want of memory, read from the kernel about once a second, cheaply."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeannot.probe.clocks import parse_celsius, read_cooling, read_throttled, throttle_reasons
from edgeannot.probe.kernel_files import number, read
from edgeannot.probe.limits import Pressure, find_pressure, read_pressure

__all__ = ["DEFAULT_TRIP_C", "SensorReadings", "Sensors", "read_trips"]

DEFAULT_TRIP_C: Final = 80.0
"""From here on a Raspberry Pi slows down; where a zone names no point of its own, it is as good as any."""
_PLAUSIBLE_C: Final = (40.0, 125.0)
"""A trip point outside of this is a placeholder."""
_HEAT_EVERY_S: Final = 2.0
_FIRMWARE_EVERY_S: Final = 15.0
"""`vcgencmd`, which some boards need for the answer, is a process of its own."""
_SLOWED: Final = 0b1110
"""The firmware's bits for a capped clock, throttling and the soft temperature limit. A low supply alone slows nothing down."""


@dataclass(frozen=True, slots=True)
class SensorReadings:
    """What the sensors say; None where there is no such sensor."""

    temperature_c: float | None = None
    """Of the zone that is nearest to its trip point."""
    trip_c: float = DEFAULT_TRIP_C
    """The trip point of that zone."""
    throttled: bool | None = None
    """Whether the processor is slowed down now."""
    notes: tuple[str, ...] = ()
    """What the firmware says of supply and heat, in words."""
    memory: Pressure | None = None


class Sensors:
    """Asks each sensor as often as it is worth; for one thread."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        """root: stands for / in tests."""
        self._root = root
        self._clock = clock
        self._trips = read_trips(root)
        self._pressure = find_pressure("memory", root)
        self._felt = SensorReadings()
        self._bits: int | None = None
        self._heat_at = self._firmware_at = float("-inf")

    def read(self) -> SensorReadings:
        """What they say now."""
        now = self._clock()
        if now - self._firmware_at >= _FIRMWARE_EVERY_S:
            self._firmware_at = now
            self._bits = read_throttled(self._root)
        if now - self._heat_at >= _HEAT_EVERY_S:
            self._heat_at = now
            temperature_c, trip_c = self._hottest()
            self._felt = SensorReadings(temperature_c, trip_c, self._throttled(), throttle_reasons(self._bits) if self._bits else ())
        memory = read_pressure(self._pressure) if self._pressure else None
        felt = self._felt
        return SensorReadings(felt.temperature_c, felt.trip_c, felt.throttled, felt.notes, memory)

    def _hottest(self) -> tuple[float | None, float]:
        read_c = [(parse_celsius(read(path)), trip) for path, trip in self._trips]
        found = [(celsius, trip) for celsius, trip in read_c if celsius is not None]
        return max(found, key=lambda zone: zone[0] - zone[1], default=(None, DEFAULT_TRIP_C))

    def _throttled(self) -> bool | None:
        cooling = read_cooling(self._root)
        if any(device.slows_processor for device in cooling):
            return True
        if self._bits is not None:
            return bool(self._bits & _SLOWED)
        return False if cooling else None


def read_trips(root: Path = Path("/")) -> list[tuple[Path, float]]:
    """The temperature files of the thermal zones, each with the temperature in °C from which the kernel slows the board down.

    That is the lowest passive trip point, else DEFAULT_TRIP_C (kernel: driver-api/thermal/sysfs-api.rst).
    """
    zones = []
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        passive = [_trip_c(kind) for kind in folder.glob("trip_point_*_type") if read(kind).strip() == "passive"]
        plausible = [trip for trip in passive if _PLAUSIBLE_C[0] <= trip <= _PLAUSIBLE_C[1]]
        zones.append((folder / "temp", min(plausible, default=DEFAULT_TRIP_C)))
    return zones


def _trip_c(kind: Path) -> float:
    milli = number(read(kind.with_name(kind.name.removesuffix("_type") + "_temp")))
    return (milli or 0) / 1000
