"""Anchor rules, against counts and boxes that are published with the networks or follow from their configuration by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.vision.engine import load_runtime
from edgeannot.vision.heads._anchors import find_layers, make_anchors
from edgeannot.vision.heads.ssd_anchors import AnchorLayer, OctaveAnchors, ScaledAnchors

SSD_300 = ScaledAnchors(strides=(16, 32, 64, 128, 256, 512), reduce_lowest=True)


def near(*numbers):
    return pytest.approx(numbers, abs=1e-5)


def test_no_layers_have_no_anchors():
    assert make_anchors(ScaledAnchors(strides=()), (300, 300)).shape == (0, 4)
    assert make_anchors((), (300, 300)).shape == (0, 4)


def test_ssd_mobilenet_300_has_its_1917_anchors():
    anchors = make_anchors(SSD_300, (300, 300))
    assert anchors.shape == (19 * 19 * 3 + (10 * 10 + 5 * 5 + 3 * 3 + 2 * 2 + 1) * 6, 4)
    # First cell: scale 0.1 square, then the first layer's 0.2 with ratios 2 and 1/2.
    assert anchors[0].tolist() == near(0.5 / 19, 0.5 / 19, 0.1, 0.1)
    assert anchors[1].tolist() == near(0.5 / 19, 0.5 / 19, 0.2 * 2**0.5, 0.2 / 2**0.5)
    assert anchors[2].tolist() == near(0.5 / 19, 0.5 / 19, 0.2 / 2**0.5, 0.2 * 2**0.5)
    assert anchors[3].tolist() == near(1.5 / 19, 0.5 / 19, 0.1, 0.1)
    # Second layer: scale 0.35 with five ratios, then the mean of 0.35 and 0.5.
    second = anchors[19 * 19 * 3 :]
    assert second[0].tolist() == near(0.05, 0.05, 0.35, 0.35)
    assert second[5].tolist() == near(0.05, 0.05, (0.35 * 0.5) ** 0.5, (0.35 * 0.5) ** 0.5)
    # Last layer: one cell, scale 0.95, and the mean with 1.
    assert anchors[-1].tolist() == near(0.5, 0.5, 0.95**0.5, 0.95**0.5)


@pytest.mark.parametrize("size", [236, 300, 364])
def test_boxes_of_a_reference_size_keep_their_pixels_at_other_sizes(size):
    """A network that slides over a larger picture sees objects of the same pixels: the lowest box and the last one too."""
    rule = ScaledAnchors(strides=SSD_300.strides, reduce_lowest=True, reference_size=300)
    pixels = make_anchors(rule, (size, size))[:, 2:] * size
    trained = make_anchors(SSD_300, (300, 300))[:, 2:] * 300

    np.testing.assert_allclose(pixels[:3], trained[:3], rtol=1e-5)
    np.testing.assert_allclose(pixels[-6:], trained[-6:], rtol=1e-5)
    np.testing.assert_allclose(np.unique(pixels.round(2), axis=0), np.unique(trained.round(2), axis=0), rtol=1e-3)
    cells = -(-size // 16)
    assert make_anchors(rule, (size, size))[3, :2].tolist() == near(1.5 / cells, 0.5 / cells)


def test_a_reference_size_is_the_shorter_side_of_an_oblong_input():
    rule = ScaledAnchors(strides=(32,), aspect_ratios=(1.0,), interpolated_aspect_ratio=0, min_scale=0.5, max_scale=0.5, reference_size=160)
    without = ScaledAnchors(strides=(32,), aspect_ratios=(1.0,), interpolated_aspect_ratio=0, min_scale=0.5, max_scale=0.5)

    np.testing.assert_array_equal(make_anchors(rule, (320, 160)), make_anchors(without, (320, 160)))
    assert (make_anchors(rule, (640, 320))[0, 2:] * (640, 320)).tolist() == near(80, 80)


def test_boxes_as_large_as_the_input_are_so_at_every_size():
    rule = ScaledAnchors(strides=(8, 16), unit_size=True, reference_size=128)
    assert (make_anchors(rule, (256, 256))[:, 2:] == 1).all()


def test_listed_scales_are_used_as_they_are():
    anchors = make_anchors(ScaledAnchors(strides=(16, 32), scales=(0.3, 0.7), aspect_ratios=(1.0,)), (32, 32))
    assert anchors[:, 2].tolist() == near(*[0.3, (0.3 * 0.7) ** 0.5] * 4, 0.7, 0.7**0.5)


def test_blazeface_has_896_unit_anchors_and_layers_of_one_stride_share_their_cells():
    rule = ScaledAnchors(strides=(8, 16, 16, 16), min_scale=0.1484375, max_scale=0.75, aspect_ratios=(1.0,), unit_size=True)
    anchors = make_anchors(rule, (128, 128))
    assert anchors.shape == (16 * 16 * 2 + 8 * 8 * 6, 4)
    assert (anchors[:, 2:] == 1).all()
    assert anchors[0].tolist() == anchors[1].tolist() == near(0.03125, 0.03125, 1, 1)
    assert anchors[512:518, :2].tolist() == [near(0.0625, 0.0625)] * 6
    assert anchors[518, :2].tolist() == near(0.1875, 0.0625)


def test_a_square_anchor_is_square_in_pixels_on_an_oblong_input():
    anchors = make_anchors(ScaledAnchors(strides=(32,), aspect_ratios=(1.0,), interpolated_aspect_ratio=0), (320, 160))
    assert anchors.shape == (50, 4)
    assert (anchors[:, 2] * 320).tolist() == near(*(anchors[:, 3] * 160).tolist())


def test_fpn_320_has_its_12804_anchors():
    anchors = make_anchors(OctaveAnchors(), (320, 320))
    assert anchors.shape == ((40 * 40 + 20 * 20 + 10 * 10 + 5 * 5 + 3 * 3) * 6, 4)
    assert anchors[0].tolist() == near(4 / 320, 4 / 320, 32 / 320, 32 / 320)
    assert anchors[1].tolist() == near(4 / 320, 4 / 320, 32 * 2**0.5 / 320, 32 * 2**0.5 / 320)
    assert anchors[2].tolist() == near(4 / 320, 4 / 320, 32 * 2**0.5 / 320, 32 / 2**0.5 / 320)
    # 128 does not divide 320, so the last level's boxes sit on the corners of their cells.
    assert anchors[-54, :2].tolist() == near(0, 0)
    assert anchors[-48, :2].tolist() == near(128 / 320, 0)


def test_efficientdet_lite0_has_its_19206_anchors_on_evenly_spread_cells():
    anchors = make_anchors(OctaveAnchors(anchor_scale=3, scales_per_octave=3, order="scales", even=True), (320, 320))
    assert anchors.shape == ((40 * 40 + 20 * 20 + 10 * 10 + 5 * 5 + 3 * 3) * 9, 4)
    assert anchors[1].tolist() == near(4 / 320, 4 / 320, 24 * 2**0.5 / 320, 24 / 2**0.5 / 320)
    assert anchors[3].tolist() == near(4 / 320, 4 / 320, 24 * 2 ** (1 / 3) / 320, 24 * 2 ** (1 / 3) / 320)
    # The last level has 3 x 3 cells of 320 / 3 pixels.
    assert anchors[-81].tolist() == near(1 / 6, 1 / 6, 1, 1)


@pytest.mark.runtime
@pytest.mark.parametrize(
    ("name", "rule", "side"),
    [("ssd_mnv1_coco_quant_pp", SSD_300, 300), ("ssd_mnv2_fpnlite320_coco_tf2_f32io", OctaveAnchors(), 320)],
)
def test_rules_make_the_anchors_that_real_graphs_carry_for_their_postprocessing(data_dir, name, rule, side):
    anchors = make_anchors(rule, (side, side))
    _, module = load_runtime()
    interpreter = module.Interpreter(model_path=str(data_dir / "models" / f"{name}.tflite"))
    interpreter.allocate_tensors()
    (found,) = [d for d in interpreter.get_tensor_details() if d["name"] and tuple(d["shape"]) == anchors.shape]
    scale, zero_point = found["quantization"]
    carried = interpreter.get_tensor(found["index"])
    carried = (carried.astype(np.float32) - zero_point) * scale if scale else carried
    # There a box is y, x, height, width; quantized ones come in steps.
    assert np.abs(carried[:, [1, 0, 3, 2]] - anchors).max() < max(scale, 1e-4)


def test_listed_sizes_make_the_4420_priors_of_a_320_by_240_face_detector():
    layers = tuple(
        AnchorLayer(stride=s, sizes=tuple((w, w) for w in widths))
        for s, widths in ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))
    )
    anchors = make_anchors(layers, (320, 240))
    assert anchors.shape == (4420, 4)
    assert anchors[0].tolist() == near(4 / 320, 4 / 240, 10 / 320, 10 / 240)
    assert anchors[-1].tolist() == near(4.5 * 64 / 320, 3.5 * 64 / 240, 256 / 320, 256 / 240)


def test_anchors_are_made_once_and_cannot_be_written_to():
    anchors = make_anchors(SSD_300, (300, 300))
    assert make_anchors(SSD_300, (300, 300)) is anchors
    with pytest.raises(ValueError, match="read-only"):
        anchors[0] = np.zeros(4)


# -- from anchors to their rule ------------------------------------------------------------------------------------------------

MODEL_MAKER = {"anchor_scale": 3, "scales_per_octave": 3, "aspect_ratios": (0.5, 1, 2), "order": "scales"}
"""MediaPipe's model maker (`object_detector/model.py`)."""


def test_no_anchors_have_no_layers():
    assert find_layers(np.zeros((0, 4), np.float32), (256, 256)) is None


@pytest.mark.parametrize(
    ("rule", "input_wh", "layers"),
    [
        (OctaveAnchors(**MODEL_MAKER), (256, 256), 5),
        (OctaveAnchors(**MODEL_MAKER, max_level=6), (320, 320), 4),
        (OctaveAnchors(**MODEL_MAKER), (384, 384), 5),
        # EfficientDet spreads the three cells of its last level evenly over 320 pixels.
        (OctaveAnchors(anchor_scale=3, scales_per_octave=3, order="scales", even=True), (320, 320), 5),
        (OctaveAnchors(anchor_scale=3, scales_per_octave=3, order="scales", even=True), (448, 448), 5),
        # On an axis that its stride does not divide, TensorFlow's FPN has boxes at the near edge of their cells.
        (OctaveAnchors(), (320, 320), 5),
        (SSD_300, (300, 300), 6),
        (ScaledAnchors(strides=(16, 32, 64, 128, 256, 512)), (320, 320), 6),
        (ScaledAnchors(strides=(8, 16, 16, 16), aspect_ratios=(1.0,), unit_size=True), (128, 128), 2),
        (ScaledAnchors(strides=(16, 32), aspect_ratios=(1.0, 2.0)), (320, 192), 2),
        ((AnchorLayer(stride=8, sizes=((10, 10), (16, 24))), AnchorLayer(stride=64, sizes=((128, 64),))), (320, 240), 2),
        ((AnchorLayer(stride=96, sizes=((10, 10),)),), (96, 96), 1),
    ],
)
def test_layers_are_found_again_in_the_anchors_of_every_rule(rule, input_wh, layers):
    anchors = make_anchors(rule, input_wh)

    found = find_layers(anchors, input_wh)

    assert len(found) == layers
    assert np.abs(make_anchors(found, input_wh) - anchors).max() < 1e-5


def test_the_last_bits_of_a_stored_number_do_not_matter():
    """Files hold anchors that went from pixels to shares and back, in single precision."""
    anchors = make_anchors(OctaveAnchors(**MODEL_MAKER), (256, 256))
    rough = anchors * (1 + np.random.default_rng(1).uniform(-3e-7, 3e-7, anchors.shape).astype(np.float32))

    found = find_layers(rough, (256, 256))

    assert [layer.stride for layer in found] == [8, 16, 32, 64, 128]
    assert [len(layer.sizes) for layer in found] == [9] * 5
    assert found[0].sizes[:2] == ((16.9706, 33.9411), (24.0, 24.0))


@pytest.mark.parametrize("spoil", ["one moved", "one larger", "one less", "shuffled", "anywhere"])
def test_anchors_that_lie_on_no_grid_have_no_layers(spoil):
    anchors = make_anchors(OctaveAnchors(**MODEL_MAKER), (256, 256)).copy()
    rng = np.random.default_rng(2)
    if spoil == "one moved":
        anchors[100, 0] += 0.01
    elif spoil == "one larger":
        anchors[100, 2] *= 1.01
    elif spoil == "one less":
        anchors = np.delete(anchors, 100, axis=0)
    elif spoil == "shuffled":
        rng.shuffle(anchors)
    else:
        anchors = rng.uniform(0.01, 1, anchors.shape).astype(np.float32)

    assert find_layers(anchors, (256, 256)) is None
