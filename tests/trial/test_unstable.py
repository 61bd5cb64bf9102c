"""Files whose numbers cannot be relied on: not finite in one run of several, or another from load to load."""

from __future__ import annotations

import pytest

from edgeannot.errors import ModelError
from edgeannot.inspect import propose

pytestmark = pytest.mark.runtime


def test_a_file_that_changes_from_load_to_load_is_refused_each_time(data_dir):
    for _ in range(10):
        with pytest.raises(ModelError):
            propose(data_dir / "field" / "y11seg.tflite")


def test_one_of_its_kind_that_is_the_same_each_time_is_taken_each_time(data_dir):
    for _ in range(10):
        assert propose(data_dir / "field" / "y8nseg.tflite").card.task == "detect"
