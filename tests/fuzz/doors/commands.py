"""Commands over MQTT: topic, payload, response topic and correlation data of a message, as the daemon checks them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from pydantic_core import from_json

from edgeannot.base.errors import ConfigError, FrameError, ModelError
from edgeannot.base.places import SAMPLES
from edgeannot.mqtt.options import Topics
from edgeannot.payload import Origin, encode
from edgeannot.remote.commands import CommandError, Limits, code_of, error_payload, read_command, reply_payload, reply_to
from edgeannot.vision.picture_header import begins_as_picture
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.numbers import WORDS
from tests.fuzz.words import change_text

BASE = "edgeannot/pi"
PAYLOADS: tuple[tuple[str, bytes], ...] = (
    ("ping", b""),
    ("ping", b'{"id": "a1"}'),
    ("pause", b'{"id": 7}'),
    ("resume", b"{}"),
    ("set", b'{"id": "x", "paused": false, "min_score": 0.4, "labels": ["person", "dog"], "interval_s": 1.5}'),
    ("set", b'{"classes": ["dog"], "interval": 2}'),
    ("set", b'{"min_score": null, "labels": [], "interval_s": null}'),
    ("model", b'{"name": "yolov3-tiny@224"}'),
    ("detect", b'{"path": "cat.jpg", "id": 1}'),
    ("snapshot", b'{"format": "json"}'),
    ("snapshot", b'{"format": "jpeg", "id": null}'),
)
TOPICS = (
    "",
    "answers/x",
    f"{BASE}/reply/ping",
    "edgeannot/other/status",
    "a/+/b",
    "#",
    "$SYS/x",
    "homeassistant/x",
    "a" * 1100,
    "a\0b",
    "/",
    "é/²",
)


class TheDoor(Door):
    """`remote.commands`, which everybody who may publish on a device's topics can reach."""

    modules = ("edgeannot/remote/commands.py",)

    def seeds(self) -> list[Case]:
        picture = (SAMPLES / "cat.jpg").read_bytes()
        told = [Case(command, payload, {"response": "answers/x", "correlation": "00ff"}) for command, payload in PAYLOADS]
        return [*told * 2, Case("detect", picture, {"response": "answers/x", "correlation": ""})]

    def mutate(self, rng: Random, case: Case) -> Case:
        about = dict(case.about)
        choice = rng.random()
        if choice < 0.75:
            return Case(case.kind, change_text(rng, case.body, [payload for _, payload in PAYLOADS]), about)
        if choice < 0.85:
            about["response"] = rng.choice((*TOPICS, *WORDS, None))
        elif choice < 0.9:
            about["correlation"] = rng.choice((None, "", "ff" * 1000))
        elif choice < 0.93:
            about["retained"] = True
        else:
            return Case(rng.choice((*WORDS, *(command for command, _ in PAYLOADS))), case.body, about)
        return Case(case.kind, case.body, about)

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        try:
            if begins_as_picture(case.body[:16]) or not case.body or from_json(case.body) is not None:
                visit.past_first = True
        except ValueError:
            pass
        made = taken(case)
        origin = Origin("pi", "boot")
        if isinstance(made, CommandError):
            reply = json.loads(encode(error_payload(made, origin)))
            raise FrameError(reply["error"]["message"], "refused")
        json.loads(encode(reply_payload(made.to, origin, {})))
        assert code_of(ModelError("x")) == "model"
        assert code_of(ConfigError("x")) == "invalid"


def taken(case: Case):
    """What the daemon makes of the message."""
    topics, limits = Topics("edgeannot", "pi"), Limits()
    topic = f"{BASE}/command/{case.kind}"
    correlation = case.about.get("correlation")
    to = reply_to(topic, case.about.get("response"), None if correlation is None else bytes.fromhex(correlation), topics, limits)
    return read_command(topic, case.body, retained=bool(case.about.get("retained")), to=to, limits=limits)
