"""What installed packages add, read without importing them."""

from __future__ import annotations

import sys

import pytest

from edgeannot.base.registry import entry_points


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lay the metadata of a package into a folder of the path."""

    def install(text, package="some_plugin-1.0.dist-info", folder="site"):
        (tmp_path / folder / package).mkdir(parents=True)
        (tmp_path / folder / package / "entry_points.txt").write_text(text)
        if str(tmp_path / folder) not in sys.path:
            monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / folder)])

    return install


def names(group):
    return [(each.name, each.target, each.package) for each in entry_points(group)]


def test_a_group_that_nobody_has_is_empty():
    assert entry_points("edgeannot.nothing") == ()


def test_a_group_is_read_and_others_are_not(install):
    install(
        "[other]\na = b:c\n\n[mine]\n# a comment\nz = pack.mod : thing.inner\na = pack.mod:thing [extra]\nnonsense\n\n[more]\nd = e:f\n"
    )

    assert names("mine") == [("a", "pack.mod:thing", "some-plugin"), ("z", "pack.mod:thing.inner", "some-plugin")]


def test_of_a_package_that_lies_there_twice_the_first_counts(install):
    install("[mine]\na = first:a\n")
    install("[mine]\na = second:a\n", package="Some_Plugin-2.0.dist-info", folder="later")

    assert names("mine") == [("a", "first:a", "some-plugin")]


def test_a_name_that_two_packages_have_is_there_twice(install):
    install("[mine]\na = one:a\n")
    install("[mine]\na = two:a\n", package="other-1.0.dist-info")

    assert [package for _, _, package in names("mine")] == ["other", "some-plugin"]


def test_metadata_that_cannot_be_read_is_passed_over(install, tmp_path):
    install("[mine]\na = one:a\n")
    (tmp_path / "site" / "broken-1.0.dist-info").mkdir()
    (tmp_path / "site" / "broken-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe")

    assert names("mine") == [("a", "one:a", "some-plugin")]


def test_loading_imports_the_module_and_takes_the_attribute(install):
    install("[mine]\na = os:path.join\nb = os:no_such\nc = no_such_module:x\n")
    first, second, third = entry_points("mine")

    assert first.load() is __import__("os").path.join
    with pytest.raises(AttributeError, match="no_such"):
        second.load()
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        third.load()
