"""Home Assistant discovery of this device: one retained message with all its sensors and controls. No I/O.

The format is that of its device based discovery, https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, as
its `mqtt` component reads it (`schemas.py`: DEVICE_DISCOVERY_SCHEMA; `discovery.py`: a component with nothing but a platform is
removed; a topic level of the device is letters, digits, - and _ only). `schema/home-assistant-1.json` holds the parts used here.

Keys of components are made of words of the user and can be read back (`count_porch_traffic-20light`): so the message that the
broker kept says which sensors an earlier run made, and no file has to remember it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edgeannot.base.foreign import valid_text
from edgeannot.mqtt.options import Topics
from edgeannot.payload import Origin

__all__ = ["About", "Pair", "components", "counted_pairs", "device_id", "discovery_payload", "live_components"]

Pair = tuple[str, str]
"""A source and a label that was seen there, or is looked for."""

_ONLINE: Final = "{{ 'online' if value_json.state == 'online' else 'offline' }}"
"""`stopping` is the last word of an orderly stop: not there, either."""

_PROBLEM: Final = (
    "{{ 'ON' if value_json.throttled or value_json.supply or value_json.governor.exhausted or value_json.damaged "
    "or value_json.folders | selectattr('trouble') | list else 'OFF' }}"
)
"""The board is slowed down, or the governor can do no more, or results are not stored where they should be."""

_EVENT: Final = (
    "{% if value_json.detections %}{{ {'event_type': 'seen', 'labels': value_json.detections | map(attribute='label') "
    "| unique(case_sensitive=true) | sort(case_sensitive=true), 'sub_labels': value_json.detections | selectattr('sub_label', 'defined') "
    "| map(attribute='sub_label') | unique(case_sensitive=true) | sort(case_sensitive=true), 'total': value_json.detections | count, "
    "'path': value_json.image.path, 'id': value_json.id} | tojson }}{% endif %}"
)
"""Of a picture with something in it; nothing, which is no event, of an empty one."""

_OBJECT_EVENTS: Final = ("appeared", "still", "moved", "crossed", "left")
_OBJECT_EVENT: Final = (
    "{{ {'event_type': value_json.event, 'label': value_json.label, 'track_id': value_json.track_id, 'score': value_json.score, "
    "'sub_label': value_json.sub_label | default(''), 'sub_score': value_json.sub_score | default(none), "
    "'zones': value_json.zones, 'reason': value_json.reason | default(''), 'line': value_json.line | default(''), "
    "'direction': value_json.direction | default(''), 'id': value_json.id} | tojson }}"
)
"""Of one thing that happened to a tracked object."""

_KEY: Final = re.compile("[A-Za-z0-9_-]{1,500}")
_PLATFORMS: Final = frozenset({"sensor", "binary_sensor", "event", "image", "switch", "number"})
_MOST_COMPONENTS: Final = 1000
_MOST_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class About:
    """Features of the device to announce."""

    version: str
    sources: tuple[str, ...]
    counts: bool = True
    images: bool = False
    commands: bool = False
    temperature: bool = False
    """Whether the board tells one."""
    off_delay_s: int = 30
    """How long a label counts as seen after the last picture that shows it."""
    tracked: tuple[str, ...] = ()
    """Sources whose objects are tracked."""
    states: tuple[tuple[str, str], ...] = ()
    """Regions whose states are published: their sources and names."""


def device_id(device: str) -> str:
    """Return the device's name as Home Assistant takes it in a topic and in ids; another name gives another id.

    >>> device_id("porch-pi")
    'porch-pi'
    """
    if re.fullmatch("[A-Za-z0-9_-]{1,64}", device):
        return device
    plain = re.sub("[^A-Za-z0-9]+", "-", device).strip("-")[:40] or "device"
    return f"{plain}-{hashlib.blake2b(device.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"


def discovery_payload(
    origin: Origin, topics: Topics, about: About, found: Mapping[str, Mapping[str, Any]], gone: Mapping[str, str]
) -> dict[str, Any]:
    """Return the message, ready for JSON. found: as `components` gives it. gone: key -> platform of those that are to be removed."""
    return {
        "device": {
            "identifiers": [f"edgeannot:{device_id(origin.device)}"],
            "name": valid_text(origin.device),
            "manufacturer": "edgeannot",
            "model": "picture annotator",
            "sw_version": about.version,
        },
        "origin": {"name": "edgeannot", "sw_version": about.version},
        "availability": [{"topic": topics.of_device("status"), "value_template": _ONLINE}],
        "qos": 1,
        "components": {**found, **{key: {"platform": platform} for key, platform in gone.items() if key not in found}},
    }


def components(device: str, topics: Topics, about: About, pairs: Iterable[Pair]) -> dict[str, dict[str, Any]]:
    """Return the components that Home Assistant shows, by key."""
    made: dict[str, dict[str, Any]] = {}
    for source in about.sources:
        topic = topics.of_source(source, "count")
        # The newest counts say nothing when the next picture shows the same: an event, and a label that is on, come of each picture.
        # Of tracks where there are some, else of pictures: never both, under one key.
        tracked = source in about.tracked
        made[f"seen_{_word(source)}"] = {
            "platform": "event", "name": f"{source} seen", "state_topic": topics.of_source(source, "events" if tracked else "detections"),
            "event_types": list(_OBJECT_EVENTS) if tracked else ["seen"], "value_template": _OBJECT_EVENT if tracked else _EVENT,
        }  # fmt: skip
        if about.counts:
            made[f"objects_{_word(source)}"] = _sensor(f"{source} objects", topic, "{{ value_json.total }}", state_class="measurement")
        if about.images:
            image = topics.of_source(source, "image")
            made[f"image_{_word(source)}"] = {
                "platform": "image", "name": f"{source} picture", "image_topic": image, "content_type": "image/jpeg",
            }  # fmt: skip
    for source, name in about.states:
        if source in about.sources:
            topic = topics.of_source(source, f"state/{name}")
            made[f"state_{_word(source)}_{_word(name)}"] = _sensor(f"{source} {name}", topic, "{{ value_json.state }}")
    for source, label in pairs:
        made |= _of_label(topics, about, source, label)
    made |= _of_device(topics, about) | (_controls(topics) if about.commands else {})
    for key, component in made.items():
        component["unique_id"] = f"edgeannot:{device_id(device)}:{key}"
    return made


def _of_label(topics: Topics, about: About, source: str, label: str) -> dict[str, dict[str, Any]]:
    """Return the sensors of a label: its count in the newest picture, and whether it was seen lately."""
    words, name, literal = f"{_word(source)}_{_word(label)}", valid_text(f"{source} {label}"), _literal(label)
    seen = {
        "platform": "binary_sensor",
        "name": f"{name} seen",
        "device_class": "occupancy",
        "state_topic": topics.of_source(source, "detections"),
        "value_template": f"{{{{ 'ON' if value_json.detections | selectattr('label', 'eq', {literal}) | list else '' }}}}",
        "off_delay": about.off_delay_s,
    }
    if not about.counts:
        return {f"seen_{words}": seen}
    template = f"{{{{ value_json.labels.get({literal}, 0) }}}}"
    return {
        f"count_{words}": _sensor(name, topics.of_source(source, "count"), template, state_class="measurement"),
        f"seen_{words}": seen,
    }


def _of_device(topics: Topics, about: About) -> dict[str, dict[str, Any]]:
    """Return the components for the state of the device."""
    telemetry, number = topics.of_device("telemetry"), {"state_class": "measurement"}
    lost = "{{ value_json.outbox.dropped + value_json.outbox.refused }}"
    heat = {"device_class": "temperature", "unit_of_measurement": "°C"}
    made = {
        "fps": _sensor("pictures a second", telemetry, "{{ value_json.fps }}", **number),
        "model": _sensor("model", topics.of_device("info"), "{{ value_json.model.name }}"),
        "waiting": _sensor("messages waiting", telemetry, "{{ value_json.outbox.rows }}", **number),
        "dropped": _sensor("messages dropped", telemetry, lost, state_class="total_increasing"),
        "problem": _sensor("problem", telemetry, _PROBLEM, device_class="problem") | {"platform": "binary_sensor"},
    }
    if about.temperature:
        made["temperature"] = _sensor("temperature", telemetry, "{{ value_json.cpu_temperature_c }}", **heat, **number)
    return {key: {**component, "entity_category": "diagnostic"} for key, component in made.items()}


def _controls(topics: Topics) -> dict[str, dict[str, Any]]:
    """Return the controls; each sends the command `set` and shows the value in the topic `state`."""
    command, state = topics.of_device("command/set"), topics.of_device("state")
    return {
        "pause": {
            "platform": "switch",
            "name": "pause",
            "command_topic": command,
            "payload_on": '{"paused": true}',
            "payload_off": '{"paused": false}',
            "state_topic": state,
            "value_template": "{{ 'on' if value_json.paused else 'off' }}",
            "state_on": "on",
            "state_off": "off",
        },
        "min_score": {
            "platform": "number",
            "name": "minimum score",
            "command_topic": command,
            "command_template": '{"min_score": {{ value }}}',
            "state_topic": state,
            "value_template": "{{ value_json.min_score }}",
            "min": 0,
            "max": 1,
            "step": 0.01,
            "mode": "slider",
            "entity_category": "config",
        },
    }


def _sensor(name: str, topic: str, template: str, **more: str) -> dict[str, Any]:
    return {"platform": "sensor", "name": name, "state_topic": topic, "value_template": template, **more}


def _literal(text: str) -> str:
    """Return a text as a string of Jinja, which reads escapes as Python does (lexer of Jinja 3: `unicode-escape`)."""
    escaped = "".join(f"\\x{ord(c):02x}" if ord(c) < 0x20 or c in '"\\' else c for c in valid_text(text))
    return f'"{escaped}"'


def _word(text: str) -> str:
    """Return a word in letters, digits and -XX of its other bytes, so that _ can stand between words."""
    return re.sub(b"[^A-Za-z0-9]", lambda match: b"-%02X" % match[0][0], text.encode("utf-8", "surrogatepass")).decode()


def _unword(word: str) -> str | None:
    """Return the word that `_word` encoded; None for a text that it cannot have made."""
    raw = re.sub("-([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), word).encode("latin-1")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if _word(text) == word else None


def live_components(payload: bytes) -> dict[str, str]:
    """Return key -> platform of the components in a retained message; empty for any other message."""
    try:
        listed = json.loads(payload[:_MOST_BYTES]).get("components")
        entries = list(listed.items())[:_MOST_COMPONENTS]
    except (ValueError, AttributeError, RecursionError):
        return {}
    return {
        key: entry["platform"]
        for key, entry in entries
        if _KEY.fullmatch(key) and isinstance(entry, dict) and len(entry) > 1 and str(entry.get("platform")) in _PLATFORMS
    }


def counted_pairs(keys: Iterable[str]) -> list[Pair]:
    """Return the sources and labels of the count sensors among the keys."""
    pairs: dict[Pair, None] = {}
    for key in keys:
        kind, _, rest = key.partition("_")
        source, border, label = rest.partition("_")
        words = _unword(source), _unword(label)
        if kind in {"count", "seen"} and border and words[0] and words[1]:
            pairs[words[0], words[1]] = None
    return list(pairs)
