"""What is registered is what the lists of kinds say: those of the linter, of the settings and of the cards."""

from __future__ import annotations

import tomllib

import pytest

from edgeannot.settings import Settings
from edgeannot.sinks import SINKS
from edgeannot.sources import SOURCES
from edgeannot.vision.heads import HEADS
from tests.conftest import ROOT


def modules():
    """The module of each kind."""
    made = [*HEADS.built_in.values(), *(kind.open for registry in (SOURCES, SINKS) for kind in registry.built_in.values())]
    return {each.__module__ for each in made}


def test_the_linter_keeps_every_kind_apart_from_the_others():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (listed,) = [contract["modules"] for contract in contracts if contract["type"] == "independence"]

    assert sorted(listed) == sorted(modules())


@pytest.mark.parametrize(("kind", "source"), SOURCES.built_in.items())
def test_a_source_has_the_name_that_its_settings_have(kind, source):
    assert source.options.model_fields["kind"].default == kind
    assert source.options.__doc__


@pytest.mark.parametrize(("kind", "head"), HEADS.built_in.items())
def test_a_head_has_the_name_that_its_card_has(kind, head):
    assert head.__dataclass_fields__["kind"].default == kind


def test_every_sink_has_a_section():
    sinks = Settings().sinks

    assert dict(sinks.by_kind()).keys() == SINKS.built_in.keys() == type(sinks).model_fields.keys()
