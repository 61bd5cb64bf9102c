"""The check of the unit, by what `systemctl show` says: its answers are given here, as no systemd runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeannot.base.systemd import Unit
from edgeannot.doctor.unit import find_unit, unit


@pytest.fixture
def found(examine, monkeypatch):
    def look(**facts):
        monkeypatch.setitem(unit.__globals__, "show_unit", lambda _: facts)
        return [(each.code, each.level) for each in unit(examine())]

    return look


RUNS = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running"}


def test_without_systemd_nothing_is_wrong(found):
    assert found() == [("unit-none", "ok")]


def test_a_reload_that_was_refused_is_a_problem_though_the_service_runs(found):
    assert found(**RUNS, StatusText="7 pictures annotated with m") == [("unit", "ok")]
    status = "the new configuration is wrong, and the old one stays in force: min_scor: unknown setting"
    assert found(**RUNS, StatusText=status) == [("unit-reload", "problem"), ("unit", "ok")]


def test_the_advice_is_for_the_service_that_has_the_configuration(examine, monkeypatch):
    facts = {**RUNS, "ActiveState": "failed", "DropInPaths": "/etc/systemd/system/edgeannot@barn.service.d/50-edgeannot.conf"}
    monkeypatch.setitem(unit.__globals__, "show_unit", lambda asked: facts if asked.name == "barn" else {})

    assert find_unit(Path("/etc/edgeannot/edgeannot.toml")) == find_unit(Path("/etc/edgeannot/other.toml")) == find_unit(None) == Unit()
    barn = find_unit(Path("/etc/edgeannot/barn.toml"))
    assert [each.advice for each in unit(examine(unit=barn))] == ["`journalctl -u edgeannot@barn.service -n 50` says why"]
