"""Settings: layers in order, every value's origin known, nothing unknown passed over."""

from pathlib import Path

import pytest

from edgeannot.errors import ConfigError, MissingError
from edgeannot.settings import PROFILE_DEFAULTS, Settings, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    import os

    for name in list(os.environ):
        if name.startswith("EDGEANNOT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def grade():
    return "mid", "graded"


def toml(tmp_path, text):
    path = tmp_path / "edgeannot.toml"
    path.write_text(text)
    return path


def load(overrides=None, file=None):
    return load_settings(overrides or {}, file, grade=grade)


def test_without_anything_every_value_is_a_default_or_the_profiles():
    loaded = load()

    assert loaded.settings.sources == {}
    assert loaded.settings.max_fps == PROFILE_DEFAULTS["mid"]["max_fps"]
    assert {origin for _, _, origin in loaded.rows()} == {"default", "profile mid"}


@pytest.mark.parametrize(
    ("flags", "variable", "file", "expected", "origin"),
    [
        ({"min_score": 0.9}, "0.8", "min_score = 0.7", 0.9, "command line"),
        ({}, "0.8", "min_score = 0.7", 0.8, "environment"),
        ({}, None, "min_score = 0.7", 0.7, "edgeannot.toml"),
        ({}, None, "", None, "default"),
    ],
)
def test_each_layer_goes_before_the_next(tmp_path, monkeypatch, flags, variable, file, expected, origin):
    if variable:
        monkeypatch.setenv("EDGEANNOT_MIN_SCORE", variable)
    loaded = load(flags, toml(tmp_path, file))

    assert loaded.settings.min_score == expected
    row = next(row for row in loaded.rows() if row[0] == "min_score")
    assert row[2].endswith(origin)


def test_the_file_goes_before_the_profile_and_the_profile_before_the_default(tmp_path):
    default = Settings.model_fields["max_fps"].default
    assert PROFILE_DEFAULTS["low"]["max_fps"] != default

    assert load({"profile": "low"}).settings.max_fps == PROFILE_DEFAULTS["low"]["max_fps"]
    assert load({"profile": "low"}, toml(tmp_path, "max_fps = 9.0")).settings.max_fps == 9.0


def test_a_profile_that_is_set_is_not_graded(tmp_path):
    loaded = load({}, toml(tmp_path, 'profile = "low"'))

    assert loaded.profile == "low"
    assert "set by" in loaded.profile_reason
    assert (load().profile, load().profile_reason) == ("mid", "graded")


def test_sections_of_a_source_come_from_several_layers(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEANNOT_SOURCES__DOOR__RECURSIVE", "false")
    loaded = load({}, toml(tmp_path, '[sources.door]\nkind = "directory"\npath = "/pictures"'))

    door = loaded.settings.sources["door"]
    assert (door.path, door.recursive) == (Path("/pictures"), False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min_scor = 0.3", r"min_scor: unknown setting \(.*edgeannot\.toml\)"),
        ("min_score = 3", r"min_score: .* less than or equal to 1, found 3"),
        ('[sources.door]\nkind = "directory"\npath = "/p"\nrecursiv = true', r"sources\.door\.recursiv: unknown setting"),
        ('[sources.door]\nkind = "telescope"', r"sources\.door: .*telescope"),
        ('[sources."front door"]\nkind = "directory"\npath = "/p"', "'front door': wanted 1 to 64 letters"),
        ("[sinks.mqtt]\nport = 1883", r"sinks\.mqtt\.port: unknown setting"),
        ("min_score = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load({}, toml(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_misspelt_environment_variable_is_an_error(monkeypatch):
    monkeypatch.setenv("EDGEANNOT_MODLE", "x")

    with pytest.raises(ConfigError, match="EDGEANNOT_MODLE"):
        load()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"none\.toml"):
        load({}, tmp_path / "none.toml")


def test_a_password_in_a_cameras_address_is_not_shown(tmp_path):
    loaded = load({}, toml(tmp_path, '[sources.door]\nkind = "camera"\nurl = "rtsp://admin:hunter2@cam.local/stream"'))

    shown = {key: value for key, value, _ in loaded.rows()}["sources.door.url"]
    assert shown == "'rtsp://***@cam.local/stream'"


def test_every_setting_has_a_description():
    for name, field in Settings.model_fields.items():
        assert field.description, name
