"""For each assumption: a network for which it is wrong, the sentence that `models add` prints, and its option that makes it right.

The networks are made by our own writer. What is found is compared with plain arithmetic after the decoder of the family that the option
names: the surest object over the numbers that the network was made of, or, where the option says how a picture becomes numbers, all objects
over what the network gives for a picture that was prepared by hand.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from edgeannot.card_inference.interpretation import Assumption
from edgeannot.cli.commands.models import models_app
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import Detections, Frame
from edgeannot.vision.heads import reader_of
from edgeannot.vision.heads._anchors import make_anchors
from edgeannot.vision.heads._published import published_anchors
from edgeannot.vision.pipeline import load_engine, load_pipeline, to_tensor
from tests.card_inference.made import (
    CELLS,
    SIZE,
    STRIDES,
    picked_apart,
    picked_corners,
    raw_numbers,
    rows_model,
    scores,
)
from tests.card_inference.test_ssd_kinds import efficientdet
from tests.e2e.test_made_models import Decode, bins_apart, fastestdet, fomo, suppressed, yolov9
from tests.e2e.test_stated_anchors import nine_boxes
from tests.made_networks import bins_apart_network, decoded_network, fastestdet_network, fomo_network
from tests.tflite_maker import Maker, cell_table, schema


@dataclass(frozen=True)
class Added:
    """What `models add` makes of a file and prints."""

    card: ModelCard
    assumed: tuple[str, ...]


Right = Callable[[Added], bool]


@dataclass(frozen=True)
class Case:
    """A model, what the user says of it, the options that the sentence names, and how it shows that the card is right."""

    raw: Callable[[], bytes]
    options: str
    """`a,b` after --labels stands for a file of these names."""
    right: Right
    said: str = ""


def of_maker(*values: NDArray[np.float32], activations: str = "") -> bytes:
    """A graph whose outputs hold the values; for each letter in `activations` a sigmoid (g) or softmax (s) behind it."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    made = [maker.stirred(x, value, name=f"out{i}") for i, value in enumerate(values)]
    does = {"g": maker.logistic, "s": maker.softmax}
    return maker.outputs(*(does[how](y) if how in does else y for y, how in zip(made, activations.ljust(len(made)), strict=True)))


def joined(*parts: NDArray[np.float32], sigmoids: tuple[int, ...] = (), softmaxes: tuple[int, ...] = ()) -> bytes:
    """One output that the graph joins along the last axis, some parts behind an activation."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    made = [maker.stirred(x, part) for part in parts]
    for i in range(len(made)):
        made[i] = maker.logistic(made[i]) if i in sigmoids else maker.softmax(made[i]) if i in softmaxes else made[i]
    return maker.outputs(maker.concat(made))


# -- what is right, by plain arithmetic --------------------------------------------------------------------------------------------


def decoded(added: Added, min_score: float = 0.01) -> Detections:
    """Return what the card's head makes of a gray picture, in pixels of the model's input."""
    card = added.card
    engine = load_engine(card)
    tensor, _ = to_tensor(card, engine)(np.full((card.input.height, card.input.width, 3), 114, np.uint8))
    return reader_of(card.head).decode(engine.run(tensor), card.input_wh, min_score)


def surest(added: Added) -> tuple[NDArray[np.float32], float, int]:
    """Return box, score and class of the surest object."""
    found = decoded(added)
    best = int(np.argmax(found.scores))
    return found.boxes[best], float(found.scores[best]), int(found.classes[best])


def gives(box: Callable[[], Sequence[float] | NDArray[np.floating]] | None = None, score: Callable[[], float] | None = None) -> Right:
    """Tell whether the surest object has this box, in pixels, and this score."""

    def right(added: Added) -> bool:
        found, sure, _ = surest(added)
        same_box = box is None or np.allclose(found, np.asarray(box(), np.float32), atol=0.3)
        return bool(same_box and (score is None or abs(sure - score()) < 5e-3))

    return right


def both(*tests: Right) -> Right:
    return lambda added: all(test(added) for test in tests)


def sigmoid(x: NDArray[np.floating] | float) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.asarray(x, np.float64))))


def softmax(x: NDArray[np.floating]) -> NDArray[np.float64]:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def around(cx: float, cy: float, w: float, h: float) -> list[float]:
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def cells_of(strides: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return column, row and stride of each cell."""
    return [(x, y, s) for s in strides for y in range(-(-SIZE // s)) for x in range(-(-SIZE // s))]


def box_of_bins(scores_of: NDArray[np.float32], sides: NDArray[np.float32], strides: Sequence[int], center: float) -> list[float]:
    """Return the box of the surest cell: NanoDet's `Integral`, then `distance2bbox`. scores_of: (n, C); sides: (n, 4 * bins)."""
    best = int(np.argmax(scores_of.max(axis=1)))
    x, y, stride = cells_of(strides)[best]
    numbers = sides[best].reshape(4, -1)
    left, top, right, bottom = (softmax(numbers) * np.arange(numbers.shape[1])).sum(axis=1)
    px, py = x + center, y + center
    return [(px - left) * stride, (py - top) * stride, (px + right) * stride, (py + bottom) * stride]


def columns(table: NDArray[np.float32]) -> bytes:
    return rows_model(cell_table(SIZE, STRIDES), table, columns=True)


def one_good(low: float, high: float, good: float) -> NDArray[np.float32]:
    """Scores of a class for each cell, one of them outside of the range of the others."""
    table = np.random.default_rng(1).uniform(low, high, (CELLS, 1)).astype(np.float32)
    table[100] = good
    return table


def picked_table() -> NDArray[np.float64]:
    rng = np.random.default_rng(4)
    corner = rng.uniform(0, 0.5, (1, 300, 2))
    return np.concatenate([corner, corner + 0.3, np.sort(rng.uniform(0, 0.4, (1, 300, 1)), axis=1)[:, ::-1]], axis=2)


def picked_rows() -> bytes:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    values = maker.stirred(x, picked_table(), 1e-5)
    return maker.outputs(maker.concat([values, maker.constant(np.random.default_rng(5).integers(0, 7, (1, 300, 1)))]))


def query_boxes() -> NDArray[np.float64]:
    rng = np.random.default_rng(6)
    return np.concatenate([rng.uniform(0.05, 0.95, (1, 300, 2)), rng.uniform(0.02, 0.4, (1, 300, 2))], axis=2)


def query_logits(none_leads: bool = False) -> NDArray[np.float32]:
    return raw_numbers(1, 300, 5) + np.array([-2, -2, -2, -2, 6], np.float32) if none_leads else 3 * raw_numbers(1, 300, 5)


def queries(none_leads: bool = False) -> bytes:
    """Boxes and five class scores of a transformer's queries. none_leads: most say "no object", which is their last column."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    top = maker.op(
        "TOPK_V2", [maker.stirred(x, np.zeros((1, 400))), maker.constant(300, "int32")], (1, 300), (1, 300), options=schema.TopKV2OptionsT()
    )
    maker.retype(top + 1, "int32")
    return maker.outputs(maker.stirred(x, query_logits(none_leads), name="logits"), maker.stirred(x, query_boxes(), name="boxes"))


def query_box() -> list[float]:
    """The surest query's box, y first."""
    cy, cx, h, w = query_boxes()[0, int(np.argmax(query_logits()[0].max(axis=1)))] * SIZE
    return around(cx, cy, w, h)


def ssd_logits(count: int = 1917, first: float = 0) -> NDArray[np.float32]:
    return 3 * raw_numbers(1, count, 5) + np.array([first, 0, 0, 0, 0], np.float32)


def ssd(size: int = 300, count: int = 1917, first: float = 0) -> bytes:
    """A raw SSD. first: what is added to the first column of scores."""
    maker = Maker()
    x = maker.input((1, size, size, 3))
    logits = ssd_logits(count, first)
    return maker.outputs(maker.stirred(x, raw_numbers(1, count, 4), name="boxes"), maker.stirred(x, logits, name="classes"))


def ssd_box(size: int = 300, count: int = 1917) -> list[float]:
    """The surest box, x first; the anchors are those of the published rule, which tests of their own hold."""
    anchors = published_anchors((size, size), count)
    assert anchors is not None
    assert anchors.scaled is not None
    best = int(np.argmax(raw_numbers(1, count, 5)[0, :, 1:].max(axis=1)))
    cx, cy, w, h = make_anchors(anchors.scaled, (size, size))[best] * size
    x, y, wide, high = raw_numbers(1, count, 4)[0, best] / (10, 10, 5, 5)
    return around(x * w + cx, y * h + cy, np.exp(wide) * w, np.exp(high) * h)


def first_column(added: Added) -> bool:
    """Tell whether the surest object is of the first column's class."""
    return added.card.label_names()[surest(added)[2]] == "a"


def efficientdet_box() -> list[float]:
    """The surest box with anchors that begin at 4 strides, as EfficientDet-D0's."""
    count = 9 * sum(n * n for n in (40, 20, 10, 5, 3))
    best = int(np.argmax(raw_numbers(1, count, 5)[0].max(axis=1)))
    cx, cy, w, h = list(nine_boxes(320, 4, (1, 2, 0.5), spread=True))[best]
    y, x, high, wide = raw_numbers(1, count, 4)[0, best]
    return around(x * w + cx, y * h + cy, np.exp(wide) * w, np.exp(high) * h)


def corner_anchors() -> NDArray[np.float32]:
    boxes = cell_table(SIZE, STRIDES) / SIZE
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def box_by_centre() -> list[float]:
    """The surest box where offsets from those anchors are of centre and size."""
    best = int(np.argmax(raw_numbers(1, CELLS, 1)))
    x1, y1, x2, y2 = corner_anchors()[best] * SIZE
    x, y, wide, high = raw_numbers(1, CELLS, 4)[0, best]
    w, h = x2 - x1, y2 - y1
    return around(x * w + (x1 + x2) / 2, y * h + (y1 + y2) / 2, np.exp(wide) * w, np.exp(high) * h)


def square_box() -> list[float]:
    """The surest box of raw grids of 6 and 3 cells, by YOLOv5's `Detect`: sizes are squares of sigmoids."""
    anchors = {16: ((1, 2), (3, 4), (5, 6)), 32: ((10, 12), (14, 16), (18, 20))}
    found = []
    for stride, sizes in anchors.items():
        n = SIZE // stride
        grid = 3 * raw_numbers(1, n, n, 21).reshape(n, n, 3, 7)
        for (y, x, a), numbers in ((place, sigmoid(grid[place])) for place in np.ndindex(n, n, 3)):
            cx, cy = (x + 2 * numbers[0] - 0.5) * stride, (y + 2 * numbers[1] - 0.5) * stride
            w, h = (2 * numbers[2]) ** 2 * sizes[a][0], (2 * numbers[3]) ** 2 * sizes[a][1]
            found.append((numbers[4] * max(numbers[5:]), around(cx, cy, w, h)))
    return max(found)[1]


def two_branches() -> bytes:
    """Two outputs that are alike but for where their boxes are."""
    tables = [np.concatenate([cell_table(SIZE, STRIDES) + shift, scores(CELLS, 5)], axis=1).T[None] for shift in ([-2, -2, 0, 0], [0] * 4)]
    return of_maker(*(table.astype(np.float32) for table in tables))


def first_branch_box() -> list[float]:
    cx, cy, w, h = cell_table(SIZE, STRIDES)[int(np.argmax(scores(CELLS, 5).max(axis=1)))]
    return around(cx - 2, cy - 2, w, h)


def ssd_with_corners() -> bytes:
    corners = corner_anchors()
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    found = maker.logistic(maker.stirred(x, raw_numbers(1, CELLS, 1)))
    return maker.outputs(maker.stirred(x, raw_numbers(1, CELLS, 4)), found, maker.constant(corners[None], name="anchors"))


def fastest_det() -> bytes:
    return joined(*(raw_numbers(1, 6, 6, width) for width in (1, 4, 3)), sigmoids=(0,), softmaxes=(2,))


# -- from the picture on -----------------------------------------------------------------------------------------------------------

WIDE = np.random.default_rng(8).integers(70, 186, (SIZE // 2, SIZE, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
"""A picture twice as wide as the input, of blocks of 2x2 pixels: half of it, along either axis, is every second pixel by any filter."""
SQUARE = WIDE[:, :SIZE]
"""One that needs no resizing."""
WHOLE = (1.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Agrees:
    """Tells whether a model finds in a picture what its own decoder finds in the numbers that are made of the picture by hand."""

    decode: Decode
    picture: NDArray[np.uint8]
    numbers: NDArray[np.floating]
    """(H, W, 3) as the network wants them."""
    placed: tuple[float, float, float, float] = WHOLE
    """A pixel of the input in pixels of the picture: factor of x, factor of y; then what is added to each."""
    min_score: float = 0.3
    suppress: bool = True

    def __call__(self, added: Added) -> bool:
        wanted = self.wanted(added)
        assert 2 <= len(wanted) < added.card.defaults.max_detections  # or it would say nothing
        found = load_pipeline(added.card)(Frame(self.picture, "test", 0, datetime.now(UTC), "blocks")).detections
        here = np.column_stack([found.classes, found.scores, found.boxes])
        return here.shape == wanted.shape and np.allclose(ordered(here), ordered(wanted), atol=(0, 0.01, *[0.5] * 4))

    def wanted(self, added: Added) -> NDArray[np.float64]:
        """(N, 6) class, score, box in the picture."""
        engine = load_engine(added.card)
        numbers = self.numbers.transpose(2, 0, 1) if engine.input.shape[1] == 3 else self.numbers
        outputs = [output.real() for output in engine.run(np.ascontiguousarray(numbers[None], np.float32))]
        objects = list(self.decode(outputs, SIZE, self.min_score))
        objects = suppressed(objects) if self.suppress else objects
        fx, fy, x, y = self.placed
        height, width = self.picture.shape[:2]
        boxes = np.array([box for *_, box in objects]).reshape(-1, 4) * (fx, fy, fx, fy) + (x, y, x, y)
        return np.column_stack([[o[0] for o in objects], [o[1] for o in objects], np.clip(boxes, 0, [width, height, width, height])])


def ordered(objects: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the objects by score, then by place: some cells are as sure as others."""
    return objects[np.lexsort([*np.round(objects[:, 2:].T), np.round(-objects[:, 1], 3)])]


BAR = 26
LOW = WIDE[4:-4]
"""One that leaves bars above and below; they end inside of cells."""


def in_bars(byte: int) -> NDArray[np.uint8]:
    """The low picture in the middle of the input, RGB, half as large."""
    return np.pad(LOW[::2, ::2, ::-1], ((BAR, BAR), (0, 0), (0, 0)), constant_values=byte)


IN_BARS = (2.0, 2.0, 0.0, -2.0 * BAR)
"""Where its pixels are in the picture."""
NANODET_BGR = np.float64([103.53, 116.28, 123.675]), np.float64([57.375, 57.12, 58.395])
"""`img_norm_cfg` of NanoDet's configurations."""
PICO_STRIDES = (8, 16, 32, 64)


CASES = {
    "INPUT_NUMBERS": Case(
        lambda: decoded_network("cxcywh", 3, apart=False).to_bytes(),
        "--input-range -1..1",
        Agrees(yolov9, SQUARE, (SQUARE[..., ::-1] - 127.5) / 127.5),
    ),
    "COLOR_ORDER": Case(lambda: fastestdet_network().to_bytes(), "--color RGB", Agrees(fastestdet, SQUARE, SQUARE[..., ::-1] / 255)),
    # A score from -3 to 1, made without a sigmoid.
    "LOGITS": Case(
        lambda: columns(one_good(-3, -1, 0.9)),
        "--set head.activation=none",
        gives(score=lambda: float(one_good(-3, -1, 0.9).max())),
    ),
    "SOFTMAX": Case(
        lambda: of_maker(raw_numbers(1, 3)),
        "--set head.activation=sigmoid",
        gives(score=lambda: float(sigmoid(raw_numbers(1, 3)).max())),
        said="--labels a,b,c",
    ),
    # Logits of which the graph has cut off all below 0.
    "PERCENTAGES": Case(
        lambda: columns(one_good(0, 0, 12)),
        "--set head.activation=sigmoid",
        gives(score=lambda: float(sigmoid(one_good(0, 0, 12)).max())),
    ),
    "CORNER_POINTS": Case(
        lambda: joined(raw_numbers(1, CELLS + 4, 5), raw_numbers(1, CELLS + 4, 32), sigmoids=(0,)),
        "--set head.center=0.5",
        gives(lambda: box_of_bins(raw_numbers(1, CELLS + 4, 5)[0], raw_numbers(1, CELLS + 4, 32)[0], (8, 16, 32, 64), 0.5)),
    ),
    "MIDDLE_POINTS": Case(
        lambda: bins_apart_network(8, 3, PICO_STRIDES, top=6, tone=3).to_bytes(),
        "--set head.center=0 --color BGR",
        Agrees(bins_apart(0.0, PICO_STRIDES), SQUARE, (SQUARE - NANODET_BGR[0]) / NANODET_BGR[1]),
    ),
    "X_FIRST": Case(picked_rows, "--set head.box_form=yxyx", gives(lambda: picked_table()[0, 0, [1, 0, 3, 2]] * SIZE)),
    "Y_FIRST": Case(partial(picked_apart, 10, counted=True), "--set head.box_form=xyxy", gives(lambda: picked_corners(10)[0, 0] * SIZE)),
    "CLASS_SIGMOIDS": Case(
        queries,
        "--set head.activation=softmax",
        lambda added: len(decoded(added, 0.5)) == int((softmax(query_logits()[0])[:, :4].max(axis=1) >= 0.5).sum()),
    ),
    "NO_OBJECT": Case(
        lambda: queries(none_leads=True),
        "--set head.activation=sigmoid",
        gives(score=lambda: float(sigmoid(query_logits(none_leads=True)).max())),
    ),
    "QUERY_ORDER": Case(queries, "--set head.box_form=cycxhw", gives(query_box)),
    "SEVENTEEN_BINS": Case(
        lambda: bins_apart_network(17, 3, top=1).to_bytes(),
        "--set head.center=0.5 --input-range 0..1 --resize letterbox",
        Agrees(bins_apart(0.5, STRIDES), LOW, in_bars(114) / 255, IN_BARS),
    ),
    "SECOND_OF_TWO": Case(
        two_branches,
        "--set head.output=out0",
        gives(first_branch_box),
    ),
    "CORNER_OFFSETS": Case(ssd_with_corners, "--set head.code=xywh", gives(box_by_centre)),
    "CENTRE_OFFSETS": Case(ssd, "--set head.code=xywh", gives(ssd_box)),
    "NINE_BOXES": Case(
        lambda: efficientdet(320, 5, joined=True),
        "--set head.octaves.anchor_scale=4",
        gives(efficientdet_box),
    ),
    "BACKGROUND": Case(
        lambda: ssd(first=2),
        "--labels a,b,c,d,e",
        both(gives(score=lambda: float(sigmoid(ssd_logits(first=2)).max())), first_column),
    ),
    "OBJECTNESS": Case(
        lambda: columns(scores(CELLS, 3)),
        "--set head.objectness=true",
        # The input takes bytes here, of which the network adds a thousandth to its numbers.
        gives(score=lambda: float(((scores(CELLS, 3)[:, 0] + 0.114) * (scores(CELLS, 3)[:, 1:].max(axis=1) + 0.114)).max())),
    ),
    "GRID_SIZES": Case(
        lambda: of_maker(3 * raw_numbers(1, 3, 3, 21), 3 * raw_numbers(1, 6, 6, 21)),
        "--set head.size=square --set head.xy_scale=2",
        gives(square_box),
        said="--labels a,b --anchors '1,2 3,4 5,6 10,12 14,16 18,20'",
    ),
    "CELL_SCORE": Case(lambda: fomo_network().to_bytes(), "--min-score 0.3", Agrees(fomo, SQUARE, SQUARE[..., ::-1] / 255, suppress=False)),
    # Edge Impulse's `fit shortest axis`, then its `fit longest axis`, whose bars are black.
    "SQUEEZED": Case(
        lambda: fomo_network().to_bytes(),
        "--resize crop",
        Agrees(fomo, WIDE, WIDE[:, SIZE // 2 : -SIZE // 2, ::-1] / 255, (1, 1, SIZE / 2, 0), min_score=0.5, suppress=False),
    ),
    "SQUEEZED, padded": Case(
        lambda: fomo_network().to_bytes(), "--resize letterbox", Agrees(fomo, LOW, in_bars(0) / 255, IN_BARS, min_score=0.5, suppress=False)
    ),
    "SCORE_POWERS": Case(
        fastest_det,
        "--set head.objectness_power=1 --set head.class_power=1",
        gives(score=lambda: float((sigmoid(raw_numbers(1, 6, 6, 1))[..., 0] * softmax(raw_numbers(1, 6, 6, 3)).max(axis=-1)).max())),
    ),
}


def test_there_is_a_case_for_each_assumption() -> None:
    assert set(Assumption.__members__) == {name.partition(",")[0] for name in CASES}


def is_of(sentence: str, assumption: Assumption) -> bool:
    """Tell whether a sentence was made of an assumption."""
    wanted = "".join(".+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", assumption.value[0]))
    return re.fullmatch(rf"{wanted} \(--.+\)", sentence) is not None


def add(raw: bytes, words: str, folder: Path) -> Added:
    """Give a file to `models add`, with options as they are typed."""
    typed = shlex.split(words)
    for i in (i + 1 for i, word in enumerate(typed) if word == "--labels"):
        names, typed[i] = typed[i].split(","), str(folder / "names.txt")
        Path(typed[i]).write_text("\n".join(names))
    (folder / "it.tflite").write_bytes(raw)
    done = CliRunner().invoke(models_app, ["add", str(folder / "it.tflite"), "--dry-run", *typed], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    findings, _, card = done.output.partition("\n\n")
    assumed = findings.partition("assumed (not stated in the file):\n")[2]
    return Added(ModelCard.model_validate(tomllib.loads(card)).in_folder(folder), tuple(re.findall(r"^  - (.+)", assumed, re.MULTILINE)))


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_assumption_is_seen_and_its_option_makes_it_right(tmp_path: Path, name: str) -> None:
    case, assumption = CASES[name], Assumption[name.partition(",")[0]]
    raw = case.raw()
    before = add(raw, case.said, tmp_path)
    printed = [sentence for sentence in before.assumed if is_of(sentence, assumption)]
    after = add(raw, f"{case.said} {case.options}", tmp_path)

    assert len(printed) == 1, before.assumed
    for option in re.findall(r"--set [\w.]+(?==)|--(?!set)[a-z-]+", case.options):
        assert option in printed[0]
    assert not case.right(before)
    assert case.right(after)
    assert printed[0] not in after.assumed
