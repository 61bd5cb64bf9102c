"""Small made-up models for the tests of card inference, and what they say of a proposal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.card_inference import Proposal
from edgeannot.vision.data import Annotation, Frame
from edgeannot.vision.pipeline import load_pipeline
from tests.tflite_maker import Maker, schema

SIZE = 96
STRIDES = (8, 16, 32)
CELLS = 144 + 36 + 9

Propose = Callable[..., Proposal]
"""The fixture `propose_raw`."""


def head_of(proposal: Proposal) -> dict[str, Any]:
    return asdict(proposal.card.head)


def annotated(proposal: Proposal) -> Annotation:
    """What the model finds in a gray picture of its input's size."""
    frame = Frame(np.full((SIZE, SIZE, 3), 114, np.uint8), "test", 0, datetime.now(UTC), "gray")
    return load_pipeline(proposal.card)(frame)


def scores(rows: int, columns: int) -> NDArray[np.float32]:
    return np.random.default_rng(columns).uniform(0.0, 0.3, (rows, columns)).astype(np.float32)


def raw_numbers(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(shape[-1]).normal(0, 1, shape).astype(np.float32)


def rows_model(
    boxes: NDArray[np.float32],
    others: NDArray[np.float32],
    *,
    columns: bool = False,
    shape: Sequence[int] = (1, SIZE, SIZE, 3),
    dtype: str = "float32",
) -> bytes:
    maker = Maker()
    x = maker.input(shape)
    table = np.concatenate([boxes, others], axis=1)[None]
    y = maker.stirred(x, table.transpose(0, 2, 1) if columns else table, name="Identity")
    if dtype == "int8":
        span = float(table.max())
        y = maker.quantized(y, "int8", span / 255, -128)
    return maker.outputs(y)


def picked_corners(count: int) -> NDArray[np.float64]:
    """The boxes of `picked_apart`, the best first."""
    return np.random.default_rng(3).uniform(0.1, 0.4, (1, count, 4)) + np.array([0, 0, 0.5, 0.5])


def picked_apart(count: int, *, counted: bool) -> bytes:
    """Boxes, classes and scores that the graph picks, and their count where it is one of the outputs."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    best = maker.stirred(x, np.linspace(0.1, 0.9, 60)[None])
    top = maker.op("TOPK_V2", [best, maker.constant(count, "int32")], (1, count), (1, count), options=schema.TopKV2OptionsT())
    maker.retype(top + 1, "int32")
    outputs = [maker.stirred(x, picked_corners(count), name="boxes"), maker.constant(np.arange(count)[None] % 4), top]
    return maker.outputs(*outputs, *([maker.constant([float(count)])] if counted else []))
