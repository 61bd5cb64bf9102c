"""The page of quantizers keeps what is written by hand, and the maps of a float network are rounded one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.bundled import rounded_maps
from benchmarks.networks import Places
from benchmarks.quantizers.page import BY_HAND, page
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
