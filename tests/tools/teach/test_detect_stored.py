"""The rounding of taught layers into an int8 convolution."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot_tools.teach.detect.backbone import Tap
from edgeannot_tools.teach.detect.bands import Band
from edgeannot_tools.teach.detect.fit import Layer
from edgeannot_tools.teach.detect.stored import OUTPUT_SCALE, float_numbers, store_layers

TAP = Tap("map", 16, 4, 0.02, -100)
BAND = Band(0, 0.0, np.inf, (10.0, 10.0))


def layer(weights, bias):
    return Layer(BAND, np.array(weights, np.float32), np.array(bias, np.float32))


def test_columns_without_any_number_stay_nothing():
    """A fold may hold all objects of a band: its layers are taught nothing."""
    stored = store_layers([layer(np.zeros((4, 2)), [0, 0])], TAP)

    assert np.isfinite(stored.step).all()
    assert (stored.numbers(TAP, np.full((3, 4), 50, np.int8)) == 0).all()


@pytest.mark.parametrize("bias", [-5.5, 0.25, 3.5, 9.0])
def test_a_column_with_a_bias_alone_gives_the_bias(bias):
    """So is the class of a model that has only one."""
    stored = store_layers([layer(np.zeros((4, 1)), [bias])], TAP)

    scale, zero = OUTPUT_SCALE
    top = (127 - zero) * scale
    assert stored.numbers(TAP, np.full((3, 4), 50, np.int8)) == pytest.approx(min(bias, top), abs=scale)


def test_rounding_moves_an_output_by_no_more_than_half_steps():
    rng = np.random.default_rng(0)
    features = rng.integers(-128, 128, (200, 4), dtype=np.int8)
    layers = [layer(rng.normal(0, 0.004, (4, 6)), rng.normal(0, 1, 6)), layer(rng.normal(0, 0.004, (4, 6)), rng.normal(0, 1, 6))]

    stored = store_layers(layers, TAP)
    exact, rounded = float_numbers(layers, features), stored.numbers(TAP, features)

    # Of the output, of each weight by what it is multiplied with, and of the bias.
    reach = np.abs(features.astype(int) - TAP.zero_point).sum(axis=1)[:, None] + 1
    bound = 0.501 * OUTPUT_SCALE[0] + 0.501 * reach * TAP.scale * stored.step
    assert exact.shape == rounded.shape == (200, 12)
    assert (np.abs(rounded - np.clip(exact, -6, 4)) < bound).all()
