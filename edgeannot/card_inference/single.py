"""Reads models with one vector for the whole picture: classifiers and embeddings."""

from __future__ import annotations

from typing import Literal

from edgeannot.card_inference.boxes import BINS
from edgeannot.card_inference.facts import Out
from edgeannot.card_inference.interpretation import Convention, Interpretation, Known
from edgeannot.card_inference.maps import stride_maps
from edgeannot.card_inference.scores import PROBABILITY_MAKERS, add_up
from edgeannot.tflite.trace import maker
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.heads.embed import Embed

__all__ = ["read_single", "what_it_is"]

POOLS = frozenset(("MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_NORMALIZATION", "SUM", "REDUCE_MAX", "RELU6", "RELU", "HARD_SWISH", "MUL"))
"""Operators that end a feature extractor rather than a classifier."""
SMALLEST_STRIDE = 8
"""Maps with more cells are masks, as a rule."""
ALL_OUTPUTS = "export it with all of its outputs"
CLASS_WORDS = ("predict", "softmax", "prob", "logit", "class", "score", "dense")


def read_single(known: Known) -> list[Interpretation]:  # noqa: PLR0911 - one answer a sign, the surest first
    """Interpret one output (1, C) or (1, 1, 1, C): probabilities, logits or an embedding."""
    if len(known.facts.outputs) != 1:
        return []
    out = known.facts.outputs[0]
    shape = known.run.shape(out.position)
    inner = [n for n in shape if n != 1] or [1]
    if not shape or len(inner) != 1 or shape[-1] != inner[0]:
        return []
    columns = inner[0]
    operator = maker(known.facts.graph, out.tensor.index)
    made_by = "" if operator is None else operator.name
    numbers = known.run.of(out.position).reshape(-1, columns)
    convention = Convention.TORCH_CLASSIFIER if known.facts.picture.layout == "NCHW" else Convention.CLASSIFIER
    if known.hints.task == "embed" or known.hints.head == "embed":
        return [Interpretation(Embed(output=out.ref), convention, (f"{out} is taken as an embedding, as asked for",))]
    if made_by in {"SOFTMAX", "LOGISTIC"}:
        evidence = f"{out} ends in {made_by}: {columns} class probabilities"
        return [_classifier(out, "none", columns, convention, evidence)]
    if columns > 1 and add_up(numbers):
        return [_classifier(out, "none", columns, convention, f"{out} adds up to 1 in a sample run: {columns} class probabilities")]
    if columns == 1:
        return []
    if columns in known.class_counts() or known.hints.task == "classify" or known.hints.head == "classify":
        low, high = float(numbers.min()), float(numbers.max())
        seen = f"from {low:.3g} to {high:.3g} in a sample run"
        evidence = f"{out} has a number for each of {columns} classes, {seen}: logits, so a softmax follows"
        return [_classifier(out, "softmax", columns, convention, evidence)]
    if made_by in POOLS and not known.names:
        return [Interpretation(Embed(output=out.ref), convention, (f"{out} ends in {made_by}, not in a classifier's layer: an embedding",))]
    if columns in {1000, 1001} or any(word in out.tensor.name.lower() for word in CLASS_WORDS):
        how = "by the name or count of a classifier, which are no probabilities"
        evidence = f"{out} has {columns} numbers {how}: logits, so a softmax follows"
        return [_classifier(out, "softmax", columns, convention, evidence)]
    raise known.ambiguous(
        f"{out} ends in {made_by or 'an unknown operator'} with {columns} numbers: "
        f"the logits of {columns} classes, or an embedding; points, a box or other measurements would be no model for edgeannot",
        ["--task classify", "--task embed", "--labels FILE with a line for each class"],
    )


def _classifier(out: Out, activation: Literal["none", "softmax"], columns: int, convention: Convention, evidence: str) -> Interpretation:
    head = Classify(output=out.ref, activation=activation)
    return Interpretation(head, convention, (evidence,), classes=columns)


def what_it_is(known: Known) -> str:  # noqa: PLR0911 - one answer a sign, the surest first
    """Return a clause for the refusal: what the outputs look like and what would be needed."""
    picture = known.facts.picture
    shapes = [known.run.shape(out.position) for out in known.facts.outputs]
    exporter = known.facts.metadata.exporter
    if exporter and exporter.task not in {"", "detect", "classify"}:
        return f"{exporter.file} says task {exporter.task!r}, of which boxes cannot be read here"
    if any((17 in s or 33 in s or 51 in s or 56 in s) and len(s) >= 3 and max(s) <= 64 for s in shapes):
        return "its output looks like keypoints of a body (MoveNet, PoseNet), not like boxes or classes"
    if missing := _cut_off(known):
        return missing
    for s in shapes:
        if len(s) == 4 and (s[1] * 4 >= picture.height and s[2] * 4 >= picture.width):
            return "its output is a map nearly as large as the picture (segmentation, depth or a filtered picture), not boxes or classes"
        alike = len(s) == 3 and abs(s[1] * picture.width - s[2] * picture.height) <= max(picture.size_wh)
        if alike and picture.height <= s[1] * 4 <= 8 * picture.height:
            return "its output is a map nearly as large as the picture (segmentation or depth), not boxes or classes"
    if len(shapes) == 1 and len(shapes[0]) in {2, 3} and shapes[0][-1] in {6, 7} and shapes[0][-2] <= 1000:
        return "its output looks like rows of objects in an order that is not known: wanted four box numbers, then score, then class id"
    if any(len(s) == 4 and s[1] * s[2] > 1 for s in shapes):
        return "its outputs are maps that fit no known detector (heat maps of keypoints, centres or segments, perhaps)"
    if len(shapes) > 1 and all(len([n for n in s if n != 1]) <= 1 for s in shapes):
        return "it has several vectors for the whole picture (landmarks, attributes), which is neither boxes nor one list of classes"
    return "its outputs fit no known kind of detector, classifier or embedding"


def _cut_off(known: Known) -> str:
    """Return a clause where a detector with distances in bins has only some of its outputs; "" for others.

    It has a map of 4 x bins numbers and one of class scores for each stride; an exporter or a splitter may leave some behind.
    """
    maps = [next(stride_maps(known, out), None) for out in known.facts.outputs]
    found = [item for item in maps if item is not None and item.stride >= SMALLEST_STRIDE]
    if len(found) < len(maps) or len(maps) < 2:
        return ""
    boxes = [item for item in found if item.out.made_by not in PROBABILITY_MAKERS and item.channels // 4 in BINS and item.channels % 4 == 0]
    scores = [item for item in found if item not in boxes]
    strides = sorted({item.stride for item in found})
    all_scores = len(found) == len(strides) > 1 and len({item.channels for item in found}) == 1
    if not boxes:
        activated = all(item.out.made_by in PROBABILITY_MAKERS for item in found)
        return f"its outputs hold class scores for {_strides(strides)}, but no boxes; {ALL_OUTPUTS}" if all_scores and activated else ""
    lacks = [
        f"no {what} for {_strides(lacking)}"
        for what, items in (("class scores", scores), ("boxes", boxes))
        if (lacking := sorted(set(strides) - {item.stride for item in items}))
    ]
    if not lacks and len(strides) == 1:
        lacks = [f"nothing but {_strides(strides)}"]
    bins = boxes[0].channels // 4
    of = f"a detector with an output of 4 x {bins} distances and one of class scores for each of several strides"
    return f"its outputs look like some of {of}: there are {' and '.join(lacks)}; {ALL_OUTPUTS}" if lacks else ""


def _strides(strides: list[int]) -> str:
    if len(strides) == 1:
        return f"stride {strides[0]}"
    return f"the strides {', '.join(map(str, strides[:-1]))} and {strides[-1]}"
