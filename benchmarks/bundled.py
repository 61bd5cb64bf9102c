"""What the bundled int8 files lost of their float networks, on the same pictures: the table of docs/models.md.

    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.bundled [--models FOLDER] [--maps | --pictures FOLDER] [NAME@SIZE ...]

The float networks are made of their published weights, as `make models` makes them. mAP50 is that of 50 pictures of Pascal VOC and of
50 of COCO; its difference has the 95 % interval of the bootstrap over the pictures, with the same draws for both. A box of the float
network is sure where it is well above the score threshold; int8 agrees where it has one of the class within 0.05 of the score that
overlaps it by 0.8, and has lost it where none overlaps it by half. Of the classifier, pictures with a sure class are compared.

`--maps` says where the loss comes from: the float network with one map at a time rounded to the steps that the int8 file has for it, and
with all of them; its weights stay in float. The distance of scores is the root of the mean square over the sure boxes that are there.

`--pictures` takes pictures without labels, and has a yardstick beside int8: the float network again, with every byte of the picture moved
by -1, 0 or 1 at random, which no eye sees.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeannot.base.places import bundled_folder
from edgeannot.vision.cards import ModelCard, find_card
from edgeannot.vision.data import Detections, Frame, UInt8Array
from edgeannot.vision.engine import Engine
from edgeannot.vision.geometry import iou_matrix
from edgeannot.vision.pipeline import Limits, Pipeline, load_pipeline
from edgeannot_maintain.bundle import LITE0_STATE, TINY_CFG, TINY_MASKS, TINY_WEIGHTS
from edgeannot_maintain.sources import read_part
from edgeannot_maintain.tfjs_models import nanodet_g, ssdlite_mobilenet_v2_coco
from edgeannot_tools.convert import darknet
from edgeannot_tools.convert.torch_route import efficientnet_lite, read_state
from edgeannot_tools.datasets import Dataset, load_dataset
from edgeannot_tools.evaluate.bootstrap import bootstrap_maps, margin
from edgeannot_tools.evaluate.measure import MAX_DETECTIONS, MIN_SCORE, Result, match_model, measure, read_frame
from edgeannot_tools.graph.edits import at_size
from edgeannot_tools.graph.graph import Graph, Op, Quantization, schema
from edgeannot_tools.quantize.acceptance import SURE, ClassAgreement, compare_models
from edgeannot_tools.quantize.calibration_set import find_pictures
from edgeannot_tools.quantize.graph_quantizer import prepare_graph
from edgeannot_tools.quantize.layer_sqnr import paired_tensors

VOC_WORDS = {
    "airplane": "aeroplane", "couch": "sofa", "dining table": "diningtable", "motorcycle": "motorbike", "potted plant": "pottedplant",
    "tv": "tvmonitor",
}  # fmt: skip
"""COCO's names for VOC's classes, where they differ."""
CLASSIFIER = "efficientnet-lite0"
NEAR_IOU, NEAR_SCORE, LOST_IOU = 0.8, 0.05, 0.5
THREADS = 1


def tiny_files(cache: Path) -> tuple[Path, Path]:
    """Return the cfg and the weights that the bundled YOLO was made of."""
    cfg, weights = cache / "yolov3-tiny.cfg", cache / "yolov3-tiny.weights"
    cfg.write_bytes(read_part(TINY_CFG, cache))
    weights.write_bytes(read_part(TINY_WEIGHTS, cache))
    return cfg, weights


def yolov3_tiny(cache: Path) -> Graph:
    """Return the float network of the bundled YOLO."""
    return darknet.convert(*tiny_files(cache), masks=TINY_MASKS).graph


def efficientnet_lite0(cache: Path) -> Graph:
    """Return the float network of the bundled classifier."""
    (cache / "efficientnet-lite0.pth").write_bytes(read_part(LITE0_STATE, cache))
    return efficientnet_lite(read_state(cache / "efficientnet-lite0.pth"))


DETECTORS: dict[str, Callable[[Path], Graph]] = {
    "nanodet-g": lambda cache: nanodet_g(cache)[0],
    "ssdlite-mobilenet-v2-coco": lambda cache: ssdlite_mobilenet_v2_coco(cache)[0],
    "yolov3-tiny": yolov3_tiny,
}


@dataclass(frozen=True, slots=True)
class Set:
    """Labelled pictures, and the words of their labels that are not COCO's."""

    pictures: Dataset
    words: dict[str, str]


@dataclass(frozen=True, slots=True)
class Sure:
    """Sure boxes of the float network, and how many of them int8 has very nearly, and not at all."""

    boxes: int
    agree: int
    lost: int
    shifts: float = 0.0
    """The sum of the squared distances of scores, over those that are not lost."""


def float_pipeline(card: ModelCard, graph: Graph, limits: Limits) -> Pipeline:
    """Return the float network at work, at the input size and as the card of the int8 one says."""
    return _at_work(card, prepare_graph(graph), limits)


def _at_work(card: ModelCard, prepared: Graph, limits: Limits) -> Pipeline:
    sized = Graph.from_bytes(prepared.to_bytes(), card.name)
    if card.input_wh != sized.shape(sized.inputs[0])[2:0:-1]:
        at_size(sized, card.input.width)
    return Pipeline(card, Engine(sized.to_bytes(), THREADS, "auto", name=f"{card.name} in float"), limits=limits)


def sure_boxes(before: Sequence[Detections], after: Sequence[Detections], min_score: float) -> Sure:
    """Return what int8 keeps of the boxes that are sure in float; one item a picture."""
    agree = lost = total = 0
    shifts = 0.0
    for one, other in zip(before, after, strict=True):
        sure = one[one.scores >= min_score + SURE]
        total += len(sure)
        near, shift, there = _partners(sure, other[other.scores >= min_score])
        agree += int(((near >= NEAR_IOU) & (shift <= NEAR_SCORE)).sum())
        lost += int((~there).sum())
        shifts += float(np.square(shift[there]).sum())
    return Sure(total, agree, lost, shifts)


def _partners(sure: Detections, found: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each sure box the overlap with the best of its class, the distance of their scores, and whether they overlap by half."""
    if not len(found):
        return np.zeros(len(sure)), np.ones(len(sure)), np.zeros(len(sure), bool)
    overlap = iou_matrix(sure.boxes, found.boxes) * (sure.classes[:, None] == found.classes)
    best = overlap.argmax(axis=1)
    near = overlap[np.arange(len(sure)), best]
    return near, np.abs(sure.scores - found.scores[best]), near >= LOST_IOU


def voc_words(card: ModelCard) -> dict[str, str]:
    """Return the words of VOC for those of the model's classes that it calls otherwise."""
    return {name: word for name, word in VOC_WORDS.items() if name in card.label_names()}


def sets(data: Path) -> list[Set]:
    """Return the labelled pictures."""
    folder = data / "detection"
    return [
        Set(load_dataset(folder / "voc50_formats" / "voc_xml"), VOC_WORDS),
        Set(load_dataset(folder / "coco_val50" / "labels_yolo"), {}),
    ]


def compare(card: ModelCard, graph: Graph, some: Set) -> tuple[str, Sure]:
    """Return the cells of one set in the table, and what becomes of its sure boxes."""
    limits = Limits(min_score=MIN_SCORE, max_detections=MAX_DETECTIONS)
    match = match_model(card, some.pictures, some.words)
    before = measure(float_pipeline(card, graph, limits), some.pictures, match, coco=False)
    after = measure(load_pipeline(card, threads=THREADS, limits=limits), some.pictures, match, coco=False)
    drawn = [bootstrap_maps([(item.truth, item.found) for item in result.compared], (0.5,))[:, 0] for result in (before, after)]
    was, found = before.accuracy.map50, after.accuracy.map50
    change, reach = found - was, margin(drawn[1] - drawn[0])
    cells = f"{was:.3f} | {found:.3f} | {change:+.3f} ({change - reach:+.3f} to {change + reach:+.3f})"
    return cells, sure_boxes(_found(before), _found(after), card.defaults.min_score)


def _found(result: Result) -> list[Detections]:
    return [item.found for item in result.compared]


def detector_lines(whole: ModelCard, sizes: Sequence[int], cache: Path, labelled: Sequence[Set]) -> Iterator[str]:
    """Yield a line of the table for each input size."""
    graph = DETECTORS[whole.name](cache)
    for size in sizes:
        columns, kept = zip(*[compare(whole.at_size(size), graph, some) for some in labelled], strict=True)
        boxes, agree, lost = (sum(getattr(some, field) for some in kept) for field in ("boxes", "agree", "lost"))
        share = f"{agree} of {boxes} ({agree / max(boxes, 1):.2f})"
        yield f"| `{whole.name}@{size}` | {' | '.join(columns)} | {share} | {lost} |"


def map_lines(card: ModelCard, graph: Graph, labelled: Sequence[Set]) -> Iterator[str]:
    """Yield a line for all maps together, then one for each map that the int8 file holds under the float network's name."""
    prepared, int8 = prepare_graph(graph), Graph.read(card.model_path)
    steps = {tensor: scheme for tensor, twin in paired_tensors(prepared, int8).items() if (scheme := int8.quantization(twin)) is not None}
    limits = Limits(min_score=card.defaults.min_score)

    def measured(graph: Graph) -> list[Result]:
        matches = [match_model(card, some.pictures, some.words) for some in labelled]
        return [measure(_at_work(card, graph, limits), s.pictures, m, coco=False) for s, m in zip(labelled, matches, strict=True)]

    before = measured(prepared)
    for tensors in (list(steps), *([tensor] for tensor in steps)):
        after = measured(rounded_maps(prepared, {tensor: steps[tensor] for tensor in tensors}))
        kept = [sure_boxes(_found(one), _found(other), card.defaults.min_score) for one, other in zip(before, after, strict=True)]
        boxes, agree, lost, shifts = (sum(getattr(some, field) for some in kept) for field in ("boxes", "agree", "lost", "shifts"))
        name = prepared.name(tensors[0]) if len(tensors) == 1 else f"all {len(tensors)}"
        step = f"{steps[tensors[0]].scale[0]:.3g}" if len(tensors) == 1 else ""
        yield f"| {name} | {step} | {_agreement(Sure(boxes, agree, lost, shifts))} |"


def _agreement(kept: Sure) -> str:
    """Return the cells of how many agree, and how far the scores are apart."""
    apart = (kept.shifts / max(kept.boxes - kept.lost, 1)) ** 0.5
    return f"{kept.agree} of {kept.boxes} ({kept.agree / max(kept.boxes, 1):.2f}) | {apart:.4f}"


def picture_line(card: ModelCard, graph: Graph, frames: Sequence[Frame]) -> str:
    """Return a line on pictures without labels: int8, and float where the bytes are off by one at most."""
    limits, noise = Limits(min_score=card.defaults.min_score), np.random.default_rng(0)
    reference = float_pipeline(card, graph, limits)
    before = [reference(frame).detections for frame in frames]
    moved = [replace(frame, image=off_by_one(frame.image, noise)) for frame in frames]
    cells = []
    for pipeline, seen in ((load_pipeline(card, threads=THREADS, limits=limits), frames), (reference, moved)):
        cells.append(_agreement(sure_boxes(before, [pipeline(frame).detections for frame in seen], card.defaults.min_score)))
    return f"| `{card.name}` | {' | '.join(cells)} |"


def off_by_one(image: UInt8Array, noise: np.random.Generator) -> UInt8Array:
    """Return the picture with every byte moved by -1, 0 or 1."""
    return np.clip(image.astype(np.int16) + noise.integers(-1, 2, image.shape), 0, 255).astype(np.uint8)


def rounded_maps(graph: Graph, steps: Mapping[int, Quantization]) -> Graph:
    """Return a copy of a float graph in which these tensors are rounded to int8 and back."""
    copy = Graph.from_bytes(graph.to_bytes(), graph.where)
    for tensor, scheme in steps.items():
        maker = copy.producers()[tensor]
        raw, stored = copy.add_tensor(f"{copy.name(tensor)}/raw", copy.shape(tensor)), copy.add_tensor("", copy.shape(tensor), np.int8)
        copy.set_quantization(stored, scheme.scale[0], scheme.zero_point[0])
        maker.outputs = [raw if made == tensor else made for made in maker.outputs]
        behind = next(i for i, operator in enumerate(copy.operators) if operator is maker) + 1
        copy.add_operator(Op.QUANTIZE, [raw], [stored], schema.QuantizeOptionsT(), position=behind)
        copy.add_operator(Op.DEQUANTIZE, [stored], [tensor], schema.DequantizeOptionsT(), version=2, position=behind + 1)
    return copy


def classifier_line(card: ModelCard, cache: Path, data: Path) -> str:
    """Return a sentence about the classifier."""
    limits = Limits(min_score=0.0)
    frames = [read_frame(path, i, "") for i, path in enumerate(sorted((data / "classification" / "animals10_dev").rglob("*.jpg")))]
    reference = float_pipeline(card, efficientnet_lite0(cache), limits)
    found = compare_models(reference, load_pipeline(card, threads=THREADS, limits=limits), frames)
    assert isinstance(found, ClassAgreement)
    low, high = found.interval
    return (
        f"{card.name}: float's class on {found.same} of {found.pictures} pictures, of those where float is sure "
        f"{found.sure_same} of {found.sure} (changed: {low:.3f} to {high:.3f}), scores {found.score_shift:.3f} apart"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare the bundled int8 files with their float networks.")
    parser.add_argument("only", nargs="*", metavar="NAME[@SIZE]", help="these models or sizes only")
    parser.add_argument("--maps", action="store_true", help="which maps of each named NAME@SIZE the loss comes from")
    parser.add_argument("--pictures", type=Path, nargs="+", metavar="FOLDER", help="the same for pictures without labels")
    parser.add_argument("--models", type=Path, default=bundled_folder(), help="where the int8 files are")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EDGEANNOT_TEST_DATA", "../shared/data")))
    parser.add_argument("--cache", type=Path, default=Path(".cache/models"))
    options = parser.parse_args()
    wanted = [name.partition("@")[::2] for name in options.only or (*DETECTORS, CLASSIFIER)]
    detectors = [(name, size) for name, size in wanted if name != CLASSIFIER]
    if options.maps:
        for name, size in detectors:
            card = find_card(name, [options.models])
            print("| map | step | sure boxes that agree | scores apart |\n|---|---|---|---|")
            for line in map_lines(card.at_size(int(size)) if size else card, DETECTORS[name](options.cache), sets(options.data)):
                print(line, flush=True)
        return
    if options.pictures:
        paths = [path for folder in options.pictures for path in find_pictures(str(folder))]
        frames = [read_frame(path, i, "") for i, path in enumerate(paths)]
        print(f"{len(frames)} pictures")
        print("| model | sure boxes that agree | scores apart | float, bytes off by one: agree | scores apart |\n|---|---|---|---|---|")
        for name, size in detectors:
            card = find_card(name, [options.models])
            for width in [int(size)] if size else card.input.sizes:
                print(picture_line(card.at_size(width), DETECTORS[name](options.cache), frames), flush=True)
        return
    if detectors:
        print("| model | VOC: float | int8 | difference (95 %) | COCO: float | int8 | difference (95 %) | sure boxes that agree | lost |")
        print("|---|---|---|---|---|---|---|---|---|")
    labelled = sets(options.data)
    for name, size in detectors:
        card = find_card(name, [options.models])
        for line in detector_lines(card, [int(size)] if size else card.input.sizes, options.cache, labelled):
            print(line, flush=True)
    if len(detectors) < len(wanted):
        print(classifier_line(find_card(CLASSIFIER, [options.models]), options.cache, options.data))


if __name__ == "__main__":
    main()
