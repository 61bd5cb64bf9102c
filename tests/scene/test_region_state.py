"""The state of a region: told when it changes, not when the classifier wavers; unknown when the source is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from edgeannot.base.errors import OutputError
from edgeannot.scene.classify_options import StateOptions
from edgeannot.scene.region_state import Region, Regions
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from edgeannot.vision.news import RegionState

BEGIN = datetime(2026, 7, 1, tzinfo=UTC)
FACTS = ModelFacts("m", "0" * 64, "yolo", "low")
OPTIONS = {"source": "yard", "region": (0.5, 0.0, 1.0, 0.5), "model": "gate"}


def frame(number, live=False):
    image = np.full((40, 60, 3), number % 250, np.uint8)
    return Frame(image, "yard", number, BEGIN + timedelta(seconds=number / 5), str(number), taken_at=0.0 if live else None)


class Gate:
    """Plays what the classifier says to a region; `told` is what was told."""

    def __init__(self, stored=None, **options):
        self.said = ("closed", 0.9)
        self.shown = []
        self.region = Region("gate", StateOptions(**OPTIONS | options), self.classify, stored)
        self.told = []
        self.number = 0

    def classify(self, frame):
        self.shown.append(frame)
        if isinstance(self.said, Exception):
            raise self.said
        found = Detections(np.zeros((1, 4), np.float32), np.array([self.said[1]], np.float32), np.zeros(1, np.int64))
        return Annotation(frame, found, (self.said[0],), FACTS)

    def play(self, *words, live=False):
        for word in words:
            self.said = word if isinstance(word, Exception | tuple) else (word, 0.9)
            self.take(self.region.see(frame(self.number, live)))
            self.number += 1
        return self

    def take(self, state):
        if state is not None:
            self.told.append(state)

    @property
    def states(self):
        return [state.state for state in self.told]


def test_before_a_picture_nothing_is_told():
    assert Gate().states == []


def test_of_200_pictures_with_3_changes_3_are_told_and_again_none():
    """The first state is a change from what is not known. Single pictures say something else now and then."""
    words = ["closed"] * 70 + ["open"] * 60 + ["closed"] * 70
    for place in (10, 30, 31, 80, 140, 190):
        words[place] = "open" if words[place] == "closed" else "closed"

    gate = Gate().play(*words)

    assert gate.states == ["closed", "open", "closed"]
    assert gate.told[1].since_s == frame(72).moment_s


def test_the_classifier_sees_the_region_only():
    gate = Gate().play("closed")

    assert gate.shown[0].seen[0].shape == (20, 30, 3)


def test_a_low_score_says_nothing():
    assert Gate().play(*[("open", 0.4)] * 9).states == []


def test_a_live_camera_is_looked_at_once_a_second():
    gate = Gate().play(*["open"] * 21, live=True)

    assert len(gate.shown) == 5
    assert gate.states == ["open"]


def test_when_the_source_is_away_for_long_it_is_unknown_once():
    gate = Gate(unknown_s=30).play(*["open"] * 3)
    for after_s in (10.0, 30.0, 60.0):
        gate.take(gate.region.lost(after_s, 9.0))
    gate.play(*["open"] * 3)

    assert gate.states == ["open", "unknown", "open"]
    assert gate.told[1] == RegionState("gate", "unknown", None, 9.0)


def test_after_a_restart_the_same_state_is_the_same_message():
    before = Gate().play(*["open"] * 5).told[-1]

    after = Gate(stored=before.stored()).play(*["open"] * 50)

    assert after.told == [before]


def test_a_state_that_changed_while_the_program_was_down_is_told():
    stored = Gate().play(*["open"] * 5).told[-1].stored()

    assert Gate(stored=stored).play(*["closed"] * 5).states == ["closed"]


def test_a_stored_state_that_cannot_be_read_is_none():
    assert Gate(stored=b"[1, 2").play(*["open"] * 3).states == ["open"]


def test_a_classifier_that_fails_leaves_the_state_and_says_so_once(caplog):
    gate = Gate().play(*["open"] * 3, *[OutputError("no numbers")] * 5)

    assert gate.states == ["open"]
    assert caplog.text.count("states.gate: no numbers") == 1


def test_of_each_time_the_least_sure_cut_out_is_kept():
    gate = Gate(cut_every_s=2)
    cuts = []
    for number in range(25):
        gate.play(("open", 0.5 if number == 7 else 0.9))
        cuts.append(gate.region.take_cut())

    kept = [(number, cut.frame.seq) for number, cut in enumerate(cuts) if cut is not None]
    assert kept == [(0, 0), (10, 7), (20, 11)]
    assert cuts[10].frame.image.shape == (20, 30, 3)
    assert (cuts[10].region, cuts[10].label) == ("gate", "open")


def test_without_a_classifier_only_cut_outs_are_made():
    region = Region("gate", StateOptions(**OPTIONS | {"model": None}), None)
    regions = Regions("yard", [region])
    seen = regions.see(Annotation(frame(0), Detections.empty(), (), FACTS))

    assert seen.news.regions == ()
    assert [cut.label for cut in seen.news.cuts] == ["unsorted"]
    assert regions.lost(1e9) is None


def test_pictures_without_news_pass_as_they_are():
    gate = Gate(cut_every_s=1e6)
    regions = Regions("yard", [gate.region])
    first = regions.see(Annotation(frame(0), Detections.empty(), (), FACTS))
    second = Annotation(frame(1), Detections.empty(), (), FACTS)

    assert first.news is not None
    assert regions.see(second) is second
