"""`edgeannot convert` for Darknet: the pair is found, the card comes from the cfg, and the model finds what OpenCV's reader finds."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import CardError, InputError, MissingError
from edgeannot.vision.cards import read_card
from edgeannot.vision.data import Frame
from edgeannot.vision.engine import Engine
from edgeannot.vision.heads.yolo_grid import YoloGrid
from edgeannot.vision.pipeline import load_pipeline
from edgeannot_tools.convert import darknet
from edgeannot_tools.convert.command import convert_app
from edgeannot_tools.convert.darknet_route import find_pair
from tests.tools.agreement import disagreements

CONV = "[convolutional]\nfilters={}\nsize=3\nstride={}\npad=1\nactivation=leaky\n"
OUTPUT = "[convolutional]\nfilters={}\nsize=1\nstride=1\nactivation={}\n"
YOLO = "[yolo]\nmask={}\nanchors=10,14, 23,27, 37,58, 81,82, 135,169, 344,319\nclasses=2\nnum=6\n"
BODY = "[net]\nwidth=64\nheight=32\nchannels=3\n" + CONV.format(4, 2) + CONV.format(8, 2)
ONE_HEAD = BODY + OUTPUT.format(21, "linear") + YOLO.format("0,1,2")
TWO_HEADS = ONE_HEAD + "[route]\nlayers=1\n" + OUTPUT.format(21, "linear") + YOLO.format("0,1,2")
REGION = BODY + OUTPUT.format(14, "linear") + "[region]\nanchors=1,1.5, 2,2\nclasses=2\ncoords=4\nnum=2\nsoftmax=1\n"
NEW_COORDS = BODY + OUTPUT.format(21, "logistic") + YOLO.format("0,1,2") + "scale_x_y=2.0\nnew_coords=1\n"
CLASSIFIER = BODY + OUTPUT.format(5, "linear") + "[avgpool]\n[softmax]\ngroups=1\n"


class Noise:
    """Weights of sensible size, kept in the order of a .weights file."""

    def __init__(self):
        self.random, self.taken = np.random.default_rng(3), []

    def take(self, count, layer, what):
        self.taken.append(self.random.normal(0, 0.3, count).astype(np.float32))
        return self.taken[-1]


@pytest.fixture
def pair(tmp_path):
    """Writes a cfg and random weights for it."""

    def write(cfg, stem="net"):
        noise = Noise()
        darknet.Network(darknet.parse_cfg(cfg), noise, "cfg", None)
        (tmp_path / f"{stem}.cfg").write_text(cfg)
        header = np.array([0, 2, 5, 0, 0], "<i4").tobytes()
        (tmp_path / f"{stem}.weights").write_bytes(header + np.concatenate(noise.taken).tobytes())
        return tmp_path / f"{stem}.cfg", tmp_path / f"{stem}.weights"

    return write


@pytest.fixture
def convert(tmp_path):
    """The command; gives the card's path, or raises what the command raised."""

    def run(*words):
        out = tmp_path / "made" / "out.tflite"
        result = CliRunner().invoke(convert_app, [*map(str, words), "-o", str(out)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        run.output = result.output
        return out.with_suffix(".toml")

    return run


@pytest.mark.parametrize(
    ("name", "labels"),
    [("yolo-fastest-1.1", "labels_coco80.txt"), ("MobileNetV2-YOLO-Fastest-voc-v2", "labels_voc20.txt"), ("yoloface-50k", None)],
)
def test_a_published_network_finds_through_the_pipeline_what_opencv_finds(name, labels, data_dir, convert, tmp_path):
    if labels is None:
        labels = tmp_path / "face.txt"
        labels.write_text("face\n")
    card = read_card(convert(data_dir / "models" / "darknet" / f"{name}.cfg", "--labels", data_dir / "models" / labels))

    assert disagreements(card, data_dir, f"darknet_{name}") == []


def test_the_card_says_what_the_cfg_says(pair, convert):
    cfg, weights = pair(TWO_HEADS + "scale_x_y=1.05\n")
    card = read_card(convert(cfg, weights))

    assert card.input_wh == (64, 32)
    assert card.input.color == "RGB"
    assert (card.input.mean, card.input.std) == ((0.0,), (255.0,))
    assert isinstance(card.head, YoloGrid)
    assert [grid.output for grid in card.head.grids] == ["head0", "head1"]
    assert [grid.xy_scale for grid in card.head.grids] == [1.0, 1.05]
    assert card.head.grids[0].anchors == ((10, 14), (23, 27), (37, 58))
    assert card.provenance.made_by == "edgeannot convert net.cfg net.weights"
    assert card.macs > 0


def test_a_region_network_gives_the_same_boxes_as_the_formulas_of_the_paper(pair, convert):
    """YOLOv2: centre = cell + s(t), size = anchor * exp(t) in cells, score = s(objectness) * softmax(classes)."""
    card = read_card(convert(pair(REGION)[0]))
    assert isinstance(card.head, YoloGrid)
    image = np.random.default_rng(5).integers(0, 256, (32, 64, 3), np.uint8)
    found = load_pipeline(card)(Frame(image, "t", 0, datetime.now(UTC), "t")).detections

    tensor = image[None, ..., ::-1].astype(np.float32) / np.float32(255)
    numbers = Engine(card.model_path).run(tensor)[0].real()[0].reshape(8, 16, 2, 7)
    exponentials = np.exp(numbers[..., 5:])
    scores = 1 / (1 + np.exp(-numbers[..., 4])) * (exponentials / exponentials.sum(axis=-1, keepdims=True)).max(axis=-1)
    row, column, anchor = np.unravel_index(np.argmax(scores), scores.shape)
    x, y = ((c + 1 / (1 + np.exp(-t))) * 4 for c, t in zip((column, row), numbers[row, column, anchor, :2], strict=True))
    w, h = (a * np.exp(t) * 4 for a, t in zip(((1, 1.5), (2, 2))[anchor], numbers[row, column, anchor, 2:4], strict=True))
    wanted = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, [64, 32, 64, 32])
    assert found.scores[0] == pytest.approx(scores.max(), abs=1e-4)
    assert found.boxes[0] == pytest.approx(wanted, abs=0.02)


def test_new_coordinates_are_read_without_another_logistic_function(pair, convert):
    head = read_card(convert(pair(NEW_COORDS)[0])).head

    assert isinstance(head, YoloGrid)
    assert (head.activation, head.class_activation, head.size, head.xy_scale) == ("none", "none", "square", 2.0)


def test_a_network_without_heads_is_a_classifier(pair, convert):
    card = read_card(convert(pair(CLASSIFIER)[0]))

    assert (card.task, card.head.kind) == ("classify", "classify")


def test_a_network_that_ends_in_a_map_is_converted_without_a_card(pair, convert):
    path = convert(pair(BODY)[0])

    assert path.with_suffix(".tflite").is_file()
    assert not path.exists()
    assert "no card was written" in convert.output
    with pytest.raises(CardError, match="ends in a map"):
        convert(pair(BODY)[0], "--card")


def test_another_size_is_made_of_the_same_weights(pair, convert):
    assert read_card(convert(pair(ONE_HEAD)[0], "--size", "96x64")).input_wh == (96, 64)


@pytest.mark.parametrize("size", ["66", "102x64", "64x63"])
def test_a_size_that_the_strides_do_not_divide_is_refused_with_advice(size, pair, convert, tmp_path):
    with pytest.raises(InputError, match=r"--size .*multiples of 32"):
        convert(pair(ONE_HEAD)[0], "--size", size)
    assert not (tmp_path / "made").exists()


def test_one_mask_is_the_last_heads(pair, convert):
    grids = read_card(convert(pair(TWO_HEADS)[0], "--mask", "3,4,5")).head.grids

    assert [grid.anchors[0] for grid in grids] == [(10, 14), (81, 82)]


def test_as_many_masks_as_heads_are_each_ones(pair, convert):
    card = read_card(convert(pair(TWO_HEADS)[0], "--mask", "3,4,5", "--mask", "1,2,3"))

    assert [grid.anchors[0] for grid in card.head.grids] == [(81, 82), (23, 27)]
    assert card.provenance.made_by.endswith("--mask 3,4,5 --mask 1,2,3")


def test_a_number_of_masks_that_fits_no_heads_is_refused(pair, convert):
    with pytest.raises(InputError, match=r"has 2 \[yolo\] sections"):
        convert(pair(TWO_HEADS)[0], "--mask", "1,2,3", "--mask", "1,2,3", "--mask", "1,2,3")


def test_the_mask_of_yolov3_tiny_is_warned_about_with_the_option_that_mends_it(pair, convert):
    tiny = BODY + OUTPUT.format(21, "linear") + YOLO.format("3,4,5") + TWO_HEADS[len(ONE_HEAD) :]
    convert(pair(tiny)[0])

    assert "--mask 1,2,3" in convert.output
    convert(pair(tiny)[0], "--mask", "1,2,3")
    assert "warning" not in convert.output


def test_class_names_are_those_beside_the_cfg_when_there_are_as_many(pair, convert, tmp_path):
    cfg, _ = pair(ONE_HEAD)
    assert read_card(convert(cfg)).label_names() == ()
    assert "--labels" in convert.output
    (tmp_path / "wrong.names").write_text("a\nb\nc\n")
    (tmp_path / "right.names").write_text("cat\ndog\n")
    assert read_card(convert(cfg)).label_names() == ("cat", "dog")
    assert "right.names" in convert.output


def test_given_class_names_must_be_as_many_as_the_classes(pair, convert, tmp_path):
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    with pytest.raises(InputError, match="has 3 names, the model has 2 classes"):
        convert(pair(ONE_HEAD)[0], "--labels", tmp_path / "three.txt")


@pytest.mark.parametrize("given", ["net.cfg", "net.weights"])
def test_one_file_of_a_pair_finds_the_other(given, pair, tmp_path):
    both = pair(ONE_HEAD)
    assert find_pair([tmp_path / given]) == both
    assert find_pair([both[1], both[0]]) == both


def test_weights_that_the_trainer_named_are_found(pair, tmp_path):
    cfg, weights = pair(ONE_HEAD)
    best = weights.rename(tmp_path / "net_best.weights")
    assert find_pair([cfg]) == (cfg, best)
    assert find_pair([best]) == (cfg, best)
    shutil.copy(best, tmp_path / "net_last.weights")
    with pytest.raises(InputError, match=r"several are there .*net_best.weights, net_last.weights"):
        find_pair([cfg])


def test_a_lonely_file_is_missed_by_name(pair):
    cfg, weights = pair(ONE_HEAD)
    weights.unlink()
    with pytest.raises(MissingError, match=r"net\.cfg needs its \.weights"):
        find_pair([cfg])


BAD = {
    "syntax": (lambda cfg, weights: cfg.write_text("[net]\nwidth 64\n"), "line 2: wanted"),
    "section": (lambda cfg, weights: cfg.write_text(ONE_HEAD + "[lstm]\n"), r"\[lstm\], which is not supported"),
    "truncated": (lambda cfg, weights: weights.write_bytes(weights.read_bytes()[:-40]), "ends too early"),
    "another cfg's": (lambda cfg, weights: cfg.write_text(ONE_HEAD.replace("filters=8", "filters=7")), "are left over"),
    "empty weights": (lambda cfg, weights: weights.write_bytes(b""), "too short"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_sentence_and_leaves_nothing(name, pair, convert, tmp_path):
    spoil, message = BAD[name]
    spoil(*(files := pair(ONE_HEAD)))
    with pytest.raises(InputError, match=message):
        convert(files[0])
    assert not (tmp_path / "made").exists()
