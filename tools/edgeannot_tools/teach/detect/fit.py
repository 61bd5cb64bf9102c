"""Fits the taught layers: boxes by ridge regression, objectness and classes by logistic regression, with numpy alone.

Several heads are fitted at once on the same batches: one on all pictures, and one for each fold of a cross-validation on the pictures
outside of that fold. They share what costs time, the reading of the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray, IntArray
from edgeannot_tools.teach.detect.bands import NOBODY, UNSURE, Band, owners
from edgeannot_tools.teach.detect.examples import Examples, Map

__all__ = ["XY_SCALE", "Layer", "decode_boxes", "encode_boxes", "fit_layers"]

XY_SCALE = 3.0
"""A cell places a centre from one cell before itself to one cell behind."""
SURE_CLASS = 9.0
"""The logit of the only class: the objectness alone decides."""
START_LOGIT = -4.0
"""Of the objectness before the first step: background is the rule."""
LOWEST_TARGET = 0.1
"""Of the objectness of an object's cell, however badly it places the box."""
SHRINK, SHRINK_PICTURES = 1.0, 20
"""Of the ridge, in standardised channels, against the mean squares of the features; of fewer pictures it is as many times stronger.
Mean IoU of 5 taught pictures: .72 with 1, .74 with 3, .76 with 10; of 10 pictures .77, .78, .78."""
STEPS, BATCH = 200, 16
RATE, DECAY = 3e-3, 0.05
WARM_UP = 20
EMPTY_SHARE = 0.4
"""Of a batch at most that are views of pictures without objects: there are few of them, and what they teach is wanted everywhere."""
QUIET = 8.0
"""Stored steps, added to a channel's deviation: one that is nearly silent in these pictures may be loud in others, and would count most."""
PIECE = 2048
"""Cells whose features are numbers at a time."""
STATISTICS = 60
"""Views, of all, from which the channels' means and deviations are taken."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The taught numbers of one band: `stored features @ weights + bias` gives x, y, w, h, objectness and the classes of a cell."""

    band: Band
    weights: FloatArray
    """(C, 5 + classes), for features as the network stores them, zero point and scale included."""
    bias: FloatArray
    """(5 + classes,)"""

    def with_threshold(self, old: float, new: float) -> Layer:
        """Return the layer with its objectness so moved in logits that what had the score `old` has `new`."""
        bias = self.bias.copy()
        bias[4] += np.log(new / (1 - new)) - np.log(old / (1 - old))
        return replace(self, bias=bias)

    def calibrated(self, scale: float, offset: float, class_offsets: FloatArray) -> Layer:
        """Return the layer with its objectness scaled and moved in logits, and its classes moved. class_offsets: (classes,)"""
        weights, bias = self.weights.copy(), self.bias.copy()
        weights[:, 4] *= np.float32(scale)
        bias[4] = bias[4] * np.float32(scale) + np.float32(offset)
        bias[5:] += class_offsets
        return Layer(self.band, weights, bias)


def encode_boxes(boxes: FloatArray, cells_xy: IntArray, stride: float, anchor_wh: tuple[float, float]) -> FloatArray:
    """Return (N, 4) numbers that `decode_boxes` turns into these boxes (N, 4) xyxy, for cells (N, 2); centres out of reach come near."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / stride - cells_xy
    share = np.clip((centres + (XY_SCALE - 1) / 2) / XY_SCALE, 0.03, 0.97)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 2) / np.array(anchor_wh)
    return np.concatenate([np.log(share / (1 - share)), np.log(sides)], axis=1).astype(np.float32)


def decode_boxes(numbers: FloatArray, cells_xy: IntArray, stride: float, anchor_wh: tuple[float, float]) -> FloatArray:
    """Return the boxes (N, 4) xyxy as the head `yolo-grid` reads them."""
    centres = (_logistic(numbers[:, :2]) * XY_SCALE - (XY_SCALE - 1) / 2 + cells_xy) * stride
    half = np.exp(np.clip(numbers[:, 2:4], -4, 4)) * np.array(anchor_wh) / 2
    return np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)


def fit_layers(examples: Examples, bands: Sequence[Band], classes: int, folds: IntArray, *, seed: int = 0) -> tuple[tuple[Layer, ...], ...]:
    """Return the layers of all bands once for each fold, taught without its pictures, and last those taught with all.

    folds: (P,) the fold of each picture, from 0 on; all -1 for no cross-validation.
    """
    parts = [_Part(examples, band, classes, folds, seed) for band in bands]
    _fit_scores(examples, parts, folds, seed)
    heads = int(folds.max(initial=-1)) + 2
    return tuple(tuple(part.layer(head) for part in parts) for head in range(heads))


class _Part:
    """What is fitted for one band: for each head the box columns, then the score columns."""

    def __init__(self, examples: Examples, band: Band, classes: int, folds: IntArray, seed: int) -> None:
        self.band, self.classes = band, classes
        self.features = examples.map(band.tap)
        self.stride, self.cells = examples.backbone.taps[band.tap].stride, examples.backbone.cells(band.tap)
        channels = self.features.channels
        self.mean, self.std = _mean_and_deviation(self.features, seed)
        self.std += np.float32(QUIET)
        owned = np.stack([owners(band, marked, self.cells, self.stride) for marked in examples.marked])
        self.unsure = owned == UNSURE
        # The cells that answer for an object: view, row, column; with the object's box and class.
        self.view, self.y, self.x = np.nonzero(owned > NOBODY)
        things = owned[self.view, self.y, self.x]
        self.boxes = np.array([examples.marked[v].boxes[t] for v, t in zip(self.view, things, strict=True)], np.float32).reshape(-1, 4)
        self.kinds = np.array([examples.marked[v].classes[t] for v, t in zip(self.view, things, strict=True)], np.int64)
        self.first = np.searchsorted(self.view, np.arange(len(owned) + 1))
        self.heads = int(folds.max(initial=-1)) + 2
        self.box_columns = self._fit_boxes(folds, examples.picture[self.view])
        self.targets = self._targets()
        self.score_columns = np.zeros((self.heads, channels + 1, 1 + classes), np.float32)
        self.score_columns[:, -1, 0] = START_LOGIT
        self.momentum, self.square = np.zeros_like(self.score_columns), np.zeros_like(self.score_columns)

    def standardised(self) -> Iterator[tuple[slice, FloatArray, IntArray]]:
        """Yield the objects' cells in pieces: which, their own features (n, C + 1) with ones for the bias, and (n, 2) their x and y."""
        own = self.features.own
        mean, std = self.mean[: own.shape[3]], self.std[: own.shape[3]]
        for start in range(0, len(self.view), PIECE):
            piece = slice(start, start + PIECE)
            found = own[self.view[piece], self.y[piece], self.x[piece]].astype(np.float32)
            x = np.asarray(np.c_[(found - mean) / std, np.ones(len(found), np.float32)], np.float32)
            yield piece, x, np.stack([self.x[piece], self.y[piece]], axis=1)

    def _fit_boxes(self, folds: IntArray, picture: IntArray) -> FloatArray:
        """Return (heads, C + 1, 4) by ridge regression; a head's sums are those of all cells without its fold's.

        Where a box ends is seen near its cell: the coarser map is not read for it.

        picture: (n,) of each of the objects' cells.
        """
        fold, shown, size = folds[picture], np.unique(picture), self.features.own.shape[3] + 1
        # The last of each is that of the pictures in no fold.
        gram, moment = np.zeros((self.heads, size, size), np.float32), np.zeros((self.heads, size, 4), np.float32)
        for piece, x, cells_xy in self.standardised():
            y = encode_boxes(self.boxes[piece], cells_xy, self.stride, self.band.anchor_wh)
            for one in np.unique(fold[piece]):
                rows = fold[piece] == one
                gram[one] += x[rows].T @ x[rows]
                moment[one] += x[rows].T @ y[rows]
        found, all_gram, all_moment = np.zeros((self.heads, size, 4), np.float32), gram.sum(axis=0), moment.sum(axis=0)
        for head in range(self.heads):
            count = int((fold != head).sum())
            if count:
                left_out = head if head < self.heads - 1 else None
                sums = (all_gram, all_moment) if left_out is None else (all_gram - gram[left_out], all_moment - moment[left_out])
                shrink = np.full(size, SHRINK * max(1.0, SHRINK_PICTURES / (folds[shown] != head).sum()), np.float32)
                shrink[-1] = 1e-6
                found[head] = np.linalg.solve(sums[0] / count + np.diag(shrink), sums[1] / count)
        return found

    def _targets(self) -> FloatArray:
        """Return (heads, n): how well each head places the box of each object's cell."""
        found = np.zeros((self.heads, len(self.view)), np.float32)
        for piece, x, cells_xy in self.standardised():
            for head, columns in enumerate(self.box_columns):
                placed = decode_boxes(x @ columns, cells_xy, self.stride, self.band.anchor_wh)
                found[head, piece] = np.maximum(LOWEST_TARGET, _pair_overlaps(placed, self.boxes[piece]))
        return found

    def gradient(self, x: FloatArray, views: IntArray, taught: NDArray[np.bool_]) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return (heads, C + 1, 1 + classes) summed over the cells of the views, and how many objects' cells each head learned from.

        x: (cells of all views, C) the map's features. taught: (heads, views) whether a head may see a view.
        """
        area = self.cells**2
        scaled = self.score_columns[:, :-1] / self.std[:, None]
        shift = self.score_columns[:, -1] - np.einsum("c,hck->hk", self.mean, scaled)
        own = np.concatenate([np.arange(self.first[view], self.first[view + 1]) for view in views]).astype(np.int64)
        at = np.concatenate([np.full(self.first[view + 1] - self.first[view], i * area) for i, view in enumerate(views)]).astype(np.int64)
        at += self.y[own] * self.cells + self.x[own]
        weight = np.repeat(taught, area, axis=1) * ~self.unsure[views].reshape(-1)
        wrong = _logistic(x @ scaled[:, :, 0].T + shift[:, 0])  # (cells, heads)
        wrong[at] -= self.targets[:, own].T
        wrong *= weight.T
        gradient = np.empty_like(self.score_columns)
        sums = wrong.sum(axis=0)
        gradient[:, :-1, 0] = ((x.T @ wrong).T - sums[:, None] * self.mean) / self.std
        gradient[:, -1, 0] = sums
        gradient[:, :, 1:] = 0
        positive = weight[:, at]
        if self.classes > 1 and len(at):
            kinds = np.eye(self.classes, dtype=np.float32)[self.kinds[own]]
            here = x[at]
            for head in range(self.heads):
                off = (_logistic(here @ scaled[head, :, 1:] + shift[head, 1:]) - kinds) * positive[head][:, None]
                gradient[head, :-1, 1:] = (here.T @ off - self.mean[:, None] * off.sum(axis=0)) / self.std[:, None]
                gradient[head, -1, 1:] = off.sum(axis=0)
        return gradient, positive.sum(axis=1)

    def step(self, gradient: FloatArray, number: int, rate: float) -> None:
        """Change the score columns by one step of Adam with decoupled weight decay. https://arxiv.org/abs/1711.05101"""
        self.momentum += 0.1 * (gradient - self.momentum)
        self.square += 0.01 * (gradient**2 - self.square)
        momentum, square = self.momentum / (1 - 0.9**number), self.square / (1 - 0.99**number)
        self.score_columns -= np.float32(rate) * momentum / (np.sqrt(square) + np.float32(1e-8))
        self.score_columns[:, :-1] *= np.float32(1 - rate * DECAY)

    def layer(self, head: int) -> Layer:
        """Return a head's columns for features as they are stored."""
        boxes, scores = self.box_columns[head], self.score_columns[head]
        unread = np.zeros((len(scores) - len(boxes), boxes.shape[1]), np.float32)
        columns = np.concatenate([np.concatenate([boxes[:-1], unread, boxes[-1:]]), scores], axis=1)
        weights = np.asarray(columns[:-1] / self.std[:, None], np.float32)
        bias = np.asarray(columns[-1] - self.mean @ weights, np.float32)
        if self.classes == 1:
            weights[:, 5], bias[5] = 0, SURE_CLASS
        return Layer(self.band, weights, bias)


def _fit_scores(examples: Examples, parts: Sequence[_Part], folds: IntArray, seed: int) -> None:
    """Fit the score columns of all parts on random views; background counts per object's cell, over all parts together."""
    rng = np.random.default_rng(seed)
    heads = int(folds.max(initial=-1)) + 2
    rooms = []
    for tap in sorted({part.band.tap for part in parts}):
        own = [part for part in parts if part.band.tap == tap]
        area, channels = own[0].cells ** 2, own[0].features.channels
        rooms.append((np.empty((max(1, PIECE // area), area, channels), np.float32), own))
    has_objects = np.bincount(examples.picture, [len(marked.boxes) for marked in examples.marked]) > 0
    shown, empty = np.flatnonzero(has_objects[examples.picture]), np.flatnonzero(~has_objects[examples.picture])
    some = min(int(EMPTY_SHARE * BATCH), len(empty))
    for number in range(1, STEPS + 1):
        views = np.sort(np.concatenate([rng.permutation(shown)[: BATCH - some], rng.permutation(empty)[:some]]))
        taught = folds[examples.picture[views]][None] != np.arange(heads)[:, None]
        found = [one for room, own in rooms for one in _gradients(room, own, views, taught)]
        objects = np.maximum(np.sum([count for _, count in found], axis=0), 1)
        rate = RATE * min(1.0, number / WARM_UP) * (0.5 + 0.5 * np.cos(np.pi * number / STEPS)) + 1e-5
        for part, (gradient, _) in zip((part for _, own in rooms for part in own), found, strict=True):
            part.step((gradient / objects[:, None, None]).astype(np.float32), number, float(rate))


def _gradients(
    room: FloatArray, parts: Sequence[_Part], views: IntArray, taught: NDArray[np.bool_]
) -> list[tuple[FloatArray, NDArray[np.int64]]]:
    """Return the sums of `_Part.gradient` over the views for all parts of one map.

    room: (n, cells of a view, C) for the numbers of a few views at a time; used again and again, it stays in the processor's cache.
    """
    sums: list[tuple[FloatArray, NDArray[np.int64]]] = []
    for start in range(0, len(views), len(room)):
        some = slice(start, start + len(room))
        features = parts[0].features.cells(views[some])
        x = room[: len(features)]
        x[...] = features.reshape(x.shape)
        found = [part.gradient(x.reshape(-1, x.shape[2]), views[some], taught[:, some]) for part in parts]
        sums = [(a + c, b + d) for (a, b), (c, d) in zip(sums, found, strict=True)] if sums else found
    return sums


def _mean_and_deviation(features: Map, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return (C,) each of some of the views, one after the other: as numbers they are four times as large."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(features.own))[:STATISTICS])
    sums, squares, count = np.zeros(features.channels), np.zeros(features.channels), 1e-9
    for row in rows:
        values = features.cells(slice(row, row + 1)).reshape(-1, features.channels).astype(np.float32)
        sums += values.sum(axis=0)
        squares += np.einsum("nc,nc->c", values, values)
        count += len(values)
    mean = sums / count
    return mean.astype(np.float32), np.sqrt(np.maximum(squares / count - mean**2, 0)).astype(np.float32)


def _logistic(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), np.float32)


def _pair_overlaps(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return (N,) intersection over union of each box of `a` with the box of `b` in the same row."""
    shared = np.prod(np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0), axis=1)
    union = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1) - shared
    return np.asarray(shared / np.maximum(union, 1e-6), np.float32)
