"""The pipeline in force becomes another between two pictures; the old one stays where the new one cannot be had."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import cv2
import numpy as np
import pytest

from edgeannot.base.errors import ConfigError, ModelError, OutputError
from edgeannot.base.places import bundled_folder
from edgeannot.daemon import active_model as active
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.remote.control import RuntimeSettings
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import Frame
from edgeannot.vision.pipeline import Limits, load_pipeline
from tests.bad_models import add_model, nan_always, nan_on_black
from tests.e2e.daemons import SAMPLES

pytestmark = pytest.mark.runtime

ALL = Limits()
SCENE = Frame(cv2.imread(str(SAMPLES / "scene.jpg")), "door", 0, datetime.now(UTC), "scene", name="scene.jpg")
BLACK = replace(SCENE, image=np.zeros((40, 40, 3), np.uint8), name="black.png")
FIND = partial(find_card, folders=[bundled_folder()])


class Builds:
    """Builds pipelines and keeps what was built; refuses the names it is told to."""

    def __init__(self):
        self.names = []
        self.refused = ()

    def __call__(self, card, limits, threads):
        self.names.append(card.name)
        if card.name in self.refused:
            raise ModelError(f"{card.name} cannot be loaded")
        return load_pipeline(card, threads=threads, limits=limits)


@pytest.fixture
def builds():
    return Builds()


def model_of(builds, limits=ALL, name="yolov3-tiny@192", **options):
    return ActiveModel(builds(FIND(name), limits, 1), builds, FIND, limits, threads_for=lambda _: 1, **options)


def test_the_next_picture_is_the_new_models_and_whoever_listens_is_told(builds):
    told = []
    active_model = model_of(builds, changed=lambda _, reason: told.append(reason))
    before = active_model(SCENE)
    assert active_model.use("yolov3-tiny@224", "why") == "yolov3-tiny@224"
    after = active_model(SCENE)

    assert (before.model.name, after.model.name) == ("yolov3-tiny@192", "yolov3-tiny@224")
    assert (active_model.card.name, active_model.facts.name, told) == ("yolov3-tiny@224", "yolov3-tiny@224", ["why"])
    assert "person" in after.labels


def test_a_picture_that_cannot_be_prepared_ahead_goes_on_as_it_is(builds, monkeypatch):
    """Where its tensors would take too much memory, and where its error is to come in its place."""
    nothing = replace(SCENE, image=np.zeros((0, 0, 3), np.uint8))

    assert model_of(builds).prepare(nothing) is nothing
    monkeypatch.setattr(active, "MOST_AHEAD", 192 * 192 * 3 - 1)
    assert model_of(builds).prepare(SCENE) is SCENE
    monkeypatch.setattr(active, "MOST_AHEAD", 192 * 192 * 3)
    assert model_of(builds).prepare(SCENE).frame is SCENE


def test_a_prepared_picture_gives_what_the_picture_gives_also_when_the_model_has_changed_meanwhile(builds):
    active_model = model_of(builds)
    prepared = active_model.prepare(SCENE)
    same = active_model(prepared)
    active_model.limit(RuntimeSettings(min_score=0.6))  # wants the same tensors
    fewer = active_model(prepared)
    active_model.limit(RuntimeSettings())
    expected = active_model(SCENE)
    active_model.use("yolov3-tiny@224", "why")
    other = active_model(prepared)

    assert same.timing_ms["preprocess"] == fewer.timing_ms["preprocess"] == prepared.took_ms != other.timing_ms["preprocess"]
    assert 0 < len(fewer.labels) < len(same.labels)
    for found, alone in ((same, expected), (other, active_model(SCENE))):
        assert (found.labels, found.model, found.frame) == (alone.labels, alone.model, SCENE)
        np.testing.assert_array_equal(found.detections.boxes, alone.detections.boxes)


def test_the_model_that_is_in_force_is_not_loaded_again(builds):
    active_model = model_of(builds)

    assert active_model.use("yolov3-tiny@192", "why") == "yolov3-tiny@192"
    assert builds.names == ["yolov3-tiny@192"]


def test_a_model_that_was_replaced_under_its_name_is_loaded(builds):
    """As one that was taught again: its file is another."""
    told = []
    cards = iter(FIND(name).model_copy(update={"name": "mine"}) for name in ("nanodet-g", "yolov3-tiny"))
    first = builds(next(cards), ALL, 1)
    active_model = ActiveModel(first, builds, lambda _: next(cards), ALL, threads_for=lambda _: 1, changed=lambda _, why: told.append(why))

    assert active_model.use("mine", "why") == "mine"
    assert active_model(SCENE).model.sha256 == active_model.card.sha256 != first.card.sha256
    assert told == ["why"]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("unicorn", ModelError, "no model called 'unicorn'"),
        ("yolov3-tiny@7", ModelError, "input size '7' is not offered"),
        ("../../etc/passwd", ModelError, "wanted a model's name"),
        ("card.toml", ModelError, "wanted a model's name"),
        ("", ModelError, "wanted a model's name"),
        ("efficientnet-lite0", ModelError, "is for the task 'classify', this daemon runs 'detect'"),
        ("yolov3-tiny@224", ModelError, "cannot be loaded"),
    ],
)
@pytest.mark.parametrize("free", [None, 0])
def test_a_model_that_cannot_be_used_leaves_the_old_one_in_force(builds, name, error, words, free):
    active_model = model_of(builds, free_bytes=lambda: free)
    builds.refused = ("yolov3-tiny@224",)

    with pytest.raises(error, match=words):
        active_model.use(name, "why")
    assert active_model(SCENE).model.name == "yolov3-tiny@192"


def test_where_memory_is_short_the_old_model_goes_first_and_the_reason_says_so(builds, caplog):
    caplog.set_level("INFO")
    told = []
    active_model = model_of(builds, free_bytes=lambda: 10 * 2**20, changed=lambda _, why: told.append(why))
    active_model.use("yolov3-tiny@224", "why")

    assert told == ["why; yolov3-tiny@192 was unloaded before, as memory is short"]
    assert caplog.text == "", "who is told of the change logs it, in one line"
    assert active_model(SCENE).model.name == "yolov3-tiny@224"


def test_a_model_that_does_not_come_back_is_no_fault_of_the_settings(builds):
    """A service is not started again on wrong settings; after this it must be."""
    active_model = model_of(builds, free_bytes=lambda: 0)
    builds.refused = ("yolov3-tiny@192", "yolov3-tiny@224")

    with pytest.raises(RuntimeError, match="worked before and cannot be loaded again"):
        active_model.use("yolov3-tiny@224", "why")
    with pytest.raises(RuntimeError):
        active_model(SCENE)


def test_what_is_reported_follows_what_is_wanted_and_goes_back(builds):
    active_model = model_of(builds)
    everything = active_model(SCENE).labels
    active_model.limit(RuntimeSettings(labels=("cat",)))
    cats = active_model(SCENE).labels
    active_model.limit(RuntimeSettings(min_score=1.0))
    nothing = active_model(SCENE).labels
    active_model.limit(RuntimeSettings())

    assert set(cats) == {"cat"} < set(everything)
    assert nothing == ()
    assert active_model(SCENE).labels == everything
    assert builds.names == ["yolov3-tiny@192"]


def test_no_labels_wanted_means_all_also_where_some_are_configured(builds):
    active_model = model_of(builds, Limits(labels=("cat",)))
    active_model.limit(RuntimeSettings(labels=()))

    assert "person" in active_model(SCENE).labels


def test_labels_that_the_model_does_not_know_are_refused(builds):
    active_model = model_of(builds)

    with pytest.raises(ConfigError, match="does not have 'unicorn'"):
        active_model.check(RuntimeSettings(labels=("cat", "unicorn")))
    active_model.check(RuntimeSettings(labels=("cat",)))
    active_model.check(RuntimeSettings())


def test_a_model_that_does_not_know_the_labels_in_force_is_refused(builds, tmp_path):
    for path in bundled_folder().glob("yolov3-tiny.*"):
        text = path.read_text() if path.suffix != ".tflite" else ""
        (tmp_path / path.name).write_text(text.replace("yolov3-tiny", "mugs", 1).replace("\ncup\n", "\nmug\n"))
    (tmp_path / "yolov3-tiny.toml").rename(tmp_path / "mugs.toml")
    find = partial(find_card, folders=[tmp_path])
    active_model = ActiveModel(builds(FIND("yolov3-tiny@192"), ALL, 1), builds, find, ALL, threads_for=lambda _: 1)
    active_model.limit(RuntimeSettings(labels=("cup",)))

    with pytest.raises(ConfigError, match="mugs does not have 'cup'"):
        active_model.use("mugs", "why")
    assert set(active_model(SCENE).labels) <= {"cup"}


# A model that breaks


@pytest.fixture
def classifiers(tmp_path):
    """Real files: `sound` gives no numbers for a black picture only, `broken-1` and `broken-2` for none at all."""
    add_model(tmp_path, "sound", nan_on_black())
    add_model(tmp_path, "broken-1", nan_always())
    add_model(tmp_path, "broken-2", nan_always(3.0))
    return partial(find_card, folders=[tmp_path])


def classifier_of(builds, find, name, **options):
    return ActiveModel(builds(find(name), ALL, 1), builds, find, ALL, threads_for=lambda _: 1, **options)


def test_a_picture_that_a_sound_model_makes_no_numbers_of_is_the_pictures_fault(builds, classifiers):
    active_model = classifier_of(builds, classifiers, "sound")

    with pytest.raises(OutputError, match="not finite"):
        active_model(BLACK)
    assert active_model(SCENE).model.name == "sound"
    with pytest.raises(OutputError, match="not finite"):
        active_model(active_model.prepare(BLACK))


def test_a_broken_model_makes_room_for_the_next_that_is_sound_and_the_picture_is_not_lost(builds, classifiers):
    told, distrusted = [], []
    names = ["broken-1", "broken-2", "sound"]
    active_model = classifier_of(
        builds,
        classifiers,
        "broken-1",
        others=lambda: names,
        distrusted=lambda card: distrusted.append(card.name),
        changed=lambda _, reason: told.append(reason),
    )

    assert active_model(active_model.prepare(SCENE)).model.name == "sound"
    assert active_model.card.name == "sound"
    assert "broken-1 cannot be used: the model gave 4 of 4 scores that are not finite" in told[-1]
    assert distrusted == ["broken-1", "broken-2"]
    with pytest.raises(OutputError):
        active_model(BLACK)


def test_the_model_before_comes_back_first(builds, classifiers):
    active_model = classifier_of(builds, classifiers, "sound", others=lambda: ["broken-2"])
    active_model.use("broken-1", "asked for")

    assert active_model(SCENE).model.name == "sound"
    with pytest.raises(ModelError, match="broken-1 was found to be broken"):
        active_model.use("broken-1", "asked for again")


def test_where_no_other_model_may_run_a_broken_one_is_the_end(builds, classifiers):
    active_model = classifier_of(builds, classifiers, "broken-1")

    with pytest.raises(ModelError, match=r"broken-1 cannot be used.*no other model is available"):
        active_model(SCENE)
