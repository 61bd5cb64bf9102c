"""Lines of text on the sheets."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot_tools.evaluate.drawings import write_text


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
