"""What a message asks for: every command, every refusal, and nothing that a hostile message could make of it."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import get_args

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeannot.mqtt.options import Topics
from edgeannot.payload import Origin, encode
from edgeannot.remote.commands import (
    _BODIES,
    Code,
    CommandError,
    DetectFile,
    Limits,
    Model,
    Pause,
    Ping,
    Request,
    Set,
    Snapshot,
    error_payload,
    read_command,
    reply_payload,
    reply_to,
)
from edgeannot.settings import Settings
from tests.docs_pages import DOCS

TOPICS = Topics("pi")
ORIGIN = Origin("pi", "boot-1")
LIMITS = Limits(json_bytes=4096, picture_bytes=10_000, other_trees=("homeassistant",))
JPEG = b"\xff\xd8\xff\xe0 not all of it"


def schema(name: str) -> dict:
    return json.loads(resources.files("edgeannot").joinpath(f"schema/{name}-1.json").read_text())


REPLY = jsonschema.Draft202012Validator(schema("reply"))
COMMANDS = {name: jsonschema.Draft202012Validator({**schema("command"), "$ref": f"#/$defs/{name}"}) for name in _BODIES}


def read(command, payload=b"", *, retained=False, response=None, correlation=None, base="edgeannot/pi"):
    topic = f"{base}/command/{command}"
    to = reply_to(topic, response, correlation, TOPICS, LIMITS)
    return read_command(topic, payload, retained=retained, to=to, limits=LIMITS)


def code(*args, **kwargs):
    refusal = read(*args, **kwargs)
    assert isinstance(refusal, CommandError), refusal
    REPLY.validate(error_payload(refusal, ORIGIN))
    return refusal.code


@pytest.mark.parametrize("command", ["ping", "pause", "resume", "snapshot"])
def test_nothing_at_all_is_an_empty_object(command):
    assert read(command).body == read(command, b"{}").body


@pytest.mark.parametrize(
    ("command", "payload", "body"),
    [
        ("ping", b"", Ping()),
        ("pause", b"{}", Pause()),
        ("set", b'{"min_score": 0.5, "labels": ["cat"]}', Set(min_score=0.5, labels=("cat",))),
        ("model", b'{"name": "yolov3-tiny@320"}', Model(name="yolov3-tiny@320")),
        ("detect", b'{"path": "a/b.jpg"}', DetectFile(path="a/b.jpg")),
        ("detect", JPEG, JPEG),
        ("snapshot", b'{"format": "json"}', Snapshot(format="json")),
    ],
)
def test_a_command_is_what_it_says(command, payload, body):
    made = read(command, payload)

    assert isinstance(made, Request)
    assert made.body == body
    assert made.to.topic == f"edgeannot/pi/reply/{command}"


def test_only_what_was_given_is_changed_and_null_takes_it_back():
    assert read("set", b'{"min_score": null, "interval_s": 2, "id": 7}').body.changes() == {"min_score": None, "interval_s": 2.0}


def test_the_old_names_of_what_can_be_set_still_work_but_not_beside_the_new_ones():
    body = read("set", b'{"classes": ["cat"], "interval": 2}').body

    assert body.changes() == {"labels": ("cat",), "interval_s": 2.0}
    assert body.old_names == ["classes", "interval"]
    assert "classes is the old name of labels" in read("set", b'{"classes": ["cat"], "labels": ["dog"]}').message


@pytest.mark.parametrize(
    ("command", "payload", "why"),
    [
        ("format", b"", "unknown-command"),
        ("", b"", "unknown-command"),
        ("pause", b"x" * 5000, "too-large"),
        ("detect", JPEG + b"x" * 10_000, "too-large"),
        ("detect", b'{"path": "' + b"a" * 5000 + b'"}', "too-large"),
        ("pause", b"ON", "invalid"),
        ("pause", b"[]", "invalid"),
        ("pause", b'{"now": true}', "invalid"),
        ("pause", JPEG, "invalid"),
        ("set", b"", "invalid"),
        ("set", b'{"id": "x"}', "invalid"),
        ("set", b'{"min_score": 1.5}', "invalid"),
        ("set", b'{"min_score": "0.5"}', "invalid"),
        ("set", b'{"min_score": NaN}', "invalid"),
        ("set", b'{"interval_s": Infinity}', "invalid"),
        ("set", b'{"interval_s": -1}', "invalid"),
        ("set", b'{"min_score": true}', "invalid"),
        ("set", b'{"labels": [""]}', "invalid"),
        ("set", b'{"labels": "cat"}', "invalid"),
        ("set", b'{"labels": [1]}', "invalid"),
        ("set", b'{"paused": 1}', "invalid"),
        ("set", b'{"paused": null}', "invalid"),
        ("model", b"{}", "invalid"),
        ("model", b'{"name": "../yolov3-tiny"}', "invalid"),
        ("model", b'{"name": "/etc/card.toml"}', "invalid"),
        ("model", b'{"name": "card.toml"}', "invalid"),
        ("model", b'{"name": "a\\u0000"}', "invalid"),
        ("model", b'{"name": "a\\n"}', "invalid"),
        ("detect", b"", "invalid"),
        ("detect", b"%PDF-1.7", "invalid"),
        ("detect", b'{"path": ""}', "invalid"),
        ("detect", b'{"path": "\\ud800"}', "invalid"),
        ("snapshot", b'{"format": "exe"}', "invalid"),
        ("ping", b"[" * 4000, "invalid"),
    ],
)
def test_each_refusal_has_its_code(command, payload, why):
    assert code(command, payload) == why


def test_a_retained_command_is_refused_whatever_it_is():
    assert code("pause", retained=True) == "retained"
    assert code("detect", JPEG, retained=True) == "retained"


def test_an_invalid_command_says_which_key_and_what_was_wanted_and_repeats_no_value():
    refusal = read("set", b'{"min_score": "secret", "id": "a1"}')

    assert "min_score" in refusal.message
    assert "secret" not in refusal.message
    assert refusal.to.id == "a1"
    assert "min_score, labels, interval_s" in read("set", b'{"score": 1}').message


@pytest.mark.parametrize("given_id", ["a1", 7, "ä\u2028"])
def test_the_id_comes_back_also_from_a_command_that_is_wrong_in_everything_else(given_id):
    payload = json.dumps({"id": given_id, "colour": "red"}).encode()

    assert error_payload(read("pause", payload), ORIGIN)["id"] == given_id


@pytest.mark.parametrize("bad", ["x" * 129, 2**60, 1.5, ["a"], True])
def test_an_id_that_cannot_be_one_is_refused_and_does_not_come_back(bad):
    refusal = read("ping", json.dumps({"id": bad}).encode())

    assert refusal.code == "invalid"
    assert "id" not in error_payload(refusal, ORIGIN)


@pytest.mark.parametrize("topic", ["panel/answers", "edgeannot/pi/reply/mine", "edgeannotx", "answers/ä"])
def test_a_response_topic_is_used_with_its_correlation_data(topic):
    made = read("ping", response=topic, correlation=b"\0\xff")

    assert (made.to.topic, made.to.correlation) == (topic, b"\0\xff")


@pytest.mark.parametrize(
    "topic",
    ["", "a/+/b", "a/#", "a\0b", "$SYS/x", "x" * 2000, "edgeannot", "edgeannot/pi/status", "edgeannot/pi/state", "edgeannot/pi/porch/count",
     "edgeannot/pi/command/pause", "edgeannot/other/command/pause", "edgeannot/pi/reply", "homeassistant/status",
     "homeassistant/device/pi/config"],
)  # fmt: skip
def test_a_response_topic_that_others_act_on_is_refused_on_the_plain_one(topic):
    refusal = read("ping", response=topic, correlation=b"c")

    assert refusal.code == "response-topic"
    assert (refusal.to.topic, refusal.to.correlation) == ("edgeannot/pi/reply/ping", b"c")


def test_every_code_is_in_the_schema():
    assert set(schema("reply")["properties"]["error"]["properties"]["code"]["enum"]) == set(get_args(Code))


def test_a_reply_without_a_result_is_none():
    to = read("ping").to
    state = {"paused": False, "min_score": 0.3, "classes": [], "interval": None, "model": "m"}

    REPLY.validate(reply_payload(to, ORIGIN, state))
    with pytest.raises(jsonschema.ValidationError):
        REPLY.validate(reply_payload(to, ORIGIN, {}))


@pytest.mark.parametrize("name", ["command", "reply"])
def test_no_source_takes_the_topics_of_commands(name):
    """Its counts would be read as commands."""
    with pytest.raises(ValidationError, match="topics of commands"):
        Settings(sources={name: {"kind": "directory", "path": "/srv"}})


@pytest.mark.parametrize("name", list(_BODIES))
def test_the_schema_file_describes_every_field(name):
    described = COMMANDS[name].schema["$defs"][name]
    described = schema("command")["$defs"]["ping"] if "$ref" in described else described

    assert set(described["properties"]) == set(_BODIES[name].model_fields)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10)
    | st.sampled_from(["yolov3-tiny@320", "x.toml", "jpeg", "json", 0.5, "a/b", "x" * 129, "x" * 1025]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
KEYS = st.sampled_from(["id", "paused", "min_score", "labels", "interval_s", "classes", "interval", "name", "path", "format", "other"])


@given(st.sampled_from(list(_BODIES)), st.dictionaries(KEYS, VALUES, max_size=3))
@example("set", {"labels": []})
@example("model", {"name": "a.toml"})
def test_the_schema_file_and_the_program_agree_on_every_payload(name, payload):
    """Where they differ, a program that follows the schema would be refused."""
    body = json.dumps(payload).encode()
    try:
        _BODIES[name].model_validate_json(body)
        accepted = True
    except ValidationError:
        accepted = False
    if any(isinstance(value, float) and value.is_integer() for value in payload.values()):
        return  # 1.0 is an integer to JSON Schema, and none to the program
    assert COMMANDS[name].is_valid(json.loads(body)) == accepted


@given(
    st.sampled_from([*_BODIES, "other"]) | st.text(max_size=20).map(lambda text: text.replace("/", "_")),
    st.binary(max_size=200) | st.dictionaries(KEYS, VALUES, max_size=3).map(lambda each: json.dumps(each).encode()),
    st.booleans(),
    st.none() | st.text(max_size=40),
    st.none() | st.binary(max_size=40),
)
@example("\ud800", b"{}", False, "\ud800", b"")
@example("ping", b'{"id": "\\ud800"}', False, None, None)
def test_whatever_comes_is_a_command_or_one_valid_reply(command, payload, retained, response, correlation):
    made = read(command, payload, retained=retained, response=response, correlation=correlation)

    if isinstance(made, CommandError):
        REPLY.validate(json.loads(encode(error_payload(made, ORIGIN))))
    else:
        assert not retained
        assert made.to.correlation == correlation
    assert made.to.topic.startswith("edgeannot/pi/reply/") or made.to.topic == response


# The page


MESSAGES = (DOCS / "messages.md").read_text(encoding="utf-8").partition("\n## Commands\n")[2].partition("\n## ")[0]


def test_every_command_and_every_code_is_on_the_page():
    rows = re.findall(r"^\| `([a-z-]+)` \|", MESSAGES, re.MULTILINE)

    assert set(rows) == {*_BODIES, *get_args(Code)}


def test_the_payloads_on_the_page_are_commands():
    rows = dict(re.findall(r"^\| `([a-z]+)` \| [^|{]*`(\{.*?\})`", MESSAGES, re.MULTILINE))

    assert set(rows) == {"set", "model", "detect", "teach", "snapshot"}
    for command, payload in rows.items():
        assert isinstance(read(command, payload.encode()), Request)


def test_the_replies_on_the_page_are_replies():
    replies = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", MESSAGES, re.DOTALL)]

    assert [reply["ok"] for reply in replies] == [True, False]
    for reply in replies:
        REPLY.validate(reply)
    assert replies[1]["error"]["message"] == read("set", b'{"min_score": 2}').message
