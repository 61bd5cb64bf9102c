"""The page of quantizers keeps what is written by hand, and what int8 costs is counted as that page says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.bundled import off_by_one, rounded_maps, sure_boxes
from benchmarks.networks import Places
from benchmarks.quantizers.page import BY_HAND, page
from edgeannot.vision.data import Detections
from edgeannot_tools.graph.graph import Graph, Quantization
from edgeannot_tools.graph.interpreter import open_interpreter
from tests.made_networks import fomo_network

PLACES = Places(Path(), Path(), Path(), None, None, None)


def answer(graph: Graph) -> np.ndarray:
    """Run the graph once on a picture of noise."""
    interpreter = open_interpreter(graph.to_bytes(), None)
    [image], [out] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(image["index"], np.random.default_rng(5).random(image["shape"]).astype(np.float32) * 255)
    interpreter.invoke()
    return interpreter.get_tensor(out["index"])


def test_a_page_without_a_section_by_hand_gets_none_and_one_with_it_keeps_it_as_it_is():
    assert BY_HAND not in page([], PLACES, 60.0)
    before = f"| an old table |\n\n{BY_HAND}\n\nA word.\n"
    after = page([], PLACES, 60.0, before)
    assert after.endswith(f"\n\n{BY_HAND}\n\nA word.\n")
    assert "old table" not in after


def test_of_a_float_network_only_the_maps_that_are_named_are_rounded():
    graph = fomo_network()
    [output] = graph.outputs
    exact = answer(rounded_maps(graph, {}))
    steps = {output: Quantization(np.array([0.25], np.float32), np.array([-128]), 0)}

    coarse = answer(rounded_maps(graph, steps))

    assert np.array_equal(exact, answer(graph))
    assert np.array_equal(coarse, np.rint(exact.clip(0, 255 * 0.25) / 0.25) * 0.25)
    assert not np.array_equal(coarse, exact)


def seen(*rows: tuple[float, float, int]) -> Detections:
    """Return boxes of 100 pixels, each with its left side, score and class."""
    lefts, scores, classes = np.array(rows, np.float32).reshape(-1, 3).T
    boxes = np.stack([lefts, np.zeros_like(lefts), lefts + 100, np.full_like(lefts, 100)], axis=1)
    return Detections(boxes, scores, classes.astype(np.int64))


def test_only_sure_boxes_count_and_agree_with_one_of_their_class_at_nearly_their_score():
    none = sure_boxes([seen()], [seen((0, 0.9, 1))], 0.3)
    assert (none.boxes, none.agree, none.lost) == (0, 0, 0)

    found = seen((0, 0.9, 1), (200, 0.9, 1), (400, 0.9, 1), (600, 0.9, 1), (800, 0.4, 1))
    kept = sure_boxes([found], [seen((0, 0.86, 1), (200, 0.84, 1), (440, 0.9, 1), (600, 0.9, 2))], 0.3)

    assert (kept.boxes, kept.agree, kept.lost) == (4, 1, 2)


def test_bytes_off_by_one_stay_bytes_and_move_both_ways():
    image = np.tile(np.array([0, 100, 255], np.uint8), (50, 50, 1))
    moved = off_by_one(image, np.random.default_rng(0))
    assert moved.dtype == np.uint8
    assert [sorted(set(moved[..., channel].ravel().tolist())) for channel in range(3)] == [[0, 1], [99, 100, 101], [254, 255]]
