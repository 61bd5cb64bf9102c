"""Implausible outputs of a model: the picture is set aside, or a broken model is replaced by the next."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from edgeannot.choice.first_use_trial import Tried
from edgeannot.choice.measurements import conditions_of
from edgeannot.probe import read_board
from edgeannot.vision.cards import read_card
from tests.bad_models import add_model, nan_always, nan_on_black
from tests.brokers import Subscriber
from tests.e2e.daemons import SAMPLES, edgeannot

pytestmark = pytest.mark.runtime


@pytest.fixture(scope="session")
def runtime_name(pytestconfig):
    """What `auto` means in the commands that are started."""
    return pytestconfig.getoption("runtime_name")


def pictures(folder, count, black=()):
    """Small pictures of noise, and even black ones."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    names = [f"{i:02}.png" for i in range(count)]
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (40, 40, 3), np.uint8) * (i not in black))
    return names


def published(subscriber):
    return sorted(json.loads(m.payload)["image"]["path"] for m in list(subscriber.messages) if m.topic.endswith("/detections"))


def test_one_picture_of_fifty_for_which_the_model_gives_no_numbers_is_set_aside_and_the_others_are_delivered(tmp_path, broker):
    names = pictures(tmp_path / "in", 50, black={17})
    add_model(tmp_path / "data/models", "nanny", nan_on_black())
    subscriber = Subscriber(broker)
    done = edgeannot(
        "run", "--once", "--model", "nanny", "--watch", tmp_path / "in",
        "--data-dir", tmp_path / "data", "--mqtt", broker.url,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    subscriber.wait_for(lambda s: len(published(s)) >= 49, "the other pictures")
    assert published(subscriber) == [name for name in names if name != "17.png"]
    assert "49 pictures annotated, 1 not annotated" in done.stdout
    assert "17.png" in done.stdout
    assert "not finite" in done.stdout
    assert [path.name for path in (tmp_path / "data/quarantine").rglob("*.png")] == ["17.png"]
    subscriber.close()


def remember_as_tried(data_dir, name, runtime_name):
    """As of an earlier version of this program, or a model that has broken since."""
    card = read_card(data_dir / "models" / f"{name}.toml")
    where = conditions_of(read_board(), runtime_name).hardware
    Tried(data_dir / "cache" / "tried.json", " on ".join(reversed(where))).add(card.sha256)


def test_a_model_that_was_set_and_gives_no_numbers_for_anything_ends_the_program_for_good(tmp_path, runtime_name):
    pictures(tmp_path / "in", 3)
    add_model(tmp_path / "data/models", "broken", nan_always())
    remember_as_tried(tmp_path / "data", "broken", runtime_name)
    done = edgeannot("run", "--once", "--model", "broken", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")

    assert done.returncode == 78, done.stderr
    assert "broken" in done.stderr.splitlines()[-1]
    assert "not finite" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_chosen_model_that_gives_no_numbers_for_anything_makes_room_for_the_next(tmp_path, runtime_name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cat.jpg").write_bytes((SAMPLES / "cat.jpg").read_bytes())
    # Among classifiers the profile's order begins with what it knows; with a label that only this one has, it is the only one.
    add_model(tmp_path / "data/models", "aaa-broken", nan_always())
    add_model(tmp_path / "data/models", "bbb-sound", nan_on_black())
    remember_as_tried(tmp_path / "data", "aaa-broken", runtime_name)
    done = edgeannot(
        "run", "--once", "--task", "classify", "--labels", "class-1", "--watch", tmp_path / "in",
        "--data-dir", tmp_path / "data",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "1 picture annotated, in " in done.stdout
    assert "bbb-sound" in done.stderr
