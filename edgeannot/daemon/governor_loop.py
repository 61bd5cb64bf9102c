"""The governor's loop: read the sensors and apply its steps to the rate of the sources and to the active model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edgeannot.base.errors import LinkError
from edgeannot.base.kernel import number, read
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.governor import DEFAULT_TRIP_C, DegradationLevel, Governor, SensorReadings, Step
from edgeannot.daemon.monitoring.telemetry import Telemetry
from edgeannot.payload import rfc3339
from edgeannot.probe.limits import find_pressure, parse_celsius, read_cooling, read_pressure, read_throttled, throttle_reasons
from edgeannot.remote.control import Control
from edgeannot.scene.second_stage import SecondStage

__all__ = ["GovernorLoop", "Pace", "Sensors", "read_trips"]

log = logging.getLogger(__name__)

_PLAUSIBLE_C: Final = (40.0, 125.0)
"""A trip point outside of this is a placeholder."""
_HEAT_EVERY_S: Final = 2.0
_FIRMWARE_EVERY_S: Final = 15.0
"""`vcgencmd`, which some boards need for the answer, is a process of its own."""
_SLOWED: Final = 0b1110
"""The firmware's bits for a capped clock, throttling and the soft temperature limit. A low supply alone slows nothing down."""


class Pace:
    """How fast sources take pictures: as configured or as a command says, times the governor's rate."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.rate = 1.0
        """Part of the usual pictures a second, above 0 up to 1."""
        self.busy_s = 0.0
        """How long one picture takes."""

    def interval_s(self, configured_s: float) -> float:
        """Return the least seconds between two pictures of a live source, given those of its settings."""
        wanted_s = self._control.now().interval_s
        return (configured_s if wanted_s is None else wanted_s) / self.rate

    def rest_s(self) -> float:
        """Return the seconds to wait after a file to keep the rate."""
        return self.busy_s * (1.0 / self.rate - 1.0)


class GovernorLoop:
    """Call `tick` about once a second, in one thread."""

    def __init__(
        self,
        governor: Governor,
        sensors: Sensors,
        telemetry: Telemetry,
        control: Control,
        active_model: ActiveModel,
        pace: Pace,
        *,
        levels: Callable[[str], Sequence[DegradationLevel]],
        clock: Callable[[], float] = time.monotonic,
        second_stage: SecondStage | None = None,
    ) -> None:
        """levels: returns the levels below a model that a command or a new choice activated. clock: the one of `telemetry`."""
        self._second_stage = second_stage
        self._governor = governor
        self._sensors = sensors
        self._telemetry = telemetry
        self._control = control
        self._active_model = active_model
        self._pace = pace
        self._levels = levels
        self._clock = clock
        self._readings = SensorReadings()
        self._in_force = active_model.card.name
        self._threads = active_model.threads
        self._since_s = clock()
        self._since = datetime.now(UTC)
        self._reason = "as chosen at the start"
        self._asked: tuple[Step, Future[str]] | None = None
        self._told_exhausted = False
        self.steps = 0
        """Steps taken, down and up; telemetry is published after each."""

    def tick(self) -> None:
        """Read the sensors and carry out the governor's step, if any."""
        self._readings = self._sensors.read()
        if self._asked is not None:
            self._finish(*self._asked)
            return
        if (self._active_model.card.name, self._active_model.threads) != (self._in_force, self._threads):
            self.start_over("the model was changed")
        if self._control.now().paused:
            return
        latency_ms = self._telemetry.latency_ms(self._in_force, self._since_s)
        if latency_ms is not None:
            self._pace.busy_s = latency_ms / 1000
        step = self._governor.look(self._clock(), replace(self._readings, latency_ms=latency_ms))
        if step is not None:
            self._take(step)
        self._tell_exhausted()

    def figures(self) -> dict[str, Any]:
        """Return the JSON-ready figures for telemetry."""
        governor, readings = self._governor, self._readings
        memory = None if readings.memory_some is None else {"some_avg10": readings.memory_some, "full_avg10": readings.memory_full}
        latency_ms = self._telemetry.latency_ms(self._in_force, self._since_s)
        budget_ms = governor.bounds.budget_ms
        return {
            "model": {
                "name": self._active_model.card.name,
                "sha256": self._active_model.card.sha256,
                "threads": self._active_model.threads,
            },
            "governor": {
                "step": governor.position.rate + governor.position.model + governor.position.bare,
                "rate": self._pace.rate,
                "reason": self._reason,
                "since": rfc3339(self._since),
                "budget_ms": None if budget_ms is None else round(budget_ms, 1),
                "latency_ms": None if latency_ms is None else round(latency_ms, 1),
                "exhausted": governor.exhausted,
            },
            "throttled": readings.throttled,
            "supply": list(readings.notes),
            "psi": {"memory": memory},
        }

    def _take(self, step: Step) -> None:
        if step.model == self._in_force:
            log.log(logging.WARNING if step.down else logging.INFO, "%s", _told(step))
            self._done(step)
        else:  # whoever announces the change gives the reason
            self._asked = step, self._control.ask_model(step.model, _told(step))

    def _finish(self, step: Step, asked: Future[str]) -> None:
        """Complete a step once the requested model is active or was refused."""
        if not asked.done():
            return
        self._asked = None
        try:
            asked.result()
        except LinkError:  # the daemon is stopping
            return
        except Exception as exc:  # noqa: BLE001 - whatever it is, the model before is still in force, or the inference ends the daemon
            log.warning("governor: %s, but the model cannot be used: %s", step.reason, exc)
            self._governor.refuse(self._clock(), step.model, self._in_force)
        else:
            self._in_force, self._threads = step.model, self._active_model.threads
            self._done(step)

    def _done(self, step: Step) -> None:
        self._pace.rate = step.rate
        if self._second_stage is not None:
            self._second_stage.dropped = bool(step.position.bare)
        self._told_exhausted = False
        self._mark(step.reason)
        self.steps += 1

    def _mark(self, reason: str) -> None:
        self._reason = reason
        self._since_s, self._since = self._clock(), datetime.now(UTC)

    def start_over(self, reason: str) -> None:
        """Take the active model as the top level, after a command or a new choice changed it or new measurements changed the levels."""
        self._in_force, self._threads = self._active_model.card.name, self._active_model.threads
        self._asked = None  # a step of the previous governor; if it still takes effect, it is handled like any other change
        self._governor = Governor(self._levels(self._in_force), self._governor.bounds)
        self._pace.rate = 1.0
        if self._second_stage is not None:
            self._second_stage.dropped = False
        self._mark(reason)

    def _tell_exhausted(self) -> None:
        if self._governor.exhausted and not self._told_exhausted:
            log.warning("governor: still out of bounds at the lowest step")
            self._told_exhausted = True


def _told(step: Step) -> str:
    return f"governor: step {'down' if step.down else 'up'}, {step.reason}"


class Sensors:
    """Reads each sensor at its own interval; for one thread."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        """root: stands for / in tests."""
        self._root = root
        self._clock = clock
        self._trips = read_trips(root)
        self._pressure = find_pressure("memory", root)
        self._readings = SensorReadings()
        self._bits: int | None = None
        self._heat_at = self._firmware_at = float("-inf")

    def read(self) -> SensorReadings:
        """Read the sensors that are due and return the current values of all."""
        now = self._clock()
        if now - self._firmware_at >= _FIRMWARE_EVERY_S:
            self._firmware_at = now
            self._bits = read_throttled(self._root)
        if now - self._heat_at >= _HEAT_EVERY_S:
            self._heat_at = now
            temperature_c, trip_c = self._hottest()
            self._readings = SensorReadings(
                None, temperature_c, trip_c, self._throttled(), throttle_reasons(self._bits) if self._bits else ()
            )
        memory = read_pressure(self._pressure) if self._pressure is not None else None
        if memory is None:
            return self._readings
        return replace(self._readings, memory_some=memory.some_10s, memory_full=memory.full_10s)

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
    """Return the temperature files of the thermal zones, each with the temperature in °C from which the kernel slows the board down.

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
