"""What Home Assistant is told: valid by the published format, and its templates read our own messages."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgeannot.daemon.governor import SensorReadings
from edgeannot.daemon.governor_loop import GovernorLoop
from edgeannot.daemon.monitoring.telemetry import Telemetry
from edgeannot.daemon.writer import Writer
from edgeannot.mqtt.options import Topics
from edgeannot.payload import (
    Origin,
    count_payload,
    detections_payload,
    encode,
    info_payload,
    state_payload,
    status_payload,
    telemetry_payload,
)
from edgeannot.remote.commands import Limits as CommandLimits
from edgeannot.remote.commands import Request, Set, read_command, reply_to
from edgeannot.remote.discovery import About, components, counted_pairs, device_id, discovery_payload, live_components
from edgeannot.remote.homeassistant import HomeAssistant
from edgeannot.settings import Settings
from edgeannot.sinks.base import FolderState
from edgeannot.sinks.mqtt import HomeAssistantOptions
from edgeannot.storage.store import Store
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from tests.docs_pages import DOCS

ORIGIN, TOPICS = Origin("pi", "boot-1"), Topics("pi")
ALL = About("1.0", ("porch",), images=True, commands=True, temperature=True)
MODEL = ModelFacts("yolov3-tiny@320", "ab" * 32, "yolo", "low")
SCHEMA = jsonschema.Draft202012Validator(json.loads(resources.files("edgeannot").joinpath("schema/home-assistant-1.json").read_text()))
JINJA = ImmutableSandboxedEnvironment()
"""As Home Assistant's own environment (helpers/template.py) is."""

ODD = ["traffic light", "a\"b'c\\d", "größe", "人", "🙂", "{{ 7 * 7 }}", "%}", "items", "a\nb", "A", "a-b", "a_b"]


def annotation(*labels, source="porch", model=MODEL) -> Annotation:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), source, 0, datetime.now(UTC), "x", name="x.jpg")
    n = len(labels)
    return Annotation(frame, Detections(np.zeros((n, 4), np.float32), np.zeros(n, np.float32), np.zeros(n, np.int64)), labels, model)


def payload(about=ALL, pairs=(), gone=None, origin=ORIGIN, topics=TOPICS):
    made = discovery_payload(origin, topics, about, components(origin.device, topics, about, pairs), gone or {})
    return json.loads(encode(made))


def render(component, message, key="value_template", **values):
    """What Home Assistant makes of a message: its template sees the JSON as value_json."""
    return JINJA.from_string(component[key]).render(value=message.decode(), value_json=json.loads(message), **values)


def test_the_least_there_can_be_is_valid():
    made = payload(About("1.0", (), counts=False))

    SCHEMA.validate(made)
    assert set(made["components"]) == {"fps", "model", "waiting", "dropped", "problem"}


def detected(*labels) -> bytes:
    return encode(detections_payload(annotation(*labels), ORIGIN))


def test_a_picture_with_nothing_in_it_is_no_event():
    assert render(payload()["components"]["seen_porch"], detected()) == ""


def test_where_objects_are_tracked_the_event_comes_of_them_and_not_of_pictures():
    made = payload(replace(ALL, sources=("porch", "inbox"), tracked=("porch",)))
    SCHEMA.validate(made)
    told = {"event": "left", "label": "dog", "track_id": 7, "score": 0.9, "zones": ["drive"], "reason": "gone", "id": "x"}
    porch, inbox = (made["components"][key] for key in ("seen_porch", "seen_inbox"))
    event = json.loads(render(porch, json.dumps(told).encode()))

    assert porch["state_topic"] == "edgeannot/pi/porch/events"
    assert event["event_type"] in porch["event_types"]
    assert (event["label"], event["track_id"], event["zones"], event["reason"], event["line"]) == ("dog", 7, ["drive"], "gone", "")
    assert (inbox["state_topic"], inbox["event_types"]) == ("edgeannot/pi/inbox/detections", ["seen"])


@pytest.mark.parametrize("label", ODD)
def test_each_picture_with_something_in_it_is_an_event_with_its_labels(label):
    event = payload()["components"]["seen_porch"]
    told = json.loads(render(event, detected(label, label, "other")))

    assert told.pop("event_type") in event["event_types"]
    assert told == {
        "labels": sorted({label, "other"}),
        "sub_labels": [],
        "total": 3,
        "path": None,
        "id": json.loads(detected(label, label, "other"))["id"],
    }
    assert event["state_topic"] == "edgeannot/pi/porch/detections"


@pytest.mark.parametrize("label", ODD)
def test_a_label_is_on_with_each_picture_that_shows_it_and_goes_off_by_itself(label):
    made = payload(replace(ALL, off_delay_s=7), [("porch", label)])["components"]
    [sensor] = [c for k, c in made.items() if k.startswith("seen_porch_")]

    assert render(sensor, detected("other", label)) == "ON"
    assert render(sensor, detected("other")) == "", "which Home Assistant passes over"
    assert sensor["off_delay"] == 7
    assert sensor["state_topic"] == "edgeannot/pi/porch/detections"


def test_labels_are_shown_where_counts_are_not_sent_and_are_known_after_a_restart():
    kept = encode(payload(replace(ALL, counts=False), [("porch", "cat")]))

    assert counted_pairs(live_components(kept)) == [("porch", "cat")]


def test_everything_is_valid_and_has_an_id_of_its_own():
    made = payload(replace(ALL, sources=("porch", "front-door", "a_b")), [("porch", label) for label in ODD] + [("front-door", "A")])

    SCHEMA.validate(made)
    ids = [component["unique_id"] for component in made["components"].values()]
    assert len(ids) == len(set(ids)) == 3 * 3 + 2 * (len(ODD) + 1) + 8
    assert made["device"]["sw_version"] == made["origin"]["sw_version"] == "1.0"


def test_the_schema_refuses_what_home_assistant_would():
    for wrong in ({"origin": None}, {"components": {"a b": {"platform": "sensor"}}}, {"components": {"a": {"name": "x"}}}):
        with pytest.raises(jsonschema.ValidationError):
            SCHEMA.validate({**payload(), **wrong})


def test_what_is_switched_off_is_not_shown():
    made = payload(About("1.0", ("porch",), counts=False), [("porch", "cat")])["components"]

    assert not {component["platform"] for component in made.values()} - {"sensor", "binary_sensor", "event"}
    assert not any(key.startswith(("objects", "count", "temperature")) for key in made)


@pytest.mark.parametrize("device", ["pi", "Küche 1", "a/b", "a b", "", "x" * 200, "+", "\ud800"])
def test_the_topic_of_any_device_is_one_that_home_assistant_reads(device):
    assert re.fullmatch("[a-zA-Z0-9_-]+", device_id(device))
    SCHEMA.validate(payload(origin=Origin(device, "b"), topics=Topics(device))) if device else None


def test_two_devices_never_share_an_id():
    names = ["a b", "a/b", "a-b", "ä b", "", " "]

    assert len({device_id(name) for name in names}) == len(names)


# The templates


@pytest.mark.parametrize("label", ODD)
def test_a_label_sensor_reads_its_count_whatever_the_label(label):
    counted = encode(count_payload(annotation(label, label, "other"), ORIGIN))
    [sensor] = [c for k, c in payload(pairs=[("porch", label)])["components"].items() if k.startswith("count_")]

    assert render(sensor, counted) == "2"
    assert render(sensor, encode(count_payload(annotation(), ORIGIN))) == "0"
    assert sensor["state_topic"] == "edgeannot/pi/porch/count"


@given(st.text(min_size=1, max_size=20))
@example("}}")
@example("\\")
def test_no_label_breaks_out_of_its_template(label):
    counted = encode(count_payload(annotation(label), ORIGIN))
    [sensor] = [c for k, c in payload(pairs=[("porch", label)])["components"].items() if k.startswith("count_")]

    assert render(sensor, counted) == "1"


def figures(tmp_path, **changes):
    """Telemetry as the daemon makes it, of a board at rest."""
    with Store.open(tmp_path / "state.sqlite") as store:
        sinks = [SimpleNamespace(folders=lambda: [FolderState(tmp_path, 0, "")])]
        writer = SimpleNamespace(store=store, sinks=sinks, _queues=dict)
        of_pool = {**Telemetry().snapshot(), "queues": {}, "skipped": 0, **Writer.figures(writer)}
    governor = SimpleNamespace(bounds=SimpleNamespace(budget_ms=None), position=SimpleNamespace(rate=0, model=0, bare=0), exhausted=False)
    governor_loop = SimpleNamespace(
        _governor=governor, _readings=SensorReadings(), _telemetry=Telemetry(), _in_force="m",
        _since_s=0.0, _since=datetime.now(UTC), _reason="",
        _pace=SimpleNamespace(rate=1.0), _active_model=SimpleNamespace(card=SimpleNamespace(name="m", sha256="0"), threads=1),
    )  # fmt: skip
    return {**of_pool, **GovernorLoop.figures(governor_loop), **changes}


def test_the_sensors_of_the_device_read_telemetry_and_info(tmp_path):
    told = figures(tmp_path, fps=1.5, cpu_temperature_c=48.2, outbox={"rows": 7, "bytes": 1, "dropped": 2, "refused": 1})
    message = encode(telemetry_payload(ORIGIN, told))
    cold = encode(telemetry_payload(ORIGIN, {**told, "cpu_temperature_c": None}))
    made = payload()["components"]

    assert [render(made[key], message) for key in ("fps", "temperature", "waiting", "dropped")] == ["1.5", "48.2", "7", "3"]
    assert render(made["temperature"], cold) == "None", "which a sensor takes for not known"
    assert render(made["model"], encode(info_payload(ORIGIN, "1.0", MODEL, (), {"porch": "camera"}))) == "yolov3-tiny@320"
    assert render(made["objects_porch"], encode(count_payload(annotation("cat", "dog"), ORIGIN))) == "2"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "OFF"),
        ({"throttled": False}, "OFF"),
        ({"throttled": True}, "ON"),
        ({"supply": ["the supply is weak"]}, "ON"),
        ({"governor": {"exhausted": True}}, "ON"),
        ({"damaged": ["state.sqlite.damaged"]}, "ON"),
        ({"folders": [{"path": "/a", "unwritten": 3, "trouble": ""}, {"path": "/b", "unwritten": 1, "trouble": "the disk is full"}]}, "ON"),
    ],
)
def test_the_problem_sensor_is_on_while_something_is_wrong(tmp_path, changes, state):
    message = encode(telemetry_payload(ORIGIN, figures(tmp_path, **changes)))

    assert render(payload()["components"]["problem"], message) == state


@pytest.mark.parametrize(("state", "seen"), [("online", "online"), ("stopping", "offline"), ("offline", "offline")])
def test_the_device_is_available_while_it_is_online(state, seen):
    [availability] = payload()["availability"]

    assert availability["topic"] == "edgeannot/pi/status"
    assert render(availability, encode(status_payload(ORIGIN, state))) == seen


def test_the_controls_read_the_state_and_give_valid_commands():
    made = payload()["components"]
    state = encode(state_payload(ORIGIN, {"paused": True, "min_score": 0.35, "classes": [], "interval": None, "model": "m"}))
    number, switch = made["min_score"], made["pause"]

    assert render(number, state) == "0.35"
    assert render(switch, state) == switch["state_on"]
    for component, command, changes in (
        (number, JINJA.from_string(number["command_template"]).render(value=0.5), {"min_score": 0.5}),
        (switch, switch["payload_on"], {"paused": True}),
        (switch, switch["payload_off"], {"paused": False}),
    ):
        topic = component["command_topic"]
        to = reply_to(topic, None, None, TOPICS, CommandLimits())
        request = read_command(topic, command.encode(), retained=False, to=to, limits=CommandLimits())
        assert isinstance(request, Request)
        assert isinstance(request.body, Set)
        assert request.body.changes() == changes


# What an earlier run told


@given(st.lists(st.tuples(st.text(min_size=1, max_size=10), st.text(min_size=1, max_size=10)), max_size=5, unique=True))
def test_the_labels_can_be_read_back_from_the_message(pairs):
    kept = live_components(encode(discovery_payload(ORIGIN, TOPICS, ALL, components("pi", TOPICS, ALL, pairs), {})))

    assert counted_pairs(kept) == pairs


@given(st.binary(max_size=100) | st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x)).map(
    lambda v: json.dumps({"components": v, "count_a_b": v}).encode()))  # fmt: skip
@example(b"[" * 100_000)
@example(
    b'{"components": {"../x": {"platform": "sensor", "a": 1}, "x": {"platform": "shell", "a": 1}, "y": {"platform": ["sensor"], "a": 1}}}'
)
def test_a_kept_message_of_somebody_else_says_nothing(kept):
    assert live_components(kept) == {}


class Told:
    """A Home Assistant of ours whose messages go into a list."""

    def __init__(self, about=ALL, labels=(), known=("cat", "dog", "traffic light"), **options) -> None:
        self.told = []
        self.labels = labels
        self.known = known
        self.ha = HomeAssistant(
            HomeAssistantOptions(enabled=True, **options), about, ORIGIN, TOPICS, self.told.append,
            labels=lambda: self.labels, known=lambda: self.known,
        )  # fmt: skip
        self.ha.announce()

    def last(self):
        made = json.loads(self.told[-1].payload)
        SCHEMA.validate(made)
        assert self.told[-1].retain
        assert self.told[-1].topic == "homeassistant/device/pi/config"
        return made["components"]

    def counted(self):
        return [key for key, component in self.last().items() if key.startswith("count_") and len(component) > 1]

    def removed(self):
        return {key: component for key, component in self.last().items() if len(component) == 1}

    def keep(self, payload: bytes, retain=True) -> None:
        self.ha.take_kept(SimpleNamespace(payload=payload, retain=retain))


def test_without_a_picture_there_is_no_label_and_nothing_is_told_twice():
    told = Told()
    told.ha.write(annotation())
    count = len(told.told)
    told.ha.write(annotation())

    assert told.counted() == []
    assert len(told.told) == count


def test_a_label_gets_a_sensor_when_it_is_first_seen_up_to_the_bound():
    told = Told(max_labels=2)
    told.ha.write(annotation("cat", "cat"))
    assert told.counted() == ["count_porch_cat"]
    told.ha.write(annotation("dog", "cat"))
    count = len(told.told)
    told.ha.write(annotation("traffic light"))

    assert told.counted() == ["count_porch_cat", "count_porch_dog"]
    assert len(told.told) == count


def test_labels_of_the_settings_are_shown_at_once_and_no_others():
    told = Told(labels=("cat", "dog"), max_labels=0)

    assert told.counted() == ["count_porch_cat", "count_porch_dog"]


def test_sensors_of_labels_that_are_not_looked_for_any_more_are_removed_and_come_back():
    told = Told(labels=("cat", "dog"))
    told.labels = ("dog",)
    told.ha.refresh()
    assert told.removed() == {"count_porch_cat": {"platform": "sensor"}, "seen_porch_cat": {"platform": "binary_sensor"}}
    told.labels = ("cat", "dog")
    told.ha.write(annotation())

    assert told.removed() == {}
    assert told.counted() == ["count_porch_cat", "count_porch_dog"]


def test_a_refresh_without_news_tells_nothing():
    told = Told()
    told.ha.refresh()

    assert len(told.told) == 1


def test_another_model_takes_the_labels_it_does_not_know_with_it():
    told = Told()
    told.ha.write(annotation("cat", "dog"))
    told.known = ("cat",)
    told.ha.write(annotation(model=replace(MODEL, sha256="cd" * 32)))

    assert told.removed() == {"count_porch_dog": {"platform": "sensor"}, "seen_porch_dog": {"platform": "binary_sensor"}}


def test_after_a_restart_the_labels_seen_before_are_shown_again():
    before = Told()
    before.ha.write(annotation("traffic light"))
    after = Told()
    after.keep(before.told[-1].payload)

    assert after.counted() == ["count_porch_traffic-20light"]
    assert after.removed() == {}


def test_after_a_restart_what_is_no_more_is_removed():
    before = Told(about=replace(ALL, sources=("porch", "yard")), known=("cat", "bird"))
    before.ha.write(annotation("cat", "bird", source="yard"))
    after = Told(about=About("1.0", ("porch",)), known=("cat",))
    after.keep(before.told[-1].payload)
    removed = after.removed()

    assert {key: value["platform"] for key, value in removed.items()} == {
        "objects_yard": "sensor", "image_porch": "image", "image_yard": "image", "pause": "switch", "min_score": "number",
        "temperature": "sensor", "count_yard_cat": "sensor", "count_yard_bird": "sensor",
        "seen_yard": "event", "seen_yard_cat": "binary_sensor", "seen_yard_bird": "binary_sensor",
    }  # fmt: skip
    again = Told(about=About("1.0", ("porch",)), known=("cat",))
    again.keep(after.told[-1].payload)
    assert again.removed() == {}, "said once is enough"


def test_our_own_message_coming_back_changes_nothing():
    told = Told()
    for retain in (True, False):
        told.keep(told.told[-1].payload, retain=retain)

    assert len(told.told) == 1


def test_home_assistant_is_told_again_when_it_starts_but_not_at_anybodys_pace():
    told = Told()
    told.ha.take_birth(SimpleNamespace(payload=b"offline", retain=False))
    assert len(told.told) == 1
    for _ in range(100):
        told.ha.take_birth(SimpleNamespace(payload=b"online", retain=False))

    assert len(told.told) == 2


# The page


PAGE = (DOCS / "home-assistant.md").read_text(encoding="utf-8")


def test_the_settings_on_the_page_are_valid_and_switch_everything_on():
    [text] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    mqtt = Settings(**tomllib.loads(text)).sinks.mqtt

    assert mqtt.home_assistant.enabled
    assert mqtt.commands.enabled
    assert mqtt.images


def test_every_entity_is_on_the_page():
    rows = " ".join(re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)).replace("<source>", "porch").replace("<label>", "cat")

    for component in payload(pairs=[("porch", "cat")])["components"].values():
        assert component["name"] in rows


def test_an_event_has_what_the_second_stage_says():
    message = json.loads(detected("dog", "dog", "cat"))
    message["detections"][0] |= {"sub_label": "poodle", "sub_score": 0.8}
    event = payload()["components"]["seen_porch"]

    assert json.loads(render(event, encode(message)))["sub_labels"] == ["poodle"]


def test_the_state_of_a_region_is_a_sensor():
    made = payload(replace(ALL, states=(("porch", "gate"), ("gone", "gate"))))
    SCHEMA.validate(made)
    sensor = made["components"]["state_porch_gate"]

    assert sensor["state_topic"].endswith("/porch/state/gate")
    assert render(sensor, encode({"state": "open"})) == "open"
    assert "state_gone_gate" not in made["components"]
