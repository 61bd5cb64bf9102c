"""The governor: lower the load when the board does not keep up, raise it again when it does. A state machine without I/O or clock.

It watches the time a picture takes against its budget, the temperature against the board's trip point, and the share of time that
tasks wait for memory. It lowers, in this order, the pictures a second, the input size, the model.

* Whatever it is, the second stage is dropped first, where there is one, and comes back last.
* Heat lowers the rate first, then the model: half the work is half the heat, and each result stays as good as before.
* Latency slightly over budget halves the rate once (enough beside a busy process, or in a CPU quota that refills), and restores it
  if that does not help. Latency far over budget selects the first smaller input or model that is expected to fit. The rate never
  goes below the one that the user asked for.
* Memory pressure lowers the model at once; fewer pictures would free no memory.

It steps down after seconds and up after a longer time within bounds. A step up that soon has to be reverted doubles that time. A step
up for latency requires that the model is expected to fit, by the models' relative costs; as that estimate may be wrong, one such
step is tried after a longer wait all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

__all__ = ["DEFAULT_TRIP_C", "RATES", "Bounds", "DegradationLevel", "Governor", "Position", "SensorReadings", "Step"]

Cause = Literal["latency", "heat", "memory"]

RATES: Final = (1.0, 0.5, 0.25)
"""Parts of the usual pictures a second."""

_PATIENCE_S: Final[dict[Cause, float]] = {"latency": 2.0, "heat": 5.0, "memory": 5.0}
"""How long a bound must be exceeded without a break. Latency is a median already."""
_HOLD_DOWN_S: Final[dict[Cause, float]] = {"latency": 3.0, "heat": 20.0, "memory": 10.0}
"""Time from any step to the next one down: until the effect shows. Heat sinks and averages are slow."""
_HOLD_UP_S: Final = 15.0
"""How long all must have been well for a step up, at first."""
_LONGEST_HOLD_UP_S: Final = 240.0
_TRIAL_S: Final = 30.0
"""After this time, at first, a step up is tried although it is not expected to fit."""
_LONGEST_TRIAL_S: Final = 960.0
_RATE_USELESS_S: Final = 600.0
"""A lower rate that did not bring the latency back is not tried again for this long."""
_SOON_S: Final = 60.0
"""A step down within this time after a step up means that the step up was wrong."""

DEFAULT_TRIP_C: Final = 80.0
"""A Raspberry Pi slows down from this temperature; the default for zones without a trip point."""
_OVER: Final = 1.1
"""Part of the budget over which the latency is too long: models are chosen to just fit, and medians wobble."""
_SLIGHTLY_OVER: Final = 1.3
_COOL_BY_C: Final = 5.0
"""Degrees under the trip point at which the board counts as cool again."""
_MEMORY_SOME: Final = 10.0
_MEMORY_FULL: Final = 5.0
"""Percent of the last 10 s in which some, or all, tasks waited for memory."""
_MEMORY_WELL: Final = 0.2
"""Part of those bounds under which memory is well again."""


@dataclass(frozen=True, slots=True)
class DegradationLevel:
    """A model at an input size."""

    name: str
    cost: float
    """Cost of one picture, in any unit that all levels share: ms measured alike, or multiply-accumulates."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds that the governor keeps."""

    budget_ms: float | None = None
    """Longest time for a picture; None: latency does not count."""
    rate_helps: bool = True
    """Whether a latency over budget may lower the rate: not if the user asked for a rate."""
    second_stage: bool = False
    """Whether there is a second stage, to be dropped first."""


@dataclass(frozen=True, slots=True)
class SensorReadings:
    """Current values of the sensors and the last pictures; None: no such sensor, or no value yet."""

    latency_ms: float | None = None
    """Median of the last pictures, all of them since the last step."""
    temperature_c: float | None = None
    """Of the zone that is nearest to its trip point."""
    trip_c: float = DEFAULT_TRIP_C
    """Temperature from which that zone makes the board slow down by itself."""
    throttled: bool | None = None
    """Whether the firmware or the kernel slows the processor down, for heat or for a weak supply."""
    notes: tuple[str, ...] = ()
    """The firmware's reports on supply and heat, in words."""
    memory_some: float | None = None
    memory_full: float | None = None
    """Percent of the last 10 s; see `_MEMORY_SOME`."""


@dataclass(frozen=True, slots=True)
class Position:
    """Indexes into RATES and the levels, and whether (1) the second stage is dropped; all 0 is the top."""

    rate: int = 0
    model: int = 0
    bare: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A decision, in force from now on."""

    position: Position
    model: str
    rate: float
    down: bool
    reason: str
    """One sentence without a full stop."""


class Governor:
    """Decides the steps. Call `look` with every reading, about once a second, and carry out the step it returns."""

    def __init__(self, levels: Sequence[DegradationLevel], bounds: Bounds) -> None:
        """levels: the model chosen first, then cheaper ones, each cheaper than the one before it. At least one."""
        self.bounds = bounds
        self.levels = tuple(levels)
        self.position = Position()
        self.exhausted = False
        """Whether something is out of bounds and no step is left."""
        self._since: dict[Cause, float] = {}
        self._stepped_at = float("-inf")
        self._up_at = float("-inf")
        self._well_at: float | None = None
        self._offered_at: float | None = None
        self._hold_up_s = _HOLD_UP_S
        self._trial_s = _TRIAL_S
        self._on_trial = False
        self._rate_on_trial = False
        self._rate_useless_until = float("-inf")
        self._last_down: Cause = "latency"

    @property
    def model(self) -> str:
        """Return the name of the model that should be active."""
        return self.levels[self.position.model].name

    def look(self, now_s: float, reading: SensorReadings) -> Step | None:
        """Return the step to take now, or None. now_s: of a monotonic clock."""
        troubles = self._troubles(reading)
        self._keep_time(now_s, troubles, reading)
        for cause, words in troubles.items():
            lasted_s = now_s - self._since[cause]
            if lasted_s >= _PATIENCE_S[cause] and now_s - self._stepped_at >= _HOLD_DOWN_S[cause]:
                return self._down(now_s, cause, f"{words} for {lasted_s:.0f} s", reading)
        return self._up(now_s, reading)

    def refuse(self, now_s: float, name: str, in_force: str) -> None:
        """Take note that the last step's model cannot be loaded and `in_force` stays active. A cheaper model is removed from the
        levels; a more expensive one may only lack memory at the moment and is tried again later.
        """
        names = [level.name for level in self.levels]
        if names.index(name) > names.index(in_force):
            self.levels = tuple(level for level in self.levels if level.name != name)
        else:
            self._wait_longer(now_s)
        self.position = replace(self.position, model=[level.name for level in self.levels].index(in_force))

    def _keep_time(self, now_s: float, troubles: Mapping[Cause, str], reading: SensorReadings) -> None:
        """Record since when each cause lasts, since when there is none, and since when a step up is possible."""
        self._since = {cause: self._since.get(cause, now_s) for cause in troubles}
        if self._well_at is None or troubles or not _is_well(reading):
            self._well_at = now_s
        offered = self._offer(reading) is not None and now_s > self._well_at
        self._offered_at = (now_s if self._offered_at is None else self._offered_at) if offered else None
        self.exhausted = self.exhausted and bool(troubles)
        if now_s - self._up_at > _SOON_S and self._up_at == self._stepped_at:  # the last step went up, and holds
            self._hold_up_s, self._trial_s = _HOLD_UP_S, _TRIAL_S

    def _troubles(self, reading: SensorReadings) -> dict[Cause, str]:
        """Return what is out of bounds now, in words, the most urgent first."""
        found: dict[Cause, str] = {}
        if reading.throttled:
            found["heat"] = "CPU throttled"
        if reading.temperature_c is not None and reading.temperature_c >= reading.trip_c:
            found["heat"] = f"{reading.temperature_c:.0f} °C, over the limit of {reading.trip_c:.0f} °C"
        some, full = reading.memory_some or 0.0, reading.memory_full or 0.0
        if some >= _MEMORY_SOME or full >= _MEMORY_FULL:
            found["memory"] = f"memory pressure {max(some, full):.0f} %"
        latency, budget = reading.latency_ms, self.bounds.budget_ms
        if latency is not None and budget is not None and latency > _OVER * budget:
            found["latency"] = f"{latency:.0f} ms a picture, over the budget of {budget:.0f} ms"
        return found

    def _down(self, now_s: float, cause: Cause, words: str, reading: SensorReadings) -> Step | None:
        position = self._lower(now_s, cause, reading)
        if position is None:
            self.exhausted = True
            return None
        if now_s - self._up_at < _SOON_S:
            self._wait_longer(now_s)
        self._last_down = cause
        on_trial = cause == "latency" and position == replace(self.position, rate=1)
        step = self._step(now_s, position, words)
        self._rate_on_trial = on_trial
        return step

    def _lower(self, now_s: float, cause: Cause, reading: SensorReadings) -> Position | None:
        """Return the next position down that can help against the cause; None if there is none."""
        here = self.position
        if self.bounds.second_stage and not here.bare:
            return replace(here, bare=1)
        slower = replace(here, rate=here.rate + 1) if here.rate + 1 < len(RATES) else None
        smaller = replace(here, model=here.model + 1) if here.model + 1 < len(self.levels) else None
        if cause == "heat":
            return slower or smaller
        if cause == "memory":
            return smaller or slower
        return self._lower_for_latency(now_s, reading.latency_ms or 0.0, self.bounds.budget_ms or 1.0)

    def _lower_for_latency(self, now_s: float, latency: float, budget: float) -> Position | None:
        here, smaller_is_there = self.position, self.position.model + 1 < len(self.levels)
        if self._rate_on_trial:  # the lower rate did not bring the latency back: it was for nothing
            self._rate_useless_until = now_s + _RATE_USELESS_S
            here = replace(here, rate=0)
        elif (latency <= _SLIGHTLY_OVER * budget or not smaller_is_there) and self._rate_may_help(now_s):
            return replace(here, rate=1)
        if smaller_is_there:
            return replace(here, model=self._first_fitting(here.model + 1, latency, budget))
        return here if here != self.position else None

    def _rate_may_help(self, now_s: float) -> bool:
        return self.bounds.rate_helps and self.position.rate == 0 and now_s >= self._rate_useless_until

    def _first_fitting(self, first: int, latency: float, budget: float) -> int:
        """Return the index of the first level from `first` on that is expected to fit; else of the last."""
        levels = range(first, len(self.levels))
        return next((i for i in levels if self._expected_ms(i, latency) <= budget), len(self.levels) - 1)

    def _expected_ms(self, index: int, latency_ms: float) -> float:
        """Return the expected time of a picture at another level, assuming that other load slows both alike."""
        return latency_ms * self.levels[index].cost / self.levels[self.position.model].cost

    def _offer(self, reading: SensorReadings) -> Position | None:
        """Return the position up that is expected to hold; None if there is none."""
        here, budget, latency = self.position, self.bounds.budget_ms, reading.latency_ms
        full = replace(here, bare=0) if here.bare and not here.model else None
        faster = replace(here, rate=here.rate - 1) if here.rate else full
        if budget is None or latency is None:
            by_latency = budget is not None and self._last_down == "latency"
            if here.model == 0 or by_latency:  # without pictures a better model gains nothing and may not fit
                return faster
            return replace(here, model=here.model - 1)
        if not self._fits(reading):
            return None
        if here.model == 0:
            return faster
        best = self._first_fitting(0, latency, budget)
        if best < here.model:
            return replace(here, model=best if self._last_down == "latency" else here.model - 1)
        return faster

    def _fits(self, reading: SensorReadings) -> bool:
        latency, budget = reading.latency_ms, self.bounds.budget_ms
        return latency is not None and budget is not None and latency <= budget

    def _up(self, now_s: float, reading: SensorReadings) -> Step | None:
        """Return the step up that has been possible for long enough, or a trial after a longer time."""
        here, offer = self.position, self._offer(reading)
        offered_s = now_s - (now_s if self._offered_at is None else self._offered_at)
        well_s = now_s - max(now_s if self._well_at is None else self._well_at, self._stepped_at)
        trial = offer is None and here.model > 0 and self._fits(reading) and well_s >= self._trial_s
        if trial:
            position, words = replace(here, model=here.model - 1), f"trial after {well_s:.0f} s within bounds"
        elif offer is not None and offered_s >= self._hold_up_s:
            position, words = offer, f"within bounds for {offered_s:.0f} s"
        else:
            return None
        self._on_trial = trial
        self._up_at = now_s
        return self._step(now_s, position, words)

    def _wait_longer(self, now_s: float) -> None:
        """Double the wait before the next step of this kind, as the last step up was wrong."""
        if self._on_trial:
            self._trial_s = min(2 * self._trial_s, _LONGEST_TRIAL_S)
        else:
            self._hold_up_s = min(2 * self._hold_up_s, _LONGEST_HOLD_UP_S)
        self._up_at = float("-inf")  # once for each step up
        self._well_at = now_s

    def _step(self, now_s: float, position: Position, words: str) -> Step:
        before, self.position = self.position, position
        self._stepped_at = now_s
        self._since.clear()
        self._offered_at = None
        self._rate_on_trial = False
        changes = []
        if position.model != before.model:
            changes.append(f"model {self.levels[position.model].name} instead of {self.levels[before.model].name}")
        if position.rate != before.rate:
            changes.append(f"{RATES[position.rate]:.0%} of the usual rate instead of {RATES[before.rate]:.0%}")
        if position.bare != before.bare:
            changes.append("without the second stage" if position.bare else "with the second stage")
        down = position.model > before.model or position.rate > before.rate or position.bare > before.bare
        return Step(position, self.model, RATES[position.rate], down, f"{words}: {', '.join(changes)}")


def _is_well(reading: SensorReadings) -> bool:
    """Return whether heat and memory are clearly within their bounds."""
    cool = reading.temperature_c is None or reading.temperature_c < reading.trip_c - _COOL_BY_C
    free = (reading.memory_some or 0.0) < _MEMORY_WELL * _MEMORY_SOME and (reading.memory_full or 0.0) < _MEMORY_WELL * _MEMORY_FULL
    return cool and free and not reading.throttled
