"""Questions to the numbers of candidates: do boxes follow the cells, in which units, corners or centres, x or y first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot.card_inference.facts import FOLLOWS, Facts, Out, cell_centres, grid_fit
from edgeannot.card_inference.interpretation import Assumption, Convention, Interpretation, Known
from edgeannot.card_inference.scores import PROBABILITY_MAKERS, activation_of
from edgeannot.tflite.trace import Piece
from edgeannot.vision.data import TensorRef
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.yolox import Yolox

__all__ = [
    "BINS",
    "BoxFacts",
    "Cells",
    "JoinedColumns",
    "Side",
    "bins_hint",
    "candidate_cells",
    "cell_orders",
    "choose_bins",
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
    """An output as N rows of numbers. `layout` says how it is stored."""

    out: Out
    numbers: NDArray[np.float32]
    """(pictures, N, numbers a row)."""
    layout: Literal["rows", "columns"] = "rows"

    @property
    def width(self) -> int:
        """Numbers a row."""
        return int(self.numbers.shape[2])


Order = Literal["boxes-first", "scores-first"]


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

    def distances(self, known: Known) -> Interpretation | None:
        """Interpret four distributions of distances and class scores, in the parts that the graph joins, else as the labels count them."""
        columns, widths = self.numbers.shape[2], [piece.width for piece in self.made]
        ways: dict[tuple[int, int], Order] = {}
        if len(widths) == 2:
            orders: tuple[Order, Order] = ("boxes-first", "scores-first")
            for box, score, order in zip(self.made, self.made[::-1], orders, strict=True):
                if box.width % 4 == 0 and box.made_by not in PROBABILITY_MAKERS:
                    ways[box.width // 4, score.width] = order
            counts = []
        else:
            counts = [columns - 4 * hint] if (hint := bins_hint(known)) else sorted(known.class_counts())
        alone = len(known.facts.outputs) == len(self.outputs)  # else some columns may belong to the others (masks)
        for classes in counts:
            bins = (columns - classes) // 4
            if classes > 0 and 4 * bins == columns - classes and (alone or bins in BINS):
                ways[bins, classes] = self._order(bins, classes)
        if (way := choose_bins(known, ways)) is None:
            return None
        return self._distances(known, *way, ways[way])

    def _order(self, bins: int, classes: int) -> Order:
        """Return which part comes first: the end whose numbers are scores already is that of the classes, else by the family."""
        ends = self.numbers[..., :classes], self.numbers[..., -classes:]
        first, last = (bool(numbers.min() >= 0 and numbers.max() <= 1) for numbers in ends)
        if first != last:
            return "scores-first" if first else "boxes-first"
        return "boxes-first" if bins == 16 else "scores-first"

    def _distances(self, known: Known, bins: int, classes: int, order: Order) -> Interpretation:
        boxes_first = order == "boxes-first"
        scores = self.numbers[..., 4 * bins :] if boxes_first else self.numbers[..., :classes]
        activation, why = self._activation(known, scores, self.made[-1 if boxes_first else 0])
        # NanoDet-Plus has a fourth stride; the first NanoDet, with three, has its points in the middle of the cells.
        plus = bins == 8 and 64 in self.strides and len(self.outputs) == 1
        head = Dfl(
            strides=self.strides,
            boxes=self.outputs,
            joined=order,
            bins=bins,
            layout=self.layout,
            activation=activation,
            center=0.0 if plus or bins == 17 else 0.5,
        )
        columns = self.numbers.shape[2]
        evidence = (self.evidence, f"{columns} columns are 4 x {bins} bins of distances and {classes} classes, {order}", why)
        assumptions = (Assumption.CORNER_POINTS.of(),) if plus else (Assumption.SEVENTEEN_BINS.of(),) if bins == 17 else ()
        return Interpretation(head, BINS.get(bins, Convention.NANODET), evidence, classes=classes, assumptions=assumptions)

    def yolox(self, known: Known) -> Interpretation:
        """Interpret box, objectness and class scores, as YOLOX writes them."""
        columns = self.numbers.shape[2]
        activation, why = self._activation(known, self.numbers[..., 4:], self.made[-1])
        head = Yolox(outputs=self.outputs, strides=self.strides, layout=self.layout, activation=activation)
        evidence = (self.evidence, f"{columns} columns are box, objectness and {columns - 5} classes, as YOLOX writes them", why)
        return Interpretation(head, Convention.YOLOX, evidence, classes=columns - 5)

    def _activation(self, known: Known, scores: NDArray[np.float32], piece: Piece) -> tuple[Literal["none", "sigmoid"], str]:
        return activation_of(known, scores, piece.made_by if len(self.made) > 1 else "")


BINS = {16: Convention.ULTRALYTICS, 8: Convention.NANODET, 11: Convention.NANODET, 17: Convention.DAMO}
"""Bins of published models and whose they are: YOLOv8 and later, NanoDet, NanoDet-g, DAMO-YOLO."""
MOST_BINS = 33
"""Distances to 32 cells; published models have up to 17."""


def bins_hint(known: Known) -> int:
    """Return the bins that the user gives, 0 for none."""
    hint = known.hints.extra.get("head.bins")
    return hint if isinstance(hint, int) else 0


def choose_bins(known: Known, ways: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the pair of bins and classes that the user, the labels or a published model stands for; None where there is none.

    Raises AmbiguousModelError for several, InputError where `--set head.bins` is none of them.
    """
    possible = sorted(way for way in ways if 1 < way[0] <= MOST_BINS)
    hint = bins_hint(known)
    if possible and hint:
        if (found := next((way for way in possible if way[0] == hint), None)) is None:
            listed = ", ".join(f"{bins} ({classes} classes)" for bins, classes in possible)
            raise InputError(f"--set head.bins={hint}: possible are {listed}")
        return found
    likely = [way for way in possible if way[1] in known.class_counts()] or [way for way in possible if way[0] in BINS] or possible
    if len(likely) < 2:
        return likely[0] if likely else None
    listed = ", or ".join(f"{bins} bins and {classes} classes" for bins, classes in likely)
    raise known.ambiguous(
        f"its outputs read as distances in bins beside class scores: {listed}",
        ["--labels FILE with the names of the classes", *(f"--set head.bins={bins}" for bins, _ in likely)],
    )


def fastestv2_anchors(known: Known, count: int) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return the anchors given for YOLO-FastestV2, `count` for each of its two strides. Raises AmbiguousModelError where they lack."""
    hint = known.hints.anchors
    if hint is None or len(hint.pairs) != 2 * count:
        raise known.ambiguous(
            "its outputs read as YOLO-FastestV2, and the file does not hold its anchors",
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
    queries: bool = False
    """Whether they are those of a transformer's queries, in no order."""


def decoded_boxes(known: Known, boxes: NDArray[np.float32], cells: Cells) -> BoxFacts | None:
    """Return what `boxes` (pictures, N, 4) are, when their centres follow the cells; None for numbers still to be decoded."""
    found: list[tuple[float, BoxFacts]] = []
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
        found.append((fit.correlation, BoxFacts(units, form, evidence)))
    return max(found, key=lambda one: one[0])[1] if found else None


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
    if not corners and not x_first:
        return None
    form: Literal["cxcywh", "xyxy", "yxyx"] = "cxcywh" if not corners else "xyxy" if x_first else "yxyx"
    what = "corners" if corners else "centres and sizes"
    return BoxFacts(units, form, f"in a sample run the numbers are {what} of boxes inside the picture: decoded, {units}, {form}")


def query_boxes(known: Known, boxes: NDArray[np.float32], *, by_order: bool = False) -> BoxFacts | None:
    """Return what `boxes` (pictures, N, 4) are, when they are those of a transformer's queries: in no order, x first.

    by_order: whether their lack of order is enough of a sign, where no operator of a transformer is found.
    """
    centres, sizes = boxes[..., :2], boxes[..., 2:]
    operators = {op.name for op in known.facts.graph.operators}
    if boxes.shape[1] > MAX_QUERIES or not (operators & {"BATCH_MATMUL", "TOPK_V2"} or (by_order and _in_no_order(boxes))):
        return None
    reach = known.facts.picture.width if float(np.percentile(np.abs(boxes), 99)) > 4 else 1
    inside = float(np.mean((centres > -0.25 * reach) & (centres < 1.25 * reach) & (sizes > 0) & (sizes < 1.5 * reach))) > 0.98
    if not inside or centres.reshape(-1, 2).std(axis=0).min() < 0.05 * reach:
        return None
    units: Literal["normalized", "pixels"] = "pixels" if reach > 1 else "normalized"
    corners = float(np.mean((sizes > centres).all(axis=-1))) > 0.98
    what = "corners" if corners else "centres and sizes"
    evidence = f"in a sample run the numbers are {what} inside the picture, in no order: queries, {units}"
    return BoxFacts(units, "xyxy" if corners else "cxcywh", evidence, queries=True)


def _in_no_order(boxes: NDArray[np.float32]) -> bool:
    """Tell whether x and y change alike from row to row: along the rows of a grid one of them changes much more often."""
    middle = np.stack([boxes[..., :2], (boxes[..., :2] + boxes[..., 2:]) / 2])
    steps = np.abs(np.diff(middle, axis=2)).mean(axis=(1, 2))
    return bool(np.all(steps.max(axis=1) < 1.5 * steps.min(axis=1)))


def units_by_range(known: Known, numbers: NDArray[np.float32], what: str) -> Literal["normalized", "pixels"]:
    """Return normalized or pixels, by the largest coordinate. Raises AmbiguousModelError where the sample run found no box."""
    if known.hints.box_units:
        return known.hints.box_units
    largest = float(np.abs(numbers).max(initial=0))
    if largest == 0:
        raise known.ambiguous(
            f"{what} held no box in a sample run, so it may give shares of the picture or pixels",
            ["--box-units normalized", "--box-units pixels"],
        )
    return "pixels" if largest > 2 else "normalized"
