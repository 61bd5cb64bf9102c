"""Real networks on real pictures: mean average precision as an evaluator of other hands found it."""

from __future__ import annotations

import hashlib
import re

import pytest

from edgeannot.vision.cards import read_card
from edgeannot_tools.datasets import load_dataset
from edgeannot_tools.evaluate.measure import evaluate_model, match_model

LETTERBOX = 'resize = "letterbox"'
SIGNED = "mean = [127.5]\nstd = [127.5]"
ROWS = 'kind = "yolo-rows"\noutput = 0\nlayout = "rows"\nobjectness = true\nbox_units = "normalized"'
COLUMNS = 'kind = "yolo-rows"\noutput = 0\nlayout = "columns"\nobjectness = false\nbox_units = "normalized"'
POSTPROCESS = 'kind = "ssd-postprocess"\nboxes = 0\nclasses = 1\nscores = 2\ncount = 3'
NAMED = "StatefulPartitionedCall"

CARDS = {
    "ssd_mnv1_coco_quant_pp": (300, "mean = [128.0]\nstd = [128.0]", POSTPROCESS, "labels_coco90_zero_based.txt"),
    "ssd_mnv2_fpnlite320_coco_tf2_f32io": (
        320,
        SIGNED,
        f'kind = "ssd-postprocess"\nboxes = "{NAMED}:3"\nclasses = "{NAMED}:2"\nscores = "{NAMED}:1"',
        "labels_coco90_zero_based.txt",
    ),
    "yolov5n_640_uint8": (640, LETTERBOX, ROWS, "labels_coco80.txt"),
    "yolov5n_640_fp16": (640, LETTERBOX, ROWS, "labels_coco80.txt"),
    "yolov8n_640_int8w_f32io": (640, LETTERBOX, COLUMNS, "labels_coco80.txt"),
    "yolov8n_224_int8io": (224, LETTERBOX, COLUMNS, "labels_coco80.txt"),
    "yolo26n_320_e2e_f32io": (320, LETTERBOX, 'kind = "end-to-end"\noutput = 0\nbox_units = "normalized"', "labels_coco80.txt"),
    "nanodet_m320_6outs_int8w": (
        320,
        'color = "BGR"\nmean = [103.53, 116.28, 123.675]\nstd = [57.375, 57.12, 58.395]',
        'kind = "dfl"\nstrides = [32, 16, 8]\nboxes = [0, 2, 4]\nscores = [1, 3, 5]\nbins = 8\nactivation = "none"',
        "labels_coco80.txt",
    ),
}


LONG = {"ssd_mnv2_fpnlite320_coco_tf2_f32io", "yolov5n_640_fp16", "yolov5n_640_uint8", "yolov8n_640_int8w_f32io"}
"""Large networks, of whose heads there is a smaller one here, too."""


def card_text(name: str, sha256: str) -> str:
    size, preprocess, head, labels = CARDS[name]
    return (
        f'schema = 1\nname = "{name}"\nfile = "{name}.tflite"\nsha256 = "{sha256}"\ntask = "detect"\nfamily = "other"\n'
        f'[input]\nwidth = {size}\nheight = {size}\n{preprocess}\n[head]\n{head}\n[labels]\nfile = "{labels}"\n'
    )


SET = "COCO val2017, 50 pictures"
"""What the card calls the set; it has rows of other sets too."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in CARDS])
def test_map50_is_the_published_one(name, data_dir, tmp_path):
    """Within 0.03: another resize filter or runtime moves a set of 50 pictures by as much."""
    line = next(line for line in (data_dir / "MANIFEST.tsv").read_text().splitlines() if f"{name}.tflite" in line)
    wanted = float(re.search(r"AP50 ([\d.]+) on coco_val50", line)[1])
    model = data_dir / "models" / f"{name}.tflite"
    for file in (model, data_dir / "models" / CARDS[name][3]):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / f"{name}.toml").write_text(card_text(name, hashlib.sha256(model.read_bytes()).hexdigest()))
    card = read_card(tmp_path / f"{name}.toml")
    data = load_dataset(data_dir / "detection" / "coco_val50" / "labels_yolo")

    result = evaluate_model(card, data, match_model(card, data), threads=2)

    assert result.accuracy.map50 == pytest.approx(wanted, abs=0.03)
    assert result.coco.ap50 == pytest.approx(result.accuracy.map50, abs=0.01)
    assert result.coco.ap == pytest.approx(result.accuracy.map50_95, abs=0.01)
    assert (result.pictures, result.accuracy.objects, result.left_out_objects) == (50, 361, 0)


@pytest.mark.parametrize("size", [224, 416])
def test_the_bundled_int8_yolo_is_as_good_as_its_float_model(size, data_dir, models_dir):
    """The card holds the float model's figure on the same pictures; this measures the int8 file that ships."""
    card = read_card(models_dir / "yolov3-tiny.toml")
    figures = {row.numbers: row.map50 for row in card.measured if (row.dataset, row.size) == (SET, size)}
    data = load_dataset(data_dir / "detection" / "coco_val50" / "labels_yolo")
    sized = card.at_size(size)
    found = evaluate_model(sized, data, match_model(sized, data), threads=2).accuracy.map50

    assert found >= figures["float32"] - 0.02
    assert abs(found - figures["int8"]) <= 0.02
