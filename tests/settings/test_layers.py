"""Settings: layers in order, every value's origin known, nothing unknown passed over."""

import tomllib
from pathlib import Path

import pytest

from edgeannot.base.errors import ConfigError, MissingError
from edgeannot.base.places import nothing_is_configured
from edgeannot.settings import PROFILE_DEFAULTS, Settings, default_config_file, find_data_dir, load_settings
from edgeannot.settings.described import descriptions


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
    assert "set " in loaded.profile_reason
    assert (load().profile, load().profile_reason) == ("mid", "graded")


def test_sections_of_a_source_come_from_several_layers(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEANNOT_SOURCES__DOOR__RECURSIVE", "false")
    loaded = load({}, toml(tmp_path, '[sources.door]\nkind = "directory"\npath = "/pictures"'))

    door = loaded.settings.sources["door"]
    assert (door.path, door.recursive) == (Path("/pictures"), False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min_scor = 0.3", r"min_scor: unknown setting; did you mean min_score\? \(.*edgeannot\.toml, line 1\)"),
        ("colour = 3", r"colour: unknown setting \(.*edgeannot\.toml, line 1\)"),
        ("min_fps = 1e-310", r"min_fps: wanted a number of 0\.001 or more, found 1e-310"),
        ("min_score = 3", r"min_score: wanted a number of 1 or less, found 3"),
        ('[sources.door]\nkind = "directory"\npath = "/p"\nrecursiv = true', r"door\.recursiv: unknown setting; did you mean recursive\?"),
        (
            '[sources.door]\nkind = "telescope"',
            r'sources\.door: wanted a source out of "directory", "camera", "files" or "mqtt", or .*; found \'telescope\' \(',
        ),
        ('[sources.door]\npath = "/p"', r"sources\.door: wanted a kind = .*, found none \("),
        ('[sources.door]\nkind = "camera"', r"sources\.door\.url: wanted a value, found none"),
        ('[sources]\ndoor = "/p"', r"sources\.door: wanted a section, \[sources\.door\], found '/p'"),
        ('labels = "cat"', r"labels: wanted a list like \[\"a\", \"b\"\], found 'cat'"),
        ('[sources."front door"]\nkind = "directory"\npath = "/p"', "'front door': wanted 1 to 64 letters"),
        ("[sinks.telegraph]\nenabled = true", r"sinks\.telegraph: unknown setting \("),
        ("[sinks.image]\nenabled = true", r"sinks\.image: unknown setting; did you mean images\?"),
        ("[sinks.mqtt]\nport = 1883", r"sinks\.mqtt\.port: unknown setting; did you mean url\?"),
        ("[sinks.mqtt.commands]\nenable = true", r"sinks\.mqtt\.commands\.enable: unknown setting; did you mean enabled\?"),
        ("min_score = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load({}, toml(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_number_out_of_a_few_may_be_set_by_the_environment(monkeypatch):
    monkeypatch.setenv("EDGEANNOT_SINKS__MQTT__QOS", "2")
    assert load().settings.sinks.mqtt.qos == 2


def test_a_text_of_a_source_that_looks_like_a_number_stays_a_text_in_the_environment(monkeypatch):
    for key, value in {
        "KIND": "mqtt",
        "TOPIC": "cameras/+",
        "BROKER__URL": "mqtt://h",
        "BROKER__PROTOCOL": "5",
        "DEVICE_LEVEL": "1",
    }.items():
        monkeypatch.setenv(f"EDGEANNOT_SOURCES__PICTURES__{key}", value)

    pictures = load().settings.sources["pictures"]

    assert (pictures.broker.protocol, pictures.device_level) == ("5", 1)


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
    assert shown == '"rtsp://***@cam.local/stream"'


def test_a_secret_where_the_name_of_a_file_belongs_is_not_shown_but_names_of_files_are(tmp_path):
    text = '[sinks.webhook.header_files]\npassword = "hunter2"\nAuthorization = "/etc/auth"\n'
    text += '[sinks.mqtt]\nusername = "bob"\npassword_file = "/etc/password"'
    shown = {key: value for key, value, _ in load({}, toml(tmp_path, text)).rows()}

    assert shown["sinks.webhook.header_files.password"] == '"***"'
    assert shown["sinks.webhook.header_files.Authorization"] == '"/etc/auth"'
    assert shown["sinks.mqtt.password_file"] == '"/etc/password"'


def test_values_are_shown_as_the_file_takes_them(tmp_path):
    loaded = load({}, toml(tmp_path, 'device = "Haus \\"Süd\\""\nlabels = ["cat", "dog"]\nmin_score = 0.3\n[sinks.mqtt]\nenabled = false'))
    shown = {key: value for key, value, _ in loaded.rows()}

    assert (shown["model"], shown["min_score"], shown["sinks.mqtt.enabled"]) == ("unset", "0.3", "false")
    for key in ("device", "labels", "sinks.mqtt.enabled", "sinks.mqtt.url", "max_threads"):
        (value,) = tomllib.loads(f"it = {shown[key]}").values()
        found = loaded.settings.model_dump(mode="json")
        for part in key.split("."):
            found = found[part]
        assert value == found


def test_every_setting_has_a_description():
    assert set(Settings.model_fields) <= set(descriptions(Settings))


@pytest.mark.parametrize("text", ['["person", "dog"]', "person,dog", " person , dog "])
def test_labels_of_the_environment_are_json_or_words_with_commas_as_on_the_command_line(monkeypatch, text):
    monkeypatch.setenv("EDGEANNOT_LABELS", text)

    assert load().settings.labels == ("person", "dog")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("EDGEANNOT_SOURCES", "porch", r"^sources: wanted JSON, .*, found 'porch' \(environment variable EDGEANNOT_SOURCES\)$"),
        ("EDGEANNOT_SINKS__LABELS__FORMATS", "voc", r"^sinks\.labels\.formats: .*found 'voc' \(environment"),
        ("EDGEANNOT_LABELS", "a,,b", r"^labels: .*found 'a,,b' \(environment"),
        ("EDGEANNOT_LABELS", "", r"^labels: .*found '' \(environment"),
        ("EDGEANNOT_DATA_DIR", "", r"^data_dir: wanted a folder, found nothing \(environment\)$"),
        ("EDGEANNOT_OUT_DIR", "", r"^out_dir: wanted a folder, found nothing \(environment\)$"),
        ("EDGEANNOT_", "x", r"unknown setting \(environment variable EDGEANNOT_\)$"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(monkeypatch, name, text, said):
    monkeypatch.setenv(name, text)

    with pytest.raises(ConfigError, match=said):
        load()


def test_an_empty_path_of_a_source_is_not_the_current_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"^sources\.porch\.path: wanted a folder, found nothing"):
        load(file=toml(tmp_path, '[sources.porch]\nkind = "directory"\npath = ""'))


def test_a_source_of_another_kind_replaces_the_one_of_its_name_whole(tmp_path):
    file = toml(tmp_path, '[sources.inbox]\nkind = "camera"\nurl = "rtsp://cam"\nopen_timeout_s = 3')
    loaded = load({"sources": {"inbox": {"kind": "directory", "path": "/pics"}}}, file)

    assert loaded.settings.sources["inbox"].path == Path("/pics")
    assert not [key for key in loaded.origins if "url" in key or "timeout" in key]


def test_a_source_of_the_same_kind_keeps_what_the_upper_layer_does_not_say(tmp_path):
    file = toml(tmp_path, '[sources.inbox]\nkind = "directory"\npath = "/old"\nrecursive = false')
    loaded = load({"sources": {"inbox": {"kind": "directory", "path": "/new"}}}, file)

    assert (loaded.settings.sources["inbox"].path, loaded.settings.sources["inbox"].recursive) == (Path("/new"), False)


def test_without_a_home_the_state_folder_has_to_be_named(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)

    assert default_config_file() is None or default_config_file().parent == Path("/etc/edgeannot")
    with pytest.raises(ConfigError, match="no home folder; set --data-dir"):
        load()
    assert load({"data_dir": "/data"}).settings.data_dir == Path("/data")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[sources.a]\nkind = "directory"', r"^sources\.a\.path: wanted a value, found none \(.*edgeannot\.toml, line 1\)$"),
        ('[sources.a]\nkind = "directory"\npath = "a\\u0000b"', r"^sources\.a\.path: wanted a folder, found a name with a NUL in it"),
        ('[sources.a]\nkind = "camera"\nurl = "rtsp://[x"', r"^sources\.a\.url: wanted an address such as rtsp://"),
        ('[sources.a]\nkind = "camera"\nurl = "0"\nfps = "x"', r"^sources\.a\.fps: wanted a number, found 'x' \(.*, line 4\)$"),
        ("x = " + "[" * 5000, "is not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_as_it_stands_there(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        load(file=toml(tmp_path, text))


@pytest.mark.parametrize("key", ["max_ms", "min_fps"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_budget_is_a_finite_number_above_zero(key, value):
    with pytest.raises(ConfigError, match=key):
        load_settings({key: value}, grade=lambda: ("mid", "as the test says"))


def test_every_command_finds_the_state_where_run_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path / "etc"))
    assert find_data_dir(None) == tmp_path / "state" / "edgeannot"

    monkeypatch.setenv("EDGEANNOT_DATA_DIR", str(tmp_path / "elsewhere"))
    assert find_data_dir(None) == tmp_path / "elsewhere"
    assert find_data_dir(tmp_path / "given") == tmp_path / "given"


def test_the_folder_of_test_data_configures_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("EDGEANNOT_TEST_DATA", str(tmp_path))
    assert nothing_is_configured()

    monkeypatch.setenv("EDGEANNOT_PROFILE", "low")
    assert not nothing_is_configured()


@pytest.mark.usefixtures("bound_by_permissions")
@pytest.mark.parametrize(("service", "whose"), [(False, "this user"), (True, "the user of the service")])
def test_a_configuration_file_that_may_not_be_read_says_for_whom_it_is_to_be_readable(tmp_path, monkeypatch, service, whose):
    """Who puts a secret beside it makes it root's, too: a service has a user of its own."""
    path = tmp_path / "edgeannot.toml"
    path.write_text('profile = "low"')
    path.chmod(0)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    if service:
        monkeypatch.setenv("INVOCATION_ID", "0" * 32)

    with pytest.raises(ConfigError, match=rf"cannot be read \(Permission denied\); let {whose} read it"):
        load_settings({}, path, grade=lambda: ("low", "as the test says"))
