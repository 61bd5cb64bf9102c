"""Files whose numbers cannot be relied on: not finite in one run of several, or another from load to load."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgeannot.base.errors import ModelError
from edgeannot.card_inference import propose
from edgeannot.trial.loads import try_model
from tests.tflite_maker import write

pytestmark = pytest.mark.runtime


TEN = pytest.param(10, marks=pytest.mark.long)


@pytest.mark.parametrize("times", [2, TEN])
def test_a_file_that_changes_from_load_to_load_is_refused_each_time(data_dir, times):
    for _ in range(times):
        with pytest.raises(ModelError):
            propose(data_dir / "field" / "y11seg.tflite")


@pytest.mark.parametrize("times", [1, TEN])
def test_one_of_its_kind_that_is_the_same_each_time_is_taken_each_time(data_dir, times):
    for _ in range(times):
        assert propose(data_dir / "field" / "y8nseg.tflite").card.task == "detect"


class Loads:
    """A child whose loads and runs give what is said: a list of loads, each a list of runs, each one number."""

    def __init__(self, tmp_path, loads):
        self.path = write(tmp_path / "child.py", SCRIPT.encode())
        self.command = [sys.executable, str(self.path), repr(loads)]

    def tried(self, **options):
        # Two inputs, so that a load has three runs: the first input once more at the end.
        return try_model("m", b"TFL3", [np.zeros(1, np.float32)] * 2, command=self.command, **options)


SCRIPT = """
import json, os, sys
import numpy as np
nan = float("nan")
loads = eval(sys.argv[1])
spec = {"name": "x", "index": 0, "shape": [1], "dtype": "float32", "scale": 0.0, "zero_point": 0}
for line, runs in zip(sys.stdin, loads):
    request = json.loads(line)
    with os.fdopen(os.dup(request["outputs"]), "wb") as file:
        file.seek(0)
        file.truncate()
        np.savez(file, *(np.array(run, np.float32) for run in runs))
    print(json.dumps({"ran": {"digest": str(runs), "seconds": 0.01, "input": spec, "outputs": [spec]}}), flush=True)
"""
SAME = [[0, 1, 2, 3], [5, 6, 7, 8], [0, 1, 2, 3]]


def test_the_same_each_time_is_taken(tmp_path):
    ran = Loads(tmp_path, [SAME] * 4).tried()

    assert [values[0].tolist() for values in ran.values] == SAME[:2]


@pytest.mark.parametrize(
    ("loads", "words"),
    [
        ([[*SAME[:2], [0, 1, 2, 9]]], "off by 6 in a range of 9 from one run to the next"),
        ([[SAME[0], [5, "nan", 7, 8], SAME[0]]], "not finite when"),
        ([SAME, SAME, SAME, [SAME[0], [5, 6, 7, 8.9], SAME[0]]], "off by 0.9.* from one load to the next"),
        ([SAME, [SAME[0], [5, 6, 7, "nan"], SAME[0]]], "numbers that are not finite from one load to the next"),
        ([SAME, [[0, 1, 2]] * 3], r"shape \(4,\) and \(3,\) from one load to the next"),
    ],
)
def test_every_run_of_every_load_is_looked_at(tmp_path, loads, words):
    with pytest.raises(ModelError, match=words):
        Loads(tmp_path, loads).tried()


def test_rounding_is_no_change(tmp_path):
    noisy = [[0.001, 1, 2, 3], [5, 6.001, 7, 8], [0, 1, 2.002, 3]]

    assert Loads(tmp_path, [SAME, noisy, SAME, noisy]).tried()


def test_results_that_a_graph_sorts_may_change_places(tmp_path):
    turned = [[1, 0, 3, 2], [6, 5, 8, 7], [0, 1, 2, 3]]

    assert Loads(tmp_path, [SAME, turned, SAME, turned]).tried(reorders=True)
    with pytest.raises(ModelError, match="off by 1"):
        Loads(tmp_path, [SAME, turned]).tried()
