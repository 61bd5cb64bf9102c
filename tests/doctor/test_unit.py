"""The check of the unit, by what `systemctl show` says: its answers are given here, as no systemd runs."""

from __future__ import annotations

import pytest

from edgeannot.doctor.unit import unit


@pytest.fixture
def found(examine, monkeypatch):
    def look(**facts):
        monkeypatch.setitem(unit.__globals__, "show_unit", lambda: facts)
        return [(each.code, each.level) for each in unit(examine())]

    return look


RUNS = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running"}


def test_without_systemd_nothing_is_wrong(found):
    assert found() == [("unit-none", "ok")]


def test_a_reload_that_was_refused_is_a_problem_though_the_service_runs(found):
    assert found(**RUNS, StatusText="7 pictures annotated with m") == [("unit", "ok")]
    status = "the new configuration is wrong, and the old one stays in force: min_scor: unknown setting"
    assert found(**RUNS, StatusText=status) == [("unit-reload", "problem"), ("unit", "ok")]
