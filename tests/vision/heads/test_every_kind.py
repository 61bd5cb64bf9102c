"""What every kind of head keeps: the contract of `edgeannot.vision.heads`."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Outputs, RawTensor
from edgeannot.vision.heads import HEADS
from tests.vision.heads.examples import EXAMPLES, INPUT_WH, Example, dequantized, outputs, quantized, spec, specs

NUMBERS = {"int8": (np.int8, 1 / 60, -5), "uint8": (np.uint8, 1 / 60, 110), "int16": (np.int16, 1 / 4000, 0)}


@pytest.fixture(params=EXAMPLES, name="example")
def _example(request) -> Example:
    return EXAMPLES[request.param]


def random_arrays(example: Example, seed: int = 0) -> list[np.ndarray]:
    """Shares where the graph has activated its numbers, else numbers around 0; whole ones where class ids or counts stand."""
    rng = np.random.default_rng(seed)
    low, high = (0.0, 1.0) if getattr(example.head, "activation", "none") == "none" else (-1.5, 1.5)
    arrays = [rng.uniform(low, high, shape).astype(np.float32) for shape in example.shapes]
    for index in example.whole:
        arrays[index] = rng.integers(0, 4, example.shapes[index]).astype(np.float32)
    if example.head.kind == "end-to-end":
        arrays[0][..., 5] = rng.integers(0, 4, arrays[0].shape[:-1])
    if getattr(example.head, "score_sums", ()):
        for sums, scores in zip(example.head.score_sums, example.head.scores, strict=True):
            arrays[sums] = arrays[scores].sum(axis=1, keepdims=True)
    return arrays


def rows_of(found):
    """Detections as a set-like list, for comparing in any order."""
    return sorted(zip(found.classes.tolist(), found.scores.round(4).tolist(), map(tuple, found.boxes.round(2).tolist()), strict=True))


def test_there_is_an_example_of_every_kind():
    assert {example.head.kind for example in EXAMPLES.values()} == set(HEADS.built_in)


def test_nothing_found_is_empty_detections(example):
    low = outputs(*[np.full(shape, -1000.0) for shape in example.shapes])
    assert len(example.head.decode(low, INPUT_WH, 0.3)) == 0


def test_check_counts_the_classes(example):
    assert example.head.check(specs(*example.shapes), INPUT_WH) == example.classes


def test_tensors_may_be_named_by_name_as_well_as_by_number(example):
    # Every reference of the head, a bare one or one in a tuple, as the name of the same tensor.
    def named(value):
        if isinstance(value, tuple):
            return tuple(named(v) for v in value)
        return f"out{value}" if isinstance(value, int) and not isinstance(value, bool) else value

    refs = {field.name: named(getattr(example.head, field.name)) for field in fields(example.head) if "TensorRef" in str(field.type)}
    by_name = replace(example.head, **refs)
    assert by_name.check(specs(*example.shapes), INPUT_WH) == example.classes
    random = outputs(*random_arrays(example))
    assert rows_of(by_name.decode(random, INPUT_WH, 0.3)) == rows_of(example.head.decode(random, INPUT_WH, 0.3))


def test_detections_are_finite_boxes_with_scores_of_at_least_the_minimum(example):
    found = example.head.decode(outputs(*random_arrays(example)), INPUT_WH, 0.2)
    assert np.isfinite(found.boxes).all()
    assert (found.scores >= np.float32(0.2)).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (found.classes >= 0).all()
    assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.float32, np.float32, np.int64)


def test_something_is_found_in_random_numbers(example):
    """So that the other tests of this file do not pass on nothing."""
    if example.head.kind != "embed":
        assert sum(len(example.head.decode(outputs(*random_arrays(example, seed)), INPUT_WH, 0.1)) for seed in range(20))


def test_a_higher_minimum_gives_the_rows_of_a_lower_one_that_reach_it(example):
    """But where it also decides which places are one object."""
    random = outputs(*random_arrays(example))
    every = example.head.decode(random, INPUT_WH, 0.0)
    if example.joins:
        found = example.head.decode(random, INPUT_WH, 0.5)
        assert found.scores.max(initial=0) == every.scores.max(initial=0)
        return
    for minimum in (0.1, 0.5, 0.9):
        assert rows_of(example.head.decode(random, INPUT_WH, minimum)) == rows_of(every[every.scores >= np.float32(minimum)])


@pytest.mark.parametrize("numbers", NUMBERS)
def test_quantized_outputs_decode_to_what_their_real_values_decode_to(example, numbers):
    dtype, scale, zero_point = NUMBERS[numbers]
    raw = [
        quantized(array, dtype, 1.0 if i in example.whole else scale, 0 if i in example.whole else zero_point, i)
        for i, array in enumerate(random_arrays(example))
    ]
    assert example.head.check(tuple(tensor.spec for tensor in raw), INPUT_WH) == example.classes
    for minimum in (0.0, 0.3, 1.0):
        found, wanted = (example.head.decode(given, INPUT_WH, minimum) for given in (Outputs(raw), dequantized(raw)))
        assert rows_of(found) == rows_of(wanted)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max, -np.finfo(np.float32).max])
def test_rows_that_are_not_numbers_are_dropped_without_a_warning(example, garbage):
    rng = np.random.default_rng(7)
    arrays = random_arrays(example)
    for array in arrays:
        array[rng.random(array.shape) < 0.05] = garbage
    for minimum in (0.0, 0.3):
        found = example.head.decode(outputs(*arrays), INPUT_WH, minimum)
        assert np.isfinite(found.boxes).all()
        assert np.isfinite(found.scores).all()
    only = outputs(*[np.full(shape, garbage) for shape in example.shapes])
    assert len(example.head.decode(only, INPUT_WH, 0.3)) == 0


def test_outputs_are_not_written_to(example):
    random = outputs(*random_arrays(example))
    for tensor in random:
        tensor.values.flags.writeable = False
    example.head.decode(random, INPUT_WH, 0.1)


def test_an_output_that_is_not_there_is_named_with_those_that_are(example):
    with pytest.raises(CardError, match=r"wanted output .*found only: 77 'out77' \(1, 2\); name one of these"):
        example.head.check((spec((1, 2), index=77),), INPUT_WH)


def test_an_output_of_another_shape_is_refused(example):
    for index in range(len(example.shapes)):
        wrong = [*example.shapes]
        wrong[index] = (2, 5, 3, 7, 11, 13)
        with pytest.raises(CardError, match=r"head"):
            example.head.check(specs(*wrong), INPUT_WH)


def test_a_head_can_be_a_key(example):
    assert hash(replace(example.head)) == hash(example.head)


def test_a_tensor_is_reached_without_a_batch_axis_being_assumed():
    raw = RawTensor(np.zeros((30, 7), np.float32), spec((30, 7)))
    assert len(EXAMPLES["yolo-rows v5"].head.decode(Outputs([raw]), INPUT_WH, 0.3)) == 0
