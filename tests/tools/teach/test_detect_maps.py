"""Which feature maps a taught detector reads: finer ones for small objects, none that no object needs."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.vision.cards import read_card
from edgeannot.vision.data import FloatArray
from edgeannot_tools.teach.detect.backbone import load_backbone, sized_graph
from edgeannot_tools.teach.detect.bands import choose_maps, size_bins, stride_bands
from edgeannot_tools.teach.detect.examples import Map


def squares(*sides: float) -> FloatArray:
    return np.float32([(0, 0, side, side) for side in sides])


@pytest.fixture(scope="module")
def ssdlite(models_dir):
    return load_backbone(read_card(models_dir / "ssdlite-mobilenet-v2-coco.toml"), 320)


def strides(backbone):
    return [tap.stride for tap in backbone.taps]


def test_large_objects_need_no_finer_map(ssdlite):
    chosen = choose_maps(ssdlite, squares(80, 100, 200))

    assert (strides(chosen), chosen.finer) == ([16, 32, 64], False)


def test_small_objects_have_a_finer_map_and_none_coarser_than_what_is_read_beside_it(ssdlite):
    chosen = choose_maps(ssdlite, squares(8, 10, 15))
    graph = sized_graph(ssdlite.card, 320)

    assert (strides(chosen), chosen.finer) == ([8, 16, 32], True)
    assert graph.shape(graph.find(chosen.taps[0].tensor)) == (1, 40, 40, chosen.taps[0].channels)
    assert chosen.taps[1:] == ssdlite.taps[:2]
    assert [chosen.context(tap) for tap in range(3)] == [None, 2, None]


def test_the_finer_map_is_for_the_smallest_alone(ssdlite):
    boxes = squares(*np.geomspace(10, 100, 50))
    chosen = choose_maps(ssdlite, boxes)

    for band in size_bins(chosen, boxes):
        assert (strides(chosen)[band.tap] == 8) == (band.anchor_wh[0] < 22)
    first, second = stride_bands(chosen, boxes)[:2]
    assert (first.tap, second.tap) == (0, 1)
    assert (first.highest, second.lowest) == pytest.approx((30, 16.8))


def test_a_detector_with_fine_maps_of_its_own_needs_no_other(models_dir):
    nanodet = load_backbone(read_card(models_dir / "nanodet-g.toml"), 416)

    assert strides(nanodet)[0] == 8
    assert not choose_maps(nanodet, squares(8, 10, 15)).finer
    assert not any(tap.context for tap in nanodet.taps)  # it joins its maps itself


@pytest.mark.parametrize("cells", [(20, 10), (19, 10)])
def test_each_cell_has_what_lies_under_it_on_the_coarser_map(cells):
    """Also where the last cells reach over the edge of the input."""
    fine, coarse = (np.arange(count)[:, None, None] * np.ones((1, count, 1)) for count in cells)
    both = Map(np.int8([fine]), np.int8([coarse]))

    read = both.cells(slice(0, 1))[0]
    rows, columns = np.mgrid[: cells[0], : cells[0]]

    assert read.shape == (cells[0], cells[0], both.channels) == (cells[0], cells[0], 2)
    assert np.array_equal(read[:, :, 0], rows)
    assert np.array_equal(read[:, :, 1], rows // 2)
    assert np.array_equal(both.at(np.zeros(rows.size, int), rows.ravel(), columns.ravel()), read.reshape(-1, 2))
