"""Several views of a picture for a classifier: which they are, their mean, and the card that asks for them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import numpy as np
import pytest

from edgeannot.base.errors import CardError
from edgeannot.vision.cards import Input, ModelCard, read_card
from edgeannot.vision.data import Frame, Outputs, RawTensor, TensorSpec
from edgeannot.vision.engine import Engine
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.pipeline import Pipeline, to_tensor
from edgeannot.vision.preprocess import ToTensor
from edgeannot.vision.views import mean_of, view_tensors
from edgeannot_tools.graph.writer import Net

SIDE = 20
SPEC = TensorSpec("input", 0, (1, SIDE, SIDE, 3), np.dtype(np.float32), 0.0, 0)


def picture():
    """Red in the left half, and a white frame that the centre does not show."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :100, 2] = 200
    image[:6] = image[-6:] = 255
    return image


def outputs(values, scale=0.0, zero_point=0):
    return Outputs([RawTensor(values, TensorSpec("out", 0, values.shape, values.dtype, scale, zero_point))])


def test_one_run_is_given_back_as_it_is_stored():
    one = outputs(np.array([[1, 2]], np.int8), 0.5)

    assert mean_of([one]) is one


def test_the_mean_of_several_runs_is_of_their_real_numbers():
    mean = mean_of([outputs(np.array([[10, 20]], np.int8), 0.5, 10), outputs(np.array([[12, 26]], np.int8), 0.5, 10)])

    assert mean[0].real().tolist() == [[0.5, 6.5]]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_the_views_are_the_whole_the_centre_and_their_mirror_images(layout):
    shape = (1, SIDE, SIDE, 3) if layout == "NHWC" else (1, 3, SIDE, SIDE)
    prepare = ToTensor(TensorSpec("input", 0, shape, np.dtype(np.float32), 0.0, 0), (SIDE, SIDE), layout=layout)

    (alone,), _ = view_tensors(picture(), prepare, 1)
    two, _ = view_tensors(picture(), prepare, 2)
    four, fit = view_tensors(picture(), prepare, 4)

    assert len(two) == 2
    assert len(four) == 4
    images = [tensor[0] if layout == "NHWC" else tensor[0].transpose(1, 2, 0) for tensor in four]
    np.testing.assert_array_equal(four[0], alone)
    np.testing.assert_array_equal(images[1], images[0][:, ::-1])
    np.testing.assert_array_equal(images[3], images[2][:, ::-1])
    assert images[0][0].max() == 1  # the frame
    assert images[2].max() < 1
    assert fit == prepare(picture())[1]


@pytest.mark.runtime
def test_a_classifier_with_views_averages_what_it_says_of_each(tmp_path):
    rng = np.random.default_rng(0)
    net = Net()
    x = net.input("images", (1, SIDE, SIDE, 3))
    y = net.conv("edges", x, rng.normal(size=(5, 3, 7, 7)).astype(np.float32), np.zeros(5, np.float32), stride=2, activation="relu")
    model = net.outputs([net.mean_hw("classes", y, keep_dims=False)]).to_bytes()
    card = ModelCard(
        schema=1,
        name="small",
        file="small.tflite",
        sha256=hashlib.sha256(model).hexdigest(),
        task="classify",
        family="other",
        input=Input(width=SIDE, height=SIDE, views=4),
        head=Classify(activation="softmax"),
    )
    engine = Engine(model)
    image = picture()
    each = [engine.run(tensor)[0].real().reshape(-1) for tensor in view_tensors(image, to_tensor(card, engine), 4)[0]]
    mean = np.mean(each, axis=0)

    found = Pipeline(card, engine)(Frame(image, "test", 0, datetime.now(UTC), "picture")).detections

    assert int(found.classes[0]) == int(mean.argmax())
    assert found.scores[0] == pytest.approx(np.exp(mean - mean.max()).max() / np.exp(mean - mean.max()).sum(), abs=1e-5)
    assert found.boxes[0].tolist() == [0, 0, 200, 100]


@pytest.mark.parametrize(("views", "head", "words"), [(4, "yolo-rows", "several views are for classifiers"), (3, "classify", "1, 2 or 4")])
def test_a_card_with_views_that_cannot_be_is_refused(tmp_path, views, head, words):
    more = 'layout = "rows"\nobjectness = false\nbox_units = "pixels"' if head == "yolo-rows" else ""
    path = tmp_path / "m.toml"
    path.write_text(
        f'schema = 1\nname = "m"\nfile = "m.tflite"\nsha256 = "{"0" * 64}"\ntask = "detect"\nfamily = "yolo"\n'
        f'[input]\nwidth = 20\nheight = 20\nviews = {views}\n[head]\nkind = "{head}"\noutput = 0\n{more}'
    )

    with pytest.raises(CardError, match=words):
        read_card(path)
