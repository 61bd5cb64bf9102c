"""The real daemon under command: what was asked for happens to pictures, and Home Assistant is told of the device."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tests.bad_models import add_model, endless
from tests.e2e.daemons import ROOT, SAMPLES, Daemon, copy_samples
from tests.patience import DEADLINE_S
from tests.remote.test_command_handler import Asker
from tests.tools.teach.color_sets import write_set

BASE = "edgeannot/pi"
HOME_ASSISTANT = json.loads((ROOT / "edgeannot/schema/home-assistant-1.json").read_text())
PERSON = SAMPLES / "cameraman.jpg"


@pytest.fixture
def asker(broker):
    asker = Asker(broker.port)
    yield asker
    asker.close()


@pytest.fixture
def start(tmp_path, broker, make_subscriber):
    """Start a daemon that takes commands, with an empty folder and one model; gives it, its folder and a subscriber."""
    started = []

    def make(model="yolov3-tiny@224", **environment):
        inbox = tmp_path / "in"
        inbox.mkdir(exist_ok=True)
        args = ("--watch", inbox, "--mqtt", broker.url, "--device", "pi", "--profile", "low", "--model", model)
        switches = {"EDGEANNOT_SINKS__MQTT__COMMANDS__ENABLED": "true", "EDGEANNOT_SINKS__MQTT__HOME_ASSISTANT__ENABLED": "true"}
        subscriber = make_subscriber(broker)
        started.append(Daemon(tmp_path / "daemon", *args, **switches | environment))
        started[-1].wait_log("connected to")
        subscriber.wait_for(lambda s: s.payloads(f"{BASE}/info"), "info")
        return started[-1], inbox, subscriber

    yield make
    for daemon in started:
        daemon.kill()


def results(subscriber):
    return [json.loads(payload) for payload in subscriber.payloads(f"{BASE}/inbox/detections")]


def last(subscriber, leaf):
    return json.loads(subscriber.payloads(f"{BASE}/{leaf}")[-1])


def discovered(subscriber):
    payloads = subscriber.payloads("homeassistant/device/pi/config")
    return json.loads(payloads[-1]) if payloads else {"components": {}}


def test_both_are_off_unless_they_are_switched_on(start, asker):
    _, inbox, subscriber = start(EDGEANNOT_SINKS__MQTT__COMMANDS__ENABLED="false", EDGEANNOT_SINKS__MQTT__HOME_ASSISTANT__ENABLED="false")
    asker.send("pause")
    names = copy_samples(inbox)
    subscriber.wait_for(lambda s: len(results(s)) >= len(names), "the pictures", DEADLINE_S)

    assert asker.got == []
    assert not {m.topic for m in subscriber.messages} & {f"{BASE}/state", "homeassistant/device/pi/config"}


def test_a_paused_daemon_annotates_nothing_until_it_resumes_and_a_restart_resumes_too(start, asker, tmp_path):
    daemon, inbox, subscriber = start()
    assert asker.ask("pause")["ok"]
    names = copy_samples(inbox)
    assert asker.ask("ping")["result"]["paused"] is True
    assert asker.ask("detect", PERSON.read_bytes())["ok"], "a picture that is sent is annotated all the same"
    assert results(subscriber) == []
    assert asker.ask("resume")["ok"]
    subscriber.wait_for(lambda s: len(results(s)) >= len(names), "the pictures", DEADLINE_S)
    assert asker.ask("pause")["ok"]
    assert daemon.stop() == 0
    start()

    more = copy_samples(inbox / "later")
    subscriber.wait_for(lambda s: len(results(s)) >= len(names) + len(more), "pictures after a restart", DEADLINE_S)


@pytest.mark.runtime
def test_what_is_reported_and_by_which_model_follows_the_commands(start, asker):
    _, inbox, subscriber = start()
    assert asker.ask("set", {"min_score": 1.0})["result"]["min_score"] == 1.0
    assert asker.ask("detect", PERSON.read_bytes())["result"]["detections"] == []
    asker.ask("set", {"min_score": None, "labels": ["person"]})
    assert {row["label"] for row in asker.ask("detect", PERSON.read_bytes())["result"]["detections"]} == {"person"}
    assert asker.ask("set", {"labels": ["unicorn"]})["error"]["code"] == "invalid"
    assert asker.ask("model", {"name": "yolov3-tiny@320"})["result"] == {"model": "yolov3-tiny@320"}
    assert asker.ask("detect", PERSON.read_bytes())["result"]["model"]["name"] == "yolov3-tiny@320"
    assert asker.ask("model", {"name": "nothing"})["error"]["code"] == "model"

    subscriber.wait_for(lambda s: last(s, "info")["model"]["name"] == "yolov3-tiny@320", "info")
    subscriber.wait_for(lambda s: last(s, "state")["model"] == "yolov3-tiny@320", "the state")
    copy_samples(inbox)
    subscriber.wait_for(results, "a picture of the folder")
    asker.send("snapshot")
    assert asker.wait()[0].payload[:2] == b"\xff\xd8"


def test_a_device_is_taught_by_command_and_answers_with_what_it_learned(start, asker, tmp_path):
    sets = tmp_path / "sets"
    write_set(sets / "lamp", 4)
    commands = "EDGEANNOT_SINKS__MQTT__COMMANDS__"  # the niceness of 0: on a busy machine a niced process waits for very long
    switches = {f"{commands}TEACH_ROOT": str(sets), f"{commands}TEACH_NICE": "0", "EDGEANNOT_TASK": "classify"}
    _, _, subscriber = start(model="efficientnet-lite0", **switches)

    asker.send("teach", {"task": "classify", "data": "lamp", "name": "lamp"})
    assert asker.ask("detect", PERSON.read_bytes())["ok"], "pictures are annotated meanwhile"
    taught = json.loads(asker.wait()[0].payload)
    assert taught["result"]["model"] == "lamp", taught
    assert "accuracy" in " ".join(taught["result"]["said"])
    assert asker.ask("model", {"name": "lamp"})["ok"]
    for name in ("red", "blue"):
        found = asker.ask("detect", (sets / "lamp" / name / "0.png").read_bytes())["result"]
        assert (found["model"]["name"], found["detections"][0]["label"]) == ("lamp", name)
    subscriber.wait_for(lambda s: last(s, "state")["model"] == "lamp", "the state")

    again = asker.ask("teach", {"task": "classify", "data": "lamp", "name": "lamp"})
    assert (again["ok"], again["error"]["code"]) == (False, "invalid"), "the name is taken"


@pytest.mark.runtime
def test_another_bundled_model_is_one_line_and_one_info_and_labels_ids_and_entities_stay(start, asker, tmp_path):
    def entities_of(labels):
        return {f"{kind}_inbox_{label.replace(' ', '-20')}" for label in labels for kind in ("count", "seen")}

    folder = tmp_path / "labels"
    daemon, inbox, subscriber = start(EDGEANNOT_SINKS__LABELS__ENABLED="true", EDGEANNOT_SINKS__LABELS__FOLDER=str(folder))

    def annotate(part):
        """Results of the sample photos, the ids of their labels, the list of classes and Home Assistant's entities."""
        done = len(results(subscriber))
        names = copy_samples(inbox / part)
        subscriber.wait_for(lambda s: len(results(s)) >= done + len(names), f"the pictures: {daemon.log}")
        found = results(subscriber)[done:]
        ids = {d["label"]: d["class_id"] for r in found for d in r["detections"]}
        subscriber.wait_for(lambda s: entities_of(ids) <= discovered(s)["components"].keys(), "entities")
        return {r["model"]["name"] for r in found}, ids, (folder / "classes.txt").read_text(), discovered(subscriber)["components"]

    before, ids, classes, entities = annotate("before")
    lines, infos = daemon.log.splitlines(), len(subscriber.payloads(f"{BASE}/info"))
    assert asker.ask("model", {"name": "nanodet-g@192"})["ok"]
    after, new_ids, new_classes, new_entities = annotate("after")

    assert (before, after) == ({"yolov3-tiny@224"}, {"nanodet-g@192"})
    assert ids.keys() & new_ids.keys(), "both find a cat"
    coco = classes.splitlines()
    assert len(coco) == 80
    assert all(coco[number] == label for label, number in {**ids, **new_ids}.items())
    assert new_classes == classes
    assert {name: new_entities[name] for name in entities} == entities
    assert new_entities.keys() - entities.keys() <= entities_of(new_ids)
    (line,) = [line for line in daemon.log.splitlines()[len(lines) :] if "nanodet" in line or "model" in line]
    assert "nanodet-g@192 with " in line
    assert line.endswith(": asked for by a command")
    assert len(subscriber.payloads(f"{BASE}/info")) == infos + 1
    assert last(subscriber, "info")["model"]["name"] == "nanodet-g@192"


def test_home_assistant_is_told_of_the_device_and_of_labels_as_they_are_seen(start, asker):
    _, inbox, subscriber = start()
    assert "count_inbox_person" not in discovered(subscriber)["components"]
    copy_samples(inbox)
    subscriber.wait_for(lambda s: "count_inbox_person" in discovered(s)["components"], "the label", DEADLINE_S)
    asker.ask("set", {"labels": ["dog"]})
    subscriber.wait_for(lambda s: discovered(s)["components"]["count_inbox_person"] == {"platform": "sensor"}, "its removal")
    jsonschema.validate(discovered(subscriber), HOME_ASSISTANT)
    assert {"pause", "min_score", "fps", "model", "objects_inbox"} <= discovered(subscriber)["components"].keys()


def test_after_a_restart_with_other_settings_stale_entities_are_removed_and_labels_stay(start):
    daemon, inbox, subscriber = start()
    copy_samples(inbox)
    subscriber.wait_for(lambda s: "count_inbox_person" in discovered(s)["components"], "the label", DEADLINE_S)
    assert daemon.stop() == 0
    start(EDGEANNOT_SINKS__MQTT__IMAGES="true", EDGEANNOT_SINKS__MQTT__COMMANDS__ENABLED="false")

    def made_anew(s):
        made = discovered(s)["components"]
        return made.get("pause") == {"platform": "switch"} and "image_inbox" in made and len(made["count_inbox_person"]) > 1

    subscriber.wait_for(made_anew, "the message of the second run", DEADLINE_S)
    jsonschema.validate(discovered(subscriber), HOME_ASSISTANT)


def test_a_broker_that_forgot_everything_and_a_home_assistant_that_starts_are_told_again(start, broker, make_subscriber):
    daemon, _, _ = start()
    broker.kill()
    daemon.wait_log("trying again")
    broker.start()
    subscriber = make_subscriber(broker)
    subscriber.wait_for(lambda s: discovered(s)["components"] and s.payloads(f"{BASE}/state"), "what the new broker is told", DEADLINE_S)
    told = len(subscriber.payloads("homeassistant/device/pi/config"))
    asker = Asker(broker.port)
    assert asker.ask("ping")["ok"]
    asker.publish("homeassistant/status", b"online")

    subscriber.wait_for(lambda s: len(s.payloads("homeassistant/device/pi/config")) > told, "the answer to the birth message")
    asker.close()


@pytest.mark.runtime
def test_a_model_that_kills_the_runtime_is_refused_and_the_daemon_goes_on_with_its_own(start, asker):
    daemon, inbox, subscriber = start()
    card = add_model(daemon.data_dir / "models", "endless", endless())
    card.write_text(card.read_text().replace('task = "classify"', 'task = "detect"'))
    reply = asker.ask("model", {"name": "endless"})

    assert not reply["ok"]
    assert "a segmentation fault (SIGSEGV)" in json.dumps(reply)
    names = copy_samples(inbox)
    subscriber.wait_for(lambda s: len(results(s)) >= len(names), "the pictures", DEADLINE_S)
    assert {message["model"]["name"] for message in results(subscriber)} == {"yolov3-tiny@224"}
    assert daemon.stop() == 0
