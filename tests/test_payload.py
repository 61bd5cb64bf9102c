"""The contract with subscribers: one golden message, and properties that hold for every message."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeannot.payload import Origin, count_payload, decode, detections_payload, encode, info_payload, message_id, rfc3339, status_payload
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts, Sender
from edgeannot.vision.news import SubLabel

SCHEMA = jsonschema.Draft202012Validator(json.loads(resources.files("edgeannot").joinpath("schema/detections-1.json").read_text()))
MODEL = ModelFacts("yolov3-tiny@320", "ab" * 32, "yolo", "low")
ORIGIN = Origin("pi", "boot-1", lambda: True)


GOLDEN = """
{"schema":1,"id":"e42e89cd-04f2-526c-b236-38d8e3bcb7d4","device":"pi","source":"porch","boot_id":"boot-1","seq":7,
 "captured_at":"2026-07-01T10:31:05.120Z","clock_synced":true,
 "image":{"width":200,"height":100,"path":"2026/cat_dog.jpg"},
 "model":{"name":"yolov3-tiny@320","sha256":"abababababababababababababababababababababababababababababababab","family":"yolo","profile":"low"},
 "detections":[
  {"label":"cat","class_id":15,"score":0.9123,"box":{"x1":20.0,"y1":10.1,"x2":119.9,"y2":60.0},
   "box_norm":{"x1":0.1002,"y1":0.1012,"x2":0.59949,"y2":0.6},"track_id":null},
  {"label":"dog","class_id":16,"score":0.5,"box":{"x1":0.0,"y1":0.0,"x2":200.0,"y2":100.0},
   "box_norm":{"x1":0.0,"y1":0.0,"x2":1.0,"y2":1.0},"track_id":null}],
 "timing_ms":{"decode":4.0,"preprocess":1.25,"inference":15.13,"postprocess":0.5,"total":20.88}}
"""


def frame(**changes) -> Frame:
    facts = {
        "image": np.zeros((100, 200, 3), np.uint8),
        "source": "porch",
        "seq": 7,
        "captured_at": datetime(2026, 7, 1, 10, 31, 5, 120_900, UTC),
        "identity": "2026/cat_dog.jpg:00ff",
        "path": Path("/srv/porch/2026/cat_dog.jpg"),
        "name": "2026/cat_dog.jpg",
    }
    return Frame(**facts | changes)


def annotation(*rows, **changes) -> Annotation:
    boxes = np.array([row[3] for row in rows], np.float32).reshape(-1, 4)
    found = Detections(boxes, np.array([row[2] for row in rows], np.float32), np.array([row[1] for row in rows], np.int64))
    timing = {"decode": 4.0, "preprocess": 1.25, "inference": 15.126, "postprocess": 0.5, "total": 20.876}
    return Annotation(frame(**changes), found, tuple(row[0] for row in rows), MODEL, timing)


CAT = ("cat", 15, 0.91234, (20.04, 10.12, 119.898, 60.0))
DOG = ("dog", 16, 0.5, (0, 0, 200, 100))


def test_a_picture_without_objects_is_a_message_too():
    payload = detections_payload(annotation(), ORIGIN)

    SCHEMA.validate(payload)
    assert payload["detections"] == []


def test_the_golden_message_does_not_change():
    """Subscribers hold on to every one of these fields; a change here is a change of the schema."""
    payload = detections_payload(annotation(CAT, DOG), ORIGIN)
    golden = json.loads(GOLDEN)

    SCHEMA.validate(payload)
    assert payload == golden
    assert list(payload) == list(golden)


def test_the_schema_file_is_a_valid_schema():
    SCHEMA.check_schema(SCHEMA.schema)


UNIT = st.floats(0, 1, width=32)
WORDS = st.text(max_size=20) | st.binary(max_size=20).map(os.fsdecode)
# Made once: a strategy of time zones reads all zones of the system, 40 ms.
TIMES = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.timezones())  # noqa: DTZ001 - hypothesis adds the zone


@st.composite
def annotations(draw) -> Annotation:
    width, height = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
    count = draw(st.integers(0, 5))
    corners = np.array([draw(st.tuples(UNIT, UNIT, UNIT, UNIT)) for _ in range(count)], np.float32).reshape(-1, 2, 2)
    boxes = (np.sort(corners, axis=1) * np.array([width, height], np.float32)).reshape(-1, 4)
    tracks = draw(st.none() | st.lists(st.integers(0, 10**9), min_size=count, max_size=count).map(lambda ids: np.array(ids, np.int64)))
    found = Detections(
        boxes.astype(np.float32),
        np.array([draw(UNIT) for _ in range(count)], np.float32),
        np.array([draw(st.integers(-1, 1000)) for _ in range(count)], np.int64),
        tracks,
    )
    path = draw(st.none() | WORDS.filter(bool).map(lambda name: Path(name.replace("\0", "_"))))
    made = frame(
        image=np.broadcast_to(np.uint8(0), (height, width, 3)),
        source=draw(WORDS),
        seq=draw(st.integers(0, 2**53)),
        captured_at=draw(TIMES),
        identity=draw(WORDS),
        path=path,
        name=draw(WORDS) if path else "",
    )
    timing = {stage: draw(st.floats(0, 1e6)) for stage in ("decode", "inference", "total")}
    return Annotation(made, found, tuple(draw(WORDS) for _ in range(count)), MODEL, timing)


@given(annotations(), st.text())
def test_every_message_validates_and_survives_json(made, device):
    payload = detections_payload(made, Origin(device, "boot", lambda: False))

    SCHEMA.validate(payload)
    assert decode(encode(payload)) == payload


@given(annotations())
def test_boxes_are_near_what_was_found(made):
    width, height = made.frame.size_wh
    for row, item in enumerate(detections_payload(made, ORIGIN)["detections"]):
        assert list(item["box"].values()) == pytest.approx(made.detections.boxes[row], abs=0.06)
        assert [v * s for v, s in zip(item["box_norm"].values(), (width, height) * 2, strict=True)] == pytest.approx(
            made.detections.boxes[row], abs=0.06
        )


def test_numbers_that_are_none_are_refused_rather_than_sent():
    with pytest.raises(ValueError, match="JSON"):
        encode({"score": float("nan")})


def test_a_repeat_carries_the_same_id_and_anything_else_another():
    def made(device="pi", model="ab", **changes):
        return message_id(device, frame(**changes), model)

    same = {made(), made(seq=99, captured_at=datetime(1999, 1, 1, tzinfo=UTC)), made(path=None)}
    others = {made(device="pj"), made(model="cd"), made(identity="other"), made(source="door")}

    assert len(same) == 1
    assert len(others | same) == 5


def test_parts_of_an_id_do_not_run_into_each_other():
    assert message_id("a", frame(source="b"), "") != message_id("ab", frame(source=""), "")


def test_times_are_utc_with_milliseconds():
    assert rfc3339(datetime(2026, 7, 1, 12, 0, 0, 999_999, timezone(timedelta(hours=2)))) == "2026-07-01T10:00:00.999Z"
    with pytest.raises(ValueError, match="time zone"):
        rfc3339(datetime(2026, 7, 1))  # noqa: DTZ001 - the point of the test


def test_a_name_that_is_no_utf8_is_shown_escaped():
    payload = detections_payload(annotation(name="caf\udce9.jpg"), ORIGIN)

    assert payload["image"]["path"] == "caf\\xe9.jpg"
    assert b"caf\\\\xe9.jpg" in encode(payload)


def test_a_damaged_picture_is_marked_and_a_sound_one_says_nothing_of_it():
    damaged = detections_payload(annotation(CAT, damage="the JPEG is cut off"), ORIGIN)

    SCHEMA.validate(damaged)
    assert damaged["damaged"] is True
    assert "damaged" not in detections_payload(annotation(CAT), ORIGIN)


def test_a_camera_has_no_path():
    assert detections_payload(annotation(path=None, name="2026-07-01/1.jpg"), ORIGIN)["image"]["path"] is None


def test_a_picture_that_came_as_a_message_says_who_sent_it_and_has_one_id_on_every_worker():
    sent = {"sender": Sender("door/1", "edgeannot/pictures/door%2F1", "p-7", dated=False)}

    one, other = (detections_payload(annotation(CAT, **sent), Origin(device, "boot-1")) for device in ("one", "other"))

    SCHEMA.validate(one)
    assert one["sender"] == {"device": "door/1", "topic": "edgeannot/pictures/door%2F1", "id": "p-7", "time": "arrival"}
    assert (one["device"], other["device"]) == ("one", "other")
    assert one["id"] == other["id"] != detections_payload(annotation(CAT), ORIGIN)["id"]


def test_counts_of_a_camera_with_several_workers_carry_their_time():
    """Unchanged counts are sent once; here another worker's may stand on the topic meanwhile."""
    counts = count_payload(annotation(CAT, sender=Sender("door", "t")), ORIGIN)

    assert (counts["captured_at"], counts["sender"]["device"]) == ("2026-07-01T10:31:05.120Z", "door")


def test_counts_name_each_label_and_do_not_change_with_time():
    assert count_payload(annotation(), ORIGIN)["labels"] == {}
    first = count_payload(annotation(CAT, DOG, CAT), ORIGIN)

    assert (first["total"], first["labels"]) == (3, {"cat": 2, "dog": 1})
    assert encode(first) == encode(count_payload(annotation(DOG, CAT, CAT, seq=8), ORIGIN))


def test_status_and_info_say_who_runs_what():
    assert status_payload(ORIGIN, "online") == {"schema": 1, "state": "online", "device": "pi", "boot_id": "boot-1"}
    info = info_payload(ORIGIN, "0.1.0", MODEL, ["4 cores"], {"porch": "directory"})
    assert info_payload(ORIGIN, "0.1.0", MODEL, [], {}, sinks=["mqtt", "webhook"])["sinks"] == ["mqtt", "webhook"]
    assert (info["model"]["profile"], info["sources"], info["reasons"]) == ("low", [{"name": "porch", "kind": "directory"}], ["4 cores"])


def test_what_a_second_stage_says_is_in_the_row_of_its_object_only():
    found = Detections(np.array([[0, 0, 5, 5], [1, 1, 9, 9]], np.float32), np.array([0.9, 0.5], np.float32), np.array([16, 15]))
    subs = SubLabel("poodle", 0.87654), None

    payload = detections_payload(Annotation(frame(), found, ("dog", "cat"), MODEL, sub_labels=subs), ORIGIN)

    SCHEMA.validate(payload)
    dog, cat = payload["detections"]
    assert (dog["sub_label"], dog["sub_score"]) == ("poodle", 0.8765)
    assert "sub_label" not in cat
