"""The JSON Schema of the configuration file accepts and refuses what the program does."""

import datetime
import json
import tomllib

import jsonschema
import pytest

from edgeannot.base.errors import ConfigError
from edgeannot.settings import find_problems
from edgeannot.settings.described import sections, settings_schema
from edgeannot.settings.template import commented_settings
from tests.settings.test_problems import CASES, placed

SCHEMA = settings_schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one_and_describes_each_setting():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    parts = [SCHEMA, *(part for name, part in SCHEMA["$defs"].items() if name != "SinkSections")]
    assert [name for part in parts for name, each in part["properties"].items() if "description" not in each and "$ref" not in each] == []
    assert "null" not in json.dumps(SCHEMA)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value) if isinstance(value, datetime.date) else json.dumps(value)


def verdicts(file, values):
    """Whether the program and whether the schema accepts the file."""
    path = file("\n".join(f"{key} = {toml(value)}" for key, value in values.items()))
    try:
        program = not find_problems({}, path)
    except ConfigError:
        program = False
    # JSON has no dates: what a reader of TOML makes of one is no text, number, list or table.
    return program, CHECK.is_valid(tomllib.loads(path.read_text()))


VALUES = [
    "x",
    "yes",
    "2",
    0,
    1,
    2,
    -1,
    10**6,
    0.5,
    1.5,
    2.0,
    True,
    False,
    [],
    ["x"],
    [1],
    {},
    {"x": 1},
    {"x": "y"},
    datetime.date(1979, 5, 27),
]

ONLY_THE_PROGRAM = {
    # An address, a topic, and settings that an address excludes: the schema has no reader of them.
    ("sources.NAME", "credentials_file"), ("sources.NAME", "ca_file"), ("sources.NAME", "http"), ("sources.NAME", "every_n"),
    ("sources.NAME", "loop"), ("sources.NAME", "realtime"), ("sources.NAME", "topic"), ("sources.NAME", "url"),
    ("sources.NAME", "device_level"),
    ("sinks.mqtt", "url"), ("sinks.mqtt", "password_file"), ("sinks.mqtt", "ca_file"), ("sinks.mqtt", "prefix"),
    ("sinks.mqtt.home_assistant", "prefix"), ("sinks.mqtt.commands", "root"), ("sinks.mqtt.commands", "teach_root"),
    ("sinks.webhook", "enabled"), ("sinks.webhook", "url"), ("sinks.webhook", "headers"), ("sinks.webhook", "header_files"),
    ("sinks.webhook", "ca_file"), ("sinks.webhook", "cert_file"), ("sinks.webhook", "key_file"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "model", "name"), CASES, ids=lambda part: part if isinstance(part, str) else getattr(part, "__name__", "")
)
def test_a_setting_is_accepted_by_both_or_by_none(file, table, model, name):
    found = [(value, *verdicts(file, placed(table, model, name, value))) for value in VALUES]

    differ = [(value, program) for value, program, editor in found if program != editor]
    if (table, name) in ONLY_THE_PROGRAM:
        assert [value for value, program in differ if program] == []
    else:
        assert differ == []


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("", True),
        ('log_level = "WARNING"', True),
        ('log_level = "loud"', False),
        ("min_scor = 0.5", False),
        ('[sources.a]\nkind = "directory"\npath = "/p"', True),
        ('[sources.a]\npath = "/p"', False),
        ('[sources.a]\nkind = "directory"', False),
        ('[sources.a]\nkind = "camera"\ndevice = "/dev/video0"', False),
        ('[sources.a]\nkind = "telescope"', False),
        ('[sources."a b"]\nkind = "directory"\npath = "/p"', False),
        ('[sources.reply]\nkind = "directory"\npath = "/p"', False),
        ('[sources.a]\nkind = "directory"\npath = "/p"\nafter = "move"', False),
        ('[sources.a]\nkind = "directory"\npath = "/p"\nafter = "move"\nafter_folder = "/q"', True),
        ('[sources.a]\nkind = "directory"\npath = "/p"\nafter_folder = "/q"', False),
        ('[sources.a]\nkind = "mqtt"\n[sources.a.broker]\nurl = "mqtts://h"\ncert_file = "c"', False),
        ('[sinks.mqtt]\nurl = "mqtts://h"\ncert_file = "c"\nkey_file = "k"', True),
        ("[sinks.image]\nenabled = true", False),
        ("[sinks.mqtt.commands]\nenable = true", False),
        ("[sinks.mqtt]\nprotocol = 5", False),
        ('labels = "cat"', False),
        ('[sources]\ndoor = "/p"', False),
    ],
)
def test_a_file_is_accepted_by_both_or_by_none(file, text, good):
    path = file(text)

    assert (find_problems({}, path) == []) is good
    assert CHECK.is_valid(tomllib.loads(text)) is good


def test_the_commented_file_sets_nothing_and_means_what_it_says(file):
    text = commented_settings()
    assert tomllib.loads(text) == {}
    assert find_problems({}, file(text)) == []


def test_each_default_of_the_commented_file_can_be_set(file):
    """Without its # a default is what holds anyway. The camera of the example is a device, so what is for others stays a comment."""
    others = ("# ", "##", "#http = ", "#transport = ", "#every_n = ", "#loop = ", "#realtime = ")
    lines = commented_settings().splitlines()
    set_lines = [line[1:] for line in lines if line.startswith("#") and not line.startswith(others) and not line.endswith("# unset")]

    assert len(set_lines) > 100
    assert said_of(file("\n".join(set_lines))) == []


def said_of(path):
    return [str(problem) for problem in find_problems({}, path)]


def test_every_setting_is_in_the_commented_file():
    text = commented_settings()
    for _, _, model in sections():
        for name, field in model.model_fields.items():
            if not any(str(field.annotation).count(word) for word in ("Options", "SinkSections", "Source")):
                assert f"#{name} = " in text, name
