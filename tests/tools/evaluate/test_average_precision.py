"""Average precision against figures worked out by hand, a published exercise, and COCO's own evaluator."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeannot.vision.data import Detections
from edgeannot_tools.evaluate.average_precision import (
    Truth,
    average_precision,
    coco_metrics,
    evaluate_detections,
    find_misses,
    precision_recall,
)

BOX = (10, 10, 30, 30)
FAR = (60, 60, 80, 80)


def found(*rows: tuple[float, tuple[float, ...], int]) -> Detections:
    """Detections from (score, box, class)."""
    return Detections(
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[0] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int64),
    )


def truth(*boxes, classes=None, difficult=None, crowd=None) -> Truth:
    n = len(boxes)
    flags = [np.array(flag if flag is not None else [False] * n, bool) for flag in (difficult, crowd)]
    return Truth(np.array(boxes, np.float64).reshape(-1, 4), np.array(classes if classes is not None else [0] * n, np.int64), *flags)


def test_no_pictures_have_no_precision():
    accuracy = evaluate_detections([])

    assert math.isnan(accuracy.map50)
    assert accuracy.classes == ()
    assert accuracy.objects == accuracy.detections == 0


def test_nothing_found_is_zero():
    accuracy = evaluate_detections([(truth(BOX), Detections.empty())])

    assert accuracy.map50 == 0.0
    assert accuracy.f1 == 0.0
    assert math.isnan(accuracy.mean_iou)


def test_everything_found_exactly_is_one():
    accuracy = evaluate_detections([(truth(BOX, FAR, classes=[0, 3]), found((0.9, BOX, 0), (0.8, FAR, 3)))])

    assert (accuracy.map50, accuracy.map50_95, accuracy.mean_iou, accuracy.f1) == (1.0, 1.0, 1.0, 1.0)
    assert accuracy.best_score == pytest.approx(0.8)


def test_a_second_box_on_one_object_is_wrong():
    accuracy = evaluate_detections([(truth(BOX, FAR), found((0.9, BOX, 0), (0.8, BOX, 0), (0.7, FAR, 0)))])

    # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: 0.5 * 1 + 0.5 * 2/3
    assert accuracy.map50 == pytest.approx(0.5 + 1 / 3)


def test_the_mean_is_over_classes_that_are_present():
    accuracy = evaluate_detections([(truth(BOX, classes=[2]), found((0.9, BOX, 2), (0.8, FAR, 5)))])

    assert accuracy.map50 == 1.0
    assert [row.class_id for row in accuracy.classes] == [2]


def test_detections_of_absent_classes_count_as_wrong_for_f1():
    accuracy = evaluate_detections([(truth(BOX, classes=[2]), found((0.9, FAR, 5), (0.8, BOX, 2)))])

    assert accuracy.precision == pytest.approx(0.5)


def test_a_difficult_object_counts_neither_way():
    pair = truth(BOX, FAR, difficult=[False, True])

    assert evaluate_detections([(pair, found((0.9, FAR, 0), (0.8, BOX, 0)))]).map50 == 1.0
    assert evaluate_detections([(pair, found((0.8, BOX, 0)))]).map50 == 1.0
    assert evaluate_detections([(pair, found((0.8, BOX, 0)))]).objects == 1


def test_any_number_of_detections_in_a_crowd_count_neither_way():
    pair = truth(BOX, (50, 50, 100, 100), crowd=[False, True])

    accuracy = evaluate_detections([(pair, found((0.9, FAR, 0), (0.85, (55, 55, 70, 70), 0), (0.8, BOX, 0)))])

    assert accuracy.map50 == 1.0


def test_overlap_decides_by_threshold():
    shifted = (10, 10, 30, 26)  # IoU 0.8 with BOX: right at 0.50 to 0.80, which are 7 of 10 thresholds

    accuracy = evaluate_detections([(truth(BOX), found((0.9, shifted, 0)))])

    assert accuracy.map50 == 1.0
    assert accuracy.map50_95 == pytest.approx(0.7)
    assert accuracy.mean_iou == pytest.approx(0.8)


def test_a_box_without_area_is_wrong_and_harmless():
    accuracy = evaluate_detections([(truth(BOX), found((0.9, (5, 5, 5, 5), 0), (0.8, BOX, 0)))])

    assert accuracy.map50 == pytest.approx(0.5)


def test_best_score_is_one_that_the_detections_have():
    """Two detections of one score are taken together or not at all."""
    pair = (truth(BOX), found((0.9, BOX, 0), (0.9, FAR, 0), (0.5, (0, 0, 5, 5), 0)))

    accuracy = evaluate_detections([pair])

    assert accuracy.best_score == pytest.approx(0.9)
    assert (accuracy.precision, accuracy.recall) == (0.5, 1.0)


@pytest.mark.parametrize(("points", "published"), [(None, 0.2457), (11, 0.2684)], ids=["all points", "11 points"])
def test_the_published_exercise_comes_out(points, published, data_dir):
    """Padilla et al., 7 pictures, 15 objects, 24 detections, IoU 0.3; results.txt gives the all-point AP, the repository's text the other.

    https://doi.org/10.3390/electronics10030279. Its pixels are inclusive, as in VOC: x + width is the last pixel.
    """
    folder = data_dir / "detection" / "map_padilla_txt"
    assert "AP: 24.57%" in (folder / "results" / "results.txt").read_text()
    pairs = []
    for file in sorted((folder / "groundtruths").glob("*.txt")):
        rows = [[float(word) for word in line.split()[1:]] for line in file.read_text().splitlines()]
        guesses = [[float(word) for word in line.split()[1:]] for line in (folder / "detections" / file.name).read_text().splitlines()]
        boxes = [(x, y, x + w + 1, y + h + 1) for x, y, w, h in rows]
        pairs.append((truth(*boxes), found(*((score, (x, y, x + w + 1, y + h + 1), 0) for score, x, y, w, h in guesses))))
    assert sum(len(one.classes) for one, _ in pairs) == 15

    if points is None:
        assert evaluate_detections(pairs, (0.3,)).map50 == pytest.approx(published, abs=5e-5)
    scores, right = judged(pairs, 0.3)
    assert average_precision(*precision_recall(scores, right, 15), points) == pytest.approx(published, abs=5e-5)


def judged(pairs, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Score and verdict of every detection, from the public list of misses."""
    scores, right = [], []
    for one, detections in pairs:
        _, wrong = find_misses(one, detections, 0.0, iou)
        scores += detections.scores.tolist()
        right += [row not in wrong for row in range(len(detections))]
    return np.array(scores, np.float64), np.array(right, bool)


def test_eleven_points_take_the_best_precision_at_each_recall():
    recall, precision = np.array([0.2, 0.4, 0.4, 0.6]), np.array([1.0, 1.0, 2 / 3, 0.75])

    # recall 0, .1, .2, .3, .4: 1; .5, .6: 0.75; beyond: nothing
    assert average_precision(recall, precision, 11) == pytest.approx((5 * 1 + 2 * 0.75) / 11)
    assert average_precision(np.zeros(0), np.zeros(0), 11) == 0.0


def random_pairs(rng: np.random.Generator, pictures: int) -> list[tuple[Truth, Detections]]:
    pairs = []
    for _ in range(pictures):
        corners = rng.uniform(0, 400, (rng.integers(0, 6), 2))
        boxes = np.hstack([corners, corners + rng.uniform(20, 120, corners.shape)])
        classes = rng.integers(0, 3, len(boxes))
        near = boxes + rng.normal(0, 6, boxes.shape)
        noise = rng.uniform(0, 300, (4, 2))
        guesses = np.vstack([near, np.hstack([noise, noise + rng.uniform(20, 120, noise.shape)])]).astype(np.float32)
        ids = np.concatenate([classes, rng.integers(0, 3, 4)])
        pairs.append((truth(*boxes, classes=classes), Detections(guesses, rng.uniform(0.02, 1, len(guesses)).astype(np.float32), ids)))
    return pairs


def test_coco_and_voc_agree_where_their_rules_do():
    """101 points against all points, and COCO lets a detection take its second choice: a hundredth apart on ordinary sets."""
    pairs = random_pairs(np.random.default_rng(3), 60)

    ours, theirs = evaluate_detections(pairs), coco_metrics(pairs)

    assert ours.map50 == pytest.approx(theirs.ap50, abs=0.012)
    assert ours.map50_95 == pytest.approx(theirs.ap, abs=0.012)
    assert 0.1 < theirs.ap < 0.9


def test_coco_counts_nothing_found_as_zero():
    assert coco_metrics([(truth(BOX), Detections.empty())]).ap == 0.0


def test_coco_figures_equal_those_of_pycocotools():
    """The fork stands in for the original, which is asked where it is installed."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    pairs = random_pairs(np.random.default_rng(7), 30)
    ours = coco_metrics(pairs)

    original = coco.COCO()
    xywh = lambda b: [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])]  # noqa: E731 - two uses below
    rows = [(n, b, int(c)) for n, (t, _) in enumerate(pairs, 1) for b, c in zip(t.boxes, t.classes, strict=True)]
    original.dataset = {
        "images": [{"id": n + 1} for n in range(len(pairs))],
        "categories": [{"id": n, "name": str(n)} for n in range(3)],
        "annotations": [
            {"id": k, "image_id": n, "category_id": c, "bbox": xywh(b), "area": xywh(b)[2] * xywh(b)[3], "iscrowd": 0}
            for k, (n, b, c) in enumerate(rows, 1)
        ],
    }
    original.createIndex()
    detections = [
        {"image_id": n, "category_id": int(c), "bbox": xywh(b.astype(np.float64)), "score": float(s)}
        for n, (_, d) in enumerate(pairs, 1)
        for b, c, s in zip(d.boxes, d.classes, d.scores, strict=True)
    ]
    run = cocoeval.COCOeval(original, original.loadRes(detections), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    wanted = (*run.stats[:6], run.stats[8])
    assert (ours.ap, ours.ap50, ours.ap75, ours.ap_small, ours.ap_medium, ours.ap_large, ours.ar100) == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_precision_is_a_share_and_the_order_of_pictures_means_nothing(seed):
    rng = np.random.default_rng(seed)
    pairs = random_pairs(rng, 4)

    accuracy = evaluate_detections(pairs)
    again = evaluate_detections(pairs[::-1])

    assert again.map50 == pytest.approx(accuracy.map50, nan_ok=True)
    assert again.mean_iou == pytest.approx(accuracy.mean_iou, nan_ok=True)
    if accuracy.classes:
        assert 0 <= accuracy.map50_95 <= accuracy.map50 <= 1


def test_a_miss_is_an_object_or_a_detection():
    pair = truth(BOX, FAR, classes=[0, 1])

    missed, wrong = find_misses(pair, found((0.9, BOX, 0), (0.8, BOX, 0), (0.7, FAR, 0), (0.1, FAR, 1)), 0.5)

    assert missed == [1]
    assert sorted(wrong) == [1, 2]


def test_where_nothing_is_marked_coco_has_no_figure():
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    wrong = Detections(np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))

    assert coco_metrics([]).ap == -1
    assert coco_metrics([(Truth.of([], []), wrong)]).ap == -1
    assert coco_metrics([(Truth.of([(0, 0, 9, 9)], [0]), Detections.empty())]).ap == 0
