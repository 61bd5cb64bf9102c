"""Text on the sheets, and boxes: marked and found can be told apart without colour."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot_tools.evaluate.drawings import draw_box, write_text


def written(text, width=120):
    image = np.zeros((20, width, 3), np.uint8)
    write_text(image, text, (4, 15), 0.42)
    return image


def test_no_text_leaves_the_image_as_it_is():
    assert not written("").any()


@pytest.mark.parametrize("text", ["raccoon 0.91, raccoon 0.85, raccoon 0.52", "é" * 60])
def test_a_long_line_ends_before_the_edge_of_its_image(text):
    """Tiles stand side by side without a gap: a line that is cut by the edge runs into its neighbour's."""
    image = written(text)

    assert image[:, :100].any()
    assert not image[:, -3:].any()


def drawn(box, **options):
    """What is drawn of a box, in gray."""
    image = np.zeros((60, 100, 3), np.uint8)
    draw_box(image, box, (200, 200, 200), 1, **options)
    return image[:, :, 0] > 100


def test_a_box_without_area_does_no_harm():
    drawn((5, 5, 5, 5), dashed=True, crossed=True)


def test_a_marked_box_is_a_whole_line_and_a_found_one_a_dashed():
    whole, dashed = drawn((10, 10, 90, 50))[10, 11:89], drawn((10, 10, 90, 50), dashed=True)[10, 11:89]

    assert whole.all()
    assert 0.3 < dashed.mean() < 0.8
    assert np.count_nonzero(np.diff(dashed.astype(int)) == 1) >= 3


def test_a_wrong_one_is_crossed_too():
    assert not drawn((10, 10, 90, 50), dashed=True)[20:40, 20:80].any()
    assert drawn((10, 10, 90, 50), dashed=True, crossed=True)[20:40, 20:80].any()
