"""Events of tracked objects, in made scenes whose truth is known; and what becomes of them over restarts."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edgeannot.scene.tracking import Tracking
from edgeannot.scene.tracking_options import TrackingOptions
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts

WH = 400, 200
FPS = 5.0
BEGIN = datetime(2026, 7, 1, tzinfo=UTC)
FACTS = ModelFacts("m", "0" * 64, "yolo", "low")


class Scene:
    """Plays pictures of boxes to a `Tracking`, and keeps its events and the state that was stored last."""

    def __init__(self, state=None, first=0, wanted=(), **options):
        self.wanted = wanted
        self.tracking = Tracking("yard", TrackingOptions(enabled=True, **options), state)
        self.state = state
        self.events = []
        self.index = first
        self.ids = []

    def play(self, *rows, seconds=0.0):
        """One picture, or so many seconds of the same: rows of (label, x, y) or (label, x, y, score)."""
        for _ in range(max(1, round(seconds * FPS))):
            boxes = np.array([(row[1], row[2], row[1] + 40, row[2] + 40) for row in rows], np.float32).reshape(-1, 4)
            scores = np.array([row[3] if len(row) > 3 else 0.9 for row in rows], np.float32)
            found = Detections(boxes, scores, np.zeros(len(rows), np.int64))
            image = np.zeros((WH[1], WH[0], 3), np.uint8)
            frame = Frame(image, "yard", self.index, BEGIN + timedelta(seconds=self.index / FPS), str(self.index))
            annotation = self.tracking.see(Annotation(frame, found, tuple(row[0] for row in rows), FACTS), 0.4, self.wanted)
            self.ids = annotation.detections.tracks.tolist()
            self.reported = annotation
            self.take(annotation.news)
            self.index += 1
        return self

    def take(self, news):
        if news is not None:
            self.events += news.events
            self.state = news.state or self.state

    @property
    def told(self):
        return [(event.kind, event.track_id) for event in self.events]


def test_an_empty_scene_has_no_events():
    scene = Scene().play(seconds=5)

    assert scene.events == []
    assert scene.state is None


def test_an_object_that_comes_and_goes_is_one_event_with_a_begin_and_an_end():
    scene = Scene(still_s=60)
    for x in range(0, 300, 10):
        scene.play(("dog", x, 50))
    scene.play(seconds=5)

    assert scene.told == [("appeared", 1), ("left", 1)]
    appeared, left = scene.events
    assert (left.reason, left.label, left.began_s) == ("gone", "dog", BEGIN.timestamp())
    assert [event.number for event in scene.events] == [0, 1]
    assert appeared.began_s <= appeared.at_s < left.at_s


def test_a_parked_car_is_one_event_though_it_flickers():
    rng = np.random.default_rng(0)
    scene = Scene(still_s=5)
    for _ in range(600):
        rows = [] if rng.random() < 0.3 else [("car" if rng.random() < 0.8 else "truck", *(100 + rng.normal(0, 1.5, 2)))]
        scene.play(*rows)

    assert scene.told == [("appeared", 1), ("still", 1)]
    assert {event.label for event in scene.events} == {"car"}


def test_a_car_that_stops_and_goes_on_is_still_and_then_has_moved():
    scene = Scene(still_s=4)
    for x in range(0, 150, 10):
        scene.play(("car", x, 50))
    scene.play(("car", 150, 50), seconds=8)
    for x in range(150, 350, 10):
        scene.play(("car", x, 50))

    assert scene.told == [("appeared", 1), ("still", 1), ("moved", 1)]


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([5.5, *[0, 8, 1, 7] * 15], id="first seen there at the edge of its wobble"),
        pytest.param([*[0] * 10, 25, *[0] * 20], id="one box that fits it badly"),
    ],
)
def test_what_stands_is_still_in_time_however_its_boxes_wobble(places):
    scene = Scene(dwell_s=0.4, still_s=5)
    for x in places:
        scene.play(("car", 100 + x, 50))

    (still,) = [event for event in scene.events if event.kind == "still"]
    assert still.at_s - BEGIN.timestamp() == pytest.approx(5.4, abs=1.0)


def test_what_passes_for_less_than_the_dwell_has_no_event():
    scene = Scene(dwell_s=2.0).play(("bird", 50, 50), seconds=1).play(seconds=6)

    assert scene.events == []


def test_what_is_hardly_seen_has_not_appeared_until_it_is_seen_well_for_the_dwell():
    scene = Scene(dwell_s=1.0).play(("sink", 50, 50, 0.55), seconds=0.4).play(("sink", 50, 50, 0.3), seconds=5)

    assert scene.told == []
    seen_at_s = scene.index / FPS
    scene.play(("sink", 50, 50, 0.9), seconds=3)

    assert [(event.kind, event.began_s - BEGIN.timestamp()) for event in scene.events] == [("appeared", pytest.approx(seen_at_s, abs=0.4))]


def test_what_was_away_for_the_dwell_before_it_appeared_has_to_be_seen_anew():
    scene = Scene(dwell_s=1.0).play(("sink", 50, 50), seconds=0.6).play(seconds=1.6).play(("sink", 50, 50), seconds=0.6)
    assert scene.told == []

    assert scene.play(("sink", 50, 50), seconds=1).told == [("appeared", 1)]


def test_what_is_named_differently_while_it_is_taken_away_has_moved_and_only_what_is_asked_for_is_reported():
    scene = Scene(wanted=("bottle",), still_s=3).play(("vase", 50, 50), seconds=4)
    assert (scene.told, scene.reported.labels) == ([], ())

    scene.play(("bottle", 50, 50), seconds=6)
    for x in range(56, 90, 6):
        scene.play(("vase", x, 50))
        assert (scene.reported.labels, scene.ids) == ((), [])
    assert scene.told == [("appeared", 1), ("still", 1), ("moved", 1)]
    assert {event.label for event in scene.events} == {"bottle"}


def test_low_scores_continue_a_track_and_are_reported_only_then():
    scene = Scene().play(("dog", 50, 50), seconds=2).play(("dog", 50, 50, 0.2), ("cat", 300, 100, 0.2))

    assert scene.reported.labels == ("dog",)
    assert scene.ids == [1]


def test_with_zones_only_what_stands_in_one_has_events():
    zones = {"drive": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}
    scene = Scene(zones=zones, still_s=60).play(("dog", 300, 50), seconds=3)
    assert scene.events == []

    for x in range(300, 100, -10):
        scene.play(("dog", x, 50))
    scene.play(("dog", 100, 50), seconds=2)
    assert [(event.kind, event.zones) for event in scene.events] == [("appeared", ("drive",))]

    for x in range(100, 300, 10):
        scene.play(("dog", x, 50))
    scene.play(("dog", 300, 50), seconds=2)
    assert scene.told == [("appeared", 1), ("left", 1)]
    assert scene.events[-1].reason == "zone"


def test_what_crosses_a_line_is_counted_by_label_and_direction():
    scene = Scene(lines={"gate": [[0.5, 1], [0.5, 0]]}, still_s=60)
    for xs in (range(100, 300, 10), range(300, 100, -10), range(100, 300, 10)):
        for x in xs:
            scene.play(("dog", x, 50))

    crossed = [event for event in scene.events if event.kind == "crossed"]
    assert [(event.line, event.direction, event.counts) for event in crossed] == [
        ("gate", "in", {"in": 1, "out": 0}), ("gate", "out", {"in": 1, "out": 1}), ("gate", "in", {"in": 2, "out": 1}),
    ]  # fmt: skip


def test_a_line_that_is_passed_beside_its_ends_is_not_crossed():
    scene = Scene(lines={"gate": [[0.5, 0], [0.5, 0.1]]}, still_s=60)
    for x in range(100, 300, 10):
        scene.play(("dog", x, 50))

    assert scene.told == [("appeared", 1)]


def test_a_closed_motion_gate_ends_nothing():
    scene = Scene(still_s=5).play(("car", 100, 50), seconds=10)
    for _ in range(5):
        scene.index += 60 * int(FPS)  # a heartbeat a minute
        scene.play(("car", 100, 50))

    assert scene.told == [("appeared", 1), ("still", 1)]


def test_a_source_that_is_lost_ends_what_is_open_once():
    scene = Scene().play(("dog", 100, 50), seconds=3)
    scene.take(scene.tracking.lost())
    scene.take(scene.tracking.lost())

    assert [(event.kind, event.reason) for event in scene.events] == [("appeared", ""), ("left", "source")]
    scene.play(("dog", 100, 50), seconds=3)
    assert scene.told[-1] == ("appeared", 2)


def test_a_model_without_the_label_ends_what_it_cannot_see():
    scene = Scene().play(("dog", 100, 50), ("car", 300, 50), seconds=3)
    scene.take(scene.tracking.forget_labels({"car", "person"}))

    assert [(event.kind, event.label, event.reason) for event in scene.events][2:] == [("left", "dog", "model")]
    assert scene.tracking.forget_labels({"car", "person"}) is None


@pytest.mark.parametrize("killed_at", range(5, 90, 6))
def test_after_a_kill_every_event_goes_on_or_ends_and_none_begins_twice(killed_at):
    """Killed at many places: a car parks all the time, a dog comes and goes. Only what was stored is known afterwards."""

    def pictures(index):
        rows = [("car", 300, 100)]
        return [*rows, ("dog", 4 * index, 20)] if index < 60 else rows

    before = Scene(still_s=4)
    for index in range(killed_at):
        before.play(*pictures(index))
    after = Scene(before.state, first=killed_at + 10, still_s=4)
    for index in range(killed_at + 10, killed_at + 110):
        after.play(*pictures(index))

    told = before.told + after.told
    begun = Counter(track for kind, track in told if kind == "appeared")
    ended = Counter(track for kind, track in told if kind == "left")
    labels = {event.track_id: event.label for event in before.events + after.events}
    assert set(begun.values()) == {1}
    assert all(count == 1 for count in ended.values())
    assert set(ended) <= set(begun)
    assert [label for track, label in labels.items() if track not in ended] == ["car"], "only the car is there at the end"
    assert [(kind, labels[track]) for kind, track in told].count(("appeared", "car")) == 1


def test_ids_are_unique_over_restarts():
    first = Scene().play(("dog", 100, 50), seconds=0.4)
    assert first.ids == [1]
    second = Scene(first.state).play(("dog", 300, 50), seconds=0.4)
    third = Scene(second.state).play(("dog", 20, 50), seconds=0.4)

    assert len({first.ids[0], second.ids[0], third.ids[0]}) == 3


def test_what_is_gone_at_the_next_start_has_left_for_that_reason():
    before = Scene().play(("dog", 100, 50), seconds=3)
    after = Scene(before.state, first=100).play(seconds=5)

    assert [(event.kind, event.track_id, event.reason) for event in after.events] == [("left", 1, "restart")]
    assert json.loads(after.state)["open"] == []


@pytest.mark.parametrize(
    "state", [b"", b"[]", b"{}", b'{"version":99}', b'{"version":1,"next_id":5,"size":[1],"at_s":0,"open":[],"lines":{}}']
)
def test_a_state_that_cannot_be_read_is_told_and_tracking_begins_anew(state, caplog):
    scene = Scene(state).play(("dog", 100, 50), seconds=3)

    assert scene.told == [("appeared", 1)]
    assert ["the stored state of the tracking cannot be read" in record.getMessage() for record in caplog.records] == [True]


def test_events_have_pictures_where_they_are_wanted_also_without_a_frame():
    scene = Scene(pictures=True).play(("dog", 50, 50), seconds=3)
    scene.take(scene.tracking.lost())
    assert [(event.kind, event.picture is not None, event.resumed) for event in scene.events] == [
        ("appeared", True, False),
        ("left", True, False),
    ]

    without = Scene().play(("dog", 50, 50), seconds=3)
    assert [event.picture for event in without.events] == [None]


def test_an_object_of_an_earlier_run_says_so_in_its_events():
    scene = Scene(pictures=True).play(("dog", 50, 50), seconds=3)
    again = Scene(scene.state, first=scene.index, pictures=True).play(("dog", 50, 50), seconds=1).play(seconds=5)

    assert [(event.kind, event.resumed, event.picture_name) for event in again.events] == [("left", True, "2026-07-01/1.jpg")]


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_clock_that_is_set_back_delays_no_event(restarted):
    """As at the start of a board without a clock of its own: what is remembered is in the future then."""
    zones = {"gate": ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))}
    scene = Scene(zones=zones, still_s=4.0).play(("car", 20, 50), seconds=2)
    scene.index -= round(3600 * FPS)
    if restarted:
        scene = Scene(scene.state, scene.index, zones=zones, still_s=4.0)
    scene.play(("car", 20, 50), seconds=5)
    assert [event.kind for event in scene.events][-1] == "still"
    assert all(event.began_s <= event.at_s for event in scene.events)

    for x in range(30, 360, 10):
        scene.play(("car", x, 50))
    scene.play(("car", 350, 50), seconds=2)

    assert [(event.kind, event.reason) for event in scene.events][-1] == ("left", "zone")


def test_a_clock_that_is_set_back_before_an_object_has_appeared_delays_it_not():
    scene = Scene(dwell_s=1.0).play(("dog", 20, 50), seconds=0.6)
    scene.index -= round(3600 * FPS)

    assert [event.kind for event in scene.play(("dog", 20, 50), seconds=1).events] == ["appeared"]
