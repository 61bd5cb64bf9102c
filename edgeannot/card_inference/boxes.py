"""Questions to the numbers of candidates: do boxes follow the cells, in which units, corners or centres, x or y first."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.card_inference.facts import Facts, Out
from edgeannot.card_inference.interpretation import NANODET, ULTRALYTICS, YOLOX, AmbiguousModelError, Interpretation, Known
from edgeannot.card_inference.sample_run import FOLLOWS, cell_centres, grid_fit
from edgeannot.card_inference.scores import activation_of
from edgeannot.tflite.trace import Piece
from edgeannot.vision.data import TensorRef
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.yolox import Yolox

__all__ = [
    "BoxFacts",
    "Cells",
    "JoinedColumns",
    "Side",
    "candidate_cells",
    "cell_orders",
    "decoded_boxes",
    "fastestv2_anchors",
    "free_boxes",
    "query_boxes",
    "units_by_range",
]

STRIDE_SETS = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32), (8, 16), (16, 32, 64))
"""Strides of the maps that published detectors predict on, the usual ones first."""
MAX_QUERIES = 1000
"""More candidates than this have no transformer's head."""
ANCHOR_COUNTS = (1, 3, 2, 4, 5, 6, 9)


@dataclass(frozen=True, slots=True)
class Cells:
    """A number of candidates as a number of cells."""

    strides: tuple[int, ...]
    anchors: int

    def __str__(self) -> str:
        cells = f"the cells of strides {', '.join(map(str, self.strides))}"
        return f"{self.anchors} anchors at each of {cells}" if self.anchors > 1 else cells


@dataclass(frozen=True, slots=True)
class Side:
    """An output as N rows of numbers. `columns` says whether it is stored the other way round."""

    out: Out
    numbers: NDArray[np.float32]
    """(pictures, N, numbers a row)."""
    columns: bool

    @property
    def width(self) -> int:
        """Numbers a row."""
        return int(self.numbers.shape[2])


@dataclass(frozen=True, slots=True)
class JoinedColumns:
    """Candidates before the family's decoder, whose columns join a box with class scores."""

    outputs: tuple[TensorRef, ...]
    strides: tuple[int, ...]
    numbers: NDArray[np.float32]
    """(pictures, N, columns)."""
    layout: Literal["channels-last", "channels-first"]
    made: list[Piece]
    """What the columns are joined from."""
    evidence: str

    def distances(self, known: Known, bins: int, order: Literal["boxes-first", "scores-first"], *, center: float = 0.5) -> Interpretation:
        """Interpret four distributions of `bins` distances and class scores, as YOLOv8 (16) and NanoDet (8) write them."""
        columns, boxes_first = self.numbers.shape[2], order == "boxes-first"
        classes = columns - 4 * bins
        scores = self.numbers[..., 4 * bins :] if boxes_first else self.numbers[..., :classes]
        activation, why = self._activation(known, scores, self.made[-1 if boxes_first else 0])
        head = Dfl(
            strides=self.strides, boxes=self.outputs, joined=order, bins=bins, layout=self.layout, activation=activation, center=center
        )
        evidence = (self.evidence, f"{columns} columns are 4 x {bins} bins of distances and {classes} classes, {order}", why)
        return Interpretation(head, ULTRALYTICS if bins == 16 else NANODET, evidence, classes=classes)

    def yolox(self, known: Known) -> Interpretation:
        """Interpret box, objectness and class scores, as YOLOX writes them."""
        columns = self.numbers.shape[2]
        activation, why = self._activation(known, self.numbers[..., 4:], self.made[-1])
        head = Yolox(outputs=self.outputs, strides=self.strides, layout=self.layout, activation=activation)
        evidence = (self.evidence, f"{columns} columns are box, objectness and {columns - 5} classes, as YOLOX writes them", why)
        return Interpretation(head, YOLOX, evidence, classes=columns - 5)

    def _activation(self, known: Known, scores: NDArray[np.float32], piece: Piece) -> tuple[Literal["none", "sigmoid"], str]:
        return activation_of(known, scores, piece.made_by if len(self.made) > 1 else "")


def fastestv2_anchors(known: Known, count: int) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return the anchors given for YOLO-FastestV2, `count` for each of its two strides. Raises AmbiguousModelError where they lack."""
    hint = known.hints.anchors
    if hint is None or len(hint.pairs) != 2 * count:
        raise AmbiguousModelError(
            f"model {known.facts.path}: its outputs read as YOLO-FastestV2, and the file does not hold its anchors",
            ["--anchors 'W,H W,H ...' of its training", "--anchors yolo-fastestv2"],
        )
    return hint.pairs[:count], hint.pairs[count:]


def candidate_cells(facts: Facts, count: int) -> Cells | None:
    """Return the strides and anchors that give this many candidates for the model's input; None where no usual ones do."""
    for strides, anchors in product(STRIDE_SETS, ANCHOR_COUNTS):
        if facts.cells(strides) * anchors == count:
            return Cells(strides, anchors)
    return None


@dataclass(frozen=True, slots=True)
class BoxFacts:
    """What four columns of box numbers are."""

    units: Literal["normalized", "pixels"]
    form: Literal["cxcywh", "xyxy", "yxyx"]
    evidence: str


def decoded_boxes(known: Known, boxes: NDArray[np.float32], cells: Cells) -> BoxFacts | None:
    """Return what `boxes` (pictures, N, 4) are, when their centres follow the cells; None for numbers still to be decoded."""
    best: tuple[float, BoxFacts] | None = None
    for centres in cell_orders(known, cells):
        fits = [[grid_fit(boxes[..., column], centres[:, axis]) for axis in (0, 1)] for column in range(4)]
        follows = [[fit.correlation >= FOLLOWS for fit in column] for column in fits]
        if follows[0][0] and follows[1][1]:
            form: Literal["cxcywh", "xyxy", "yxyx"] = "xyxy" if follows[2][0] and follows[3][1] else "cxcywh"
            fit = fits[0][0]
        elif follows[0][1] and follows[1][0] and follows[2][1] and follows[3][0]:
            form, fit = "yxyx", fits[0][1]
        else:
            continue
        units: Literal["normalized", "pixels"] = "pixels" if fit.slope > 0.1 else "normalized"
        slope = f"a slope of {fit.slope:.3g} per pixel (correlation {fit.correlation:.3f})"
        evidence = f"in a sample run the box centres follow the cells with {slope}: already decoded, {units}, {form}"
        if best is None or fit.correlation > best[0]:
            best = fit.correlation, BoxFacts(units, form, evidence)
    return None if best is None else best[1]


def cell_orders(known: Known, cells: Cells) -> list[NDArray[np.float32]]:
    """Return cell centres with anchors innermost, and with anchors outermost in each stride (PyTorch's order)."""
    picture = known.facts.picture
    inner = cell_centres(picture, cells.strides, cells.anchors)
    if cells.anchors == 1:
        return [inner]
    outer = [np.tile(cell_centres(picture, (stride,)), (cells.anchors, 1)) for stride in cells.strides]
    return [inner, np.concatenate(outer)]


def free_boxes(boxes: NDArray[np.float32], size: int) -> BoxFacts | None:
    """Return what `boxes` (pictures, N, 4) of unknown cells are, when they are boxes inside the picture; None for raw offsets.

    Priors run row by row, so x changes at each step and y only at the end of a row: the busier one of the first two numbers is x.
    """
    first, second, third, fourth = (boxes[..., i].astype(np.float64) for i in range(4))
    biggest = float(np.percentile(np.abs(boxes), 99))
    units: Literal["normalized", "pixels"] = "pixels" if biggest > 4 else "normalized"
    limit = 1.5 * (size if units == "pixels" else 1.0)
    corners = float(np.mean((third >= first) & (fourth >= second))) > 0.98
    sizes = float(np.mean((third > 0) & (fourth > 0))) > 0.98
    middle_x, middle_y = ((first + third) / 2, (second + fourth) / 2) if corners else (first, second)
    inside = float(np.mean((middle_x > -limit / 3) & (middle_x < limit) & (middle_y > -limit / 3) & (middle_y < limit))) > 0.98
    spread = min(middle_x.std(), middle_y.std()) > 0.12 * limit / 1.5
    if not (inside and spread and (corners or sizes)):
        return None
    x_first = np.abs(np.diff(middle_x)).mean() > np.abs(np.diff(middle_y)).mean()
    if not corners:
        return (
            BoxFacts(units, "cxcywh", f"in a sample run the numbers are centres and sizes inside the picture, {units}") if x_first else None
        )
    form: Literal["xyxy", "yxyx"] = "xyxy" if x_first else "yxyx"
    return BoxFacts(units, form, f"in a sample run the numbers are corners of boxes inside the picture: decoded, {units}, {form}")


def query_boxes(known: Known, boxes: NDArray[np.float32]) -> BoxFacts | None:
    """Return what `boxes` (pictures, N, 4) are, when they are those of a transformer's queries: in no order, x first."""
    operators = {op.name for op in known.facts.graph.operators}
    if boxes.shape[1] > MAX_QUERIES or not operators & {"BATCH_MATMUL", "TOPK_V2"}:
        return None
    centres, sizes = boxes[..., :2], boxes[..., 2:]
    reach = known.facts.picture.width if float(np.percentile(np.abs(boxes), 99)) > 4 else 1
    inside = float(np.mean((centres > -0.25 * reach) & (centres < 1.25 * reach) & (sizes > 0) & (sizes < 1.5 * reach))) > 0.98
    if not inside or centres.reshape(-1, 2).std(axis=0).min() < 0.05 * reach:
        return None
    units: Literal["normalized", "pixels"] = "pixels" if reach > 1 else "normalized"
    corners = float(np.mean((sizes > centres).all(axis=-1))) > 0.98
    what = "corners" if corners else "centres and sizes"
    evidence = f"in a sample run the numbers are {what} inside the picture, in no order: queries, {units}"
    return BoxFacts(units, "xyxy" if corners else "cxcywh", evidence)


def units_by_range(known: Known, numbers: NDArray[np.float32], what: str) -> Literal["normalized", "pixels"]:
    """Return normalized or pixels, by the largest coordinate. Raises AmbiguousModelError where the sample run found no box."""
    if known.hints.box_units:
        return known.hints.box_units
    largest = float(np.abs(numbers).max(initial=0))
    if largest == 0:
        raise AmbiguousModelError(
            f"model {known.facts.path}: {what} held no box in a sample run, so it may give shares of the picture or pixels",
            ["--box-units normalized", "--box-units pixels"],
        )
    return "pixels" if largest > 2 else "normalized"
