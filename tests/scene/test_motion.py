"""The motion gate on made scenes, whose truth is known: noise, slow light, leaves in the wind, and objects that enter."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from edgeannot.scene.motion import MotionGate
from edgeannot.scene.motion_options import MotionOptions

FPS = 5.0


def background(rng):
    """A room: patches of several brightnesses, and a texture."""
    image = np.kron(rng.integers(40, 200, (9, 16)), np.ones((20, 20))).astype(np.float32)
    return image + rng.normal(0, 8, image.shape).astype(np.float32)


NOISE = np.random.default_rng(9).normal(0, 6, (24, 180, 320)).astype(np.float32)
"""Of a camera at dusk: made once, and each picture gets one of them, moved."""


def photographed(scene, rng, light=1.0):
    noise = np.roll(NOISE[rng.integers(len(NOISE))], rng.integers(0, 180, 2), (0, 1))
    lit = scene * light + noise
    return np.repeat(np.clip(lit, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def slow_light(index):
    """A cloud every 40 seconds: a third of the light goes and comes."""
    return 1.0 - 0.17 * (1 - np.cos(2 * np.pi * index / (40 * FPS)))


def with_object(scene, x, y, side=16, contrast=45.0):
    image = scene.copy()
    patch = image[max(0, y) : y + side, max(0, x) : max(0, x + side)]
    patch += np.where(patch > 128, -contrast, contrast)
    return image


def gate(**options):
    return MotionGate(MotionOptions(enabled=True, heartbeat_s=1e6, **options))


def test_the_first_picture_is_seen_and_the_same_one_again_is_not():
    image = photographed(background(np.random.default_rng(0)), np.random.default_rng(1))
    motion = gate()

    assert [motion.opens(image, at) for at in (0.0, 1.0, 2.0)] == [True, False, False]
    assert motion.figures() == {"looked": 3, "saved": 2}


def test_a_static_scene_with_noise_and_slow_light_saves_19_of_20_inferences():
    rng = np.random.default_rng(2)
    scene, motion = background(rng), gate()
    for index in range(400):
        motion.opens(photographed(scene, rng, slow_light(index)), index / FPS)

    assert motion.saved / motion.looked >= 0.95


@pytest.mark.parametrize("seed", range(2))
def test_none_of_twenty_entries_is_missed_and_between_them_the_gate_closes(seed):
    """Objects of a twentieth of the width come in from the left at several heights and speeds, and go out on the right."""
    rng = np.random.default_rng(10 + seed)
    scene, motion = background(rng), gate()
    index, seen, opened_between = 0, 0, 0
    for entry in range(20):
        for _ in range(25):
            opened_between += motion.opens(photographed(scene, rng, slow_light(index)), index / FPS)
            index += 1
        y, step = int(rng.integers(0, 160)), int(rng.integers(10, 30))
        opened = 0
        for x in range(-8, 320, step):
            opened += motion.opens(photographed(with_object(scene, x, y), rng, slow_light(index)), index / FPS)
            index += 1
        seen += opened >= 3
        assert opened >= 3, f"entry {entry} at {y}, {step} pixels a picture"

    assert seen == 20
    assert opened_between / (20 * 25) < 0.35, "one second and the object's leaving are part of it"


def test_leaves_in_the_wind_close_their_own_cells_only():
    rng = np.random.default_rng(3)
    scene, motion = background(rng), gate()
    for index in range(400):
        windy = scene.copy()
        windy[:60, :80] += rng.choice([-30.0, 30.0], (6, 8)).repeat(10, axis=0).repeat(10, axis=1)
        motion.opens(photographed(windy, rng), index / FPS)
        if index == 199:
            looked, saved = motion.looked, motion.saved
    assert (motion.saved - saved) / (motion.looked - looked) >= 0.8

    assert motion.opens(photographed(with_object(windy, 250, 125), rng), 400 / FPS)


def test_what_lies_in_an_ignored_part_does_not_count():
    rng = np.random.default_rng(4)
    scene = background(rng)
    motion = gate(ignore=[[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]])
    motion.opens(photographed(scene, rng), 0.0)

    assert not motion.opens(photographed(with_object(scene, 50, 50, 30), rng), 1.0)
    assert motion.opens(photographed(with_object(scene, 250, 50, 30), rng), 2.0)


def test_the_model_sees_a_picture_at_each_heartbeat_also_after_the_clock_was_set_back():
    image = photographed(background(np.random.default_rng(0)), np.random.default_rng(1))
    motion = MotionGate(MotionOptions(enabled=True, heartbeat_s=10))

    assert [motion.opens(image, at) for at in (100.0, 105.0, 110.0, 115.0, 50.0, 55.0)] == [True, False, True, False, True, False]


def test_after_a_change_the_model_goes_on_for_a_while():
    rng = np.random.default_rng(5)
    scene, motion = background(rng), gate(hold_s=2)
    motion.opens(photographed(scene, rng), 0.0)
    changed = with_object(scene, 150, 100, 30)

    assert [motion.opens(photographed(changed, rng), at) for at in (1.0, 2.0, 3.0, 3.5, 9.0)] == [True, True, True, False, False]


def test_a_picture_of_another_size_begins_anew():
    rng = np.random.default_rng(6)
    motion = gate()
    motion.opens(photographed(background(rng), rng), 0.0)

    assert motion.opens(np.zeros((100, 100, 3), np.uint8), 1.0)
    assert not motion.opens(np.zeros((100, 100, 3), np.uint8), 2.0)


@pytest.mark.parametrize(("polygon", "words"), [([[0, 0], [1, 1]], "three corners"), ([[0, 0], [1, 0], [1, 40]], "from 0 to 1")])
def test_polygons_that_enclose_nothing_are_refused(polygon, words):
    with pytest.raises(ValidationError, match=words):
        MotionOptions(ignore=[polygon])
