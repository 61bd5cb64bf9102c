"""The waits between attempts."""

from __future__ import annotations

import doctest

from edgeannot.base.connections import backoff
from edgeannot.base.connections.backoff import backoff_s
from edgeannot.mqtt.options import BrokerOptions


def test_waits_double_up_to_the_longest_and_are_never_alike():
    """A fleet that lost its broker together must not come back together."""
    options = BrokerOptions(retry_min_s=1, retry_max_s=60)
    waits = [[options.retry_wait_s(failures) for _ in range(200)] for failures in range(1, 12)]

    for place, drawn in enumerate(waits):
        longest = min(60.0, 2.0**place)
        assert 0.5 * longest <= min(drawn) < 0.6 * longest
        assert 0.9 * longest < max(drawn) <= longest


def test_any_number_of_failures_has_a_wait():
    assert backoff_s(10**9, 1, 60) <= 60
    assert backoff_s(0, 1, 60) <= 1
    assert doctest.testmod(backoff).failed == 0
