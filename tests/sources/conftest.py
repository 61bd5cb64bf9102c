"""What the tests of sources share: tiny pictures, and pulling items under a deadline."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest

from edgeannot.sources import Tick
from tests.patience import DEADLINE_S


def _jpeg(value: int = 128, size: int = 8) -> bytes:
    return cv2.imencode(".jpg", np.full((size, size, 3), value, np.uint8))[1].tobytes()


@pytest.fixture
def jpeg():
    """A function that gives the bytes of a small gray JPEG."""
    return _jpeg


@pytest.fixture
def stop():
    return threading.Event()


class Pull:
    """Items of a source, pulled in the test's own thread; every wait ends at a deadline."""

    def __init__(self, source, stop):
        self.items = source.items(stop)
        self.ticks = []

    def take(self, count, deadline_s=DEADLINE_S):
        """The next so many frames and failures."""
        end = time.monotonic() + deadline_s
        found = []
        while len(found) < count:
            assert time.monotonic() < end, f"wanted {count} items, found {found}, last tick {self.ticks[-1:]}"
            item = next(self.items)
            (self.ticks if isinstance(item, Tick) else found).append(item)
        return found

    def names(self, count):
        return [item.name for item in self.take(count)]

    def idle(self, ticks=2):
        """Pull until so many ticks came; nothing else may come."""
        for _ in range(ticks):
            item = next(self.items)
            assert isinstance(item, Tick), item
            self.ticks.append(item)

    def until(self, condition, deadline_s=DEADLINE_S):
        """Pull until a tick fits; nothing else may come."""
        end = time.monotonic() + deadline_s
        while True:
            assert time.monotonic() < end
            item = next(self.items)
            assert isinstance(item, Tick), item
            if condition(item):
                return item

    def rest(self):
        """Everything until the source ends by itself."""
        return [item for item in self.items if not isinstance(item, Tick)]


@pytest.fixture
def pull(stop):
    """A function that gives a Pull of a source; all are closed at the end."""
    made = []

    def begin(source):
        made.append(Pull(source, stop))
        return made[-1]

    yield begin
    for each in made:
        each.items.close()
