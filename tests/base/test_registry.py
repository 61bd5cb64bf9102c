"""Kinds by name: what packages add is looked for only when it is named, checked, and refused in a sentence that names the package."""

from __future__ import annotations

import sys

import pytest

from edgeannot.base import registry as module
from edgeannot.base.errors import ConfigError
from edgeannot.base.registry import Registry


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package of one module with these entry points of the group `boxes`."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    def install(package, entries, code=""):
        (tmp_path / f"{package}-1.0.dist-info").mkdir()
        lines = [f"{name} = {target}" for name, target in entries.items()]
        (tmp_path / f"{package}-1.0.dist-info" / "entry_points.txt").write_text("\n".join(["[boxes]", *lines]))
        (tmp_path / f"{package}.py").write_text(code)
        monkeypatch.setattr(sys, "path", [*sys.path, ""])  # who reads the path anew sees the package

    return install


@pytest.fixture
def boxes():
    return Registry("box", "boxes", {"red": 1, "blue": 2, "green": 3}, lambda name, kind: "" if isinstance(kind, int) else "is no number")


def test_nobody_looks_at_packages_for_what_is_built_in(boxes, monkeypatch):
    monkeypatch.setattr(module, "entry_points", None)

    assert boxes.find("blue") == 2
    assert boxes.package("blue") is None
    assert boxes.wanted == '"red", "blue" or "green"'


def test_a_package_adds_a_kind(boxes, install):
    install("some_box", {"gold": "some_box:GOLD"}, "GOLD = 7")

    assert boxes.offers("gold")
    assert "some_box" not in sys.modules
    assert boxes.find("gold") == 7
    assert boxes.package("gold") == "some-box"
    assert boxes.known == {"red": 1, "blue": 2, "green": 3, "gold": 7}


def test_a_kind_that_nobody_has_is_refused_with_those_there_are(boxes):
    assert not boxes.offers("gold")
    with pytest.raises(ConfigError, match=r"""^wanted a box out of "red", "blue" or "green", or one that .* adds; found 'gold'$"""):
        boxes.find("gold")


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("broken_box:GOLD", "import no_such", r"ModuleNotFoundError: No module named 'no_such'"),
        ("broken_box:GOLD", "raise SystemExit(3)", r"SystemExit: 3"),
        ("broken_box:GOLD", "1 / 0", r"ZeroDivisionError: division by zero"),
        ("broken_box:GOLD", "class", r"SyntaxError"),
        ("broken_box:SILVER", "GOLD = 7", r"AttributeError: .*SILVER"),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(boxes, install, target, code, said):
    install("broken_box", {"gold": target}, code)
    sys.modules.pop("broken_box", None)

    with pytest.raises(ConfigError, match=rf"the box 'gold' of the package broken-box cannot be imported \(.*{said}"):
        boxes.find("gold")


def test_an_object_that_is_no_such_kind_is_refused(boxes, install):
    install("odd_box", {"gold": "odd_box:GOLD"}, "GOLD = 'seven'")

    with pytest.raises(ConfigError, match=r"the box 'gold' of the package odd-box cannot be used: odd_box:GOLD is no number"):
        boxes.find("gold")


def test_two_packages_with_one_name_are_refused(boxes, install):
    install("one_box", {"gold": "one_box:GOLD"})
    install("two_box", {"gold": "two_box:GOLD"})

    with pytest.raises(ConfigError, match="the packages one-box and two-box each have a box called 'gold'"):
        boxes.find("gold")


def test_a_package_may_not_take_a_name_that_is_built_in(boxes, install):
    install("my_box", {"gold": "my_box:GOLD", "red": "my_box:RED"}, "GOLD = RED = 7")

    assert boxes.find("red") == 1
    with pytest.raises(ConfigError, match="the package my-box has a box called 'red', which is built in"):
        boxes.find("gold")
