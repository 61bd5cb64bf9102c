"""How the picture becomes the input tensor: from the user, the graph, the tensor's quantization, metadata, else the family's convention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.card_inference.facts import Facts
from edgeannot.card_inference.hints import Hints
from edgeannot.card_inference.interpretation import RANGES, Assumed, Assumption, Convention, Interpretation
from edgeannot.tflite.trace import first_layer_size, input_affine
from edgeannot.vision.cards import Input

__all__ = ["Numbers", "propose_input", "stated_numbers"]

Color = Literal["RGB", "BGR", "GRAY"]

NEAR = 0.06
"""Calibrated ranges end a little beside the nominal ones."""
BYTE_WEIGHTS = 0.12
"""Filters of a first layer below this size expect 0..255: seen are 0.03 for those, and 0.4 to 19 for inputs of about 1."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Mean and std in bytes, and why."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    evidence: str
    certain: bool = True


def propose_input(facts: Facts, interpretation: Interpretation, hints: Hints) -> tuple[Input, list[str], list[Assumed]]:
    """Return the card's [input] table, the evidence, and what was settled by convention only."""
    picture, convention = facts.picture, interpretation.convention
    color, color_why = _color(facts, convention, hints)
    numbers = stated_numbers(facts, hints) or _by_convention(facts, convention, color)
    resize = hints.resize or convention.resize
    evidence = [numbers.evidence, color_why]
    assumptions = [] if numbers.certain else [Assumption.INPUT_NUMBERS.of(numbers=_say(numbers))]
    if hints.color is None and picture.channels == 3 and color == "BGR":
        assumptions.append(Assumption.COLOR_ORDER.of(color="BGR", who=convention.who, other="RGB"))
    if hints.resize is None:
        evidence.append(f"pictures are fitted by {resize}, the convention of {convention.who}")
    card = Input(
        width=picture.width,
        height=picture.height,
        channels=picture.channels,
        layout=picture.layout,
        resize=resize,
        pad=convention.pad,
        color=color,
        mean=_one_or_all(numbers.mean, picture.channels),
        std=_one_or_all(numbers.std, picture.channels),
    )
    return card, evidence, assumptions


def stated_numbers(facts: Facts, hints: Hints) -> Numbers | None:
    """Return mean and std where the user or the file states them; None where only convention is left."""
    if hints.input_range is not None:
        return Numbers(*hints.input_range, "input numbers as given")
    tensor = facts.picture.tensor
    if tensor.dtype in {"uint8", "int8"}:
        zero = 0.0 if tensor.dtype == "uint8" else 128.0
        as_they_are = Numbers((zero,), (1.0,), f"the input is {tensor.dtype} without quantization: bytes as they are")
        return _from_quantization(facts) if tensor.quantized else as_they_are
    if (affine := input_affine(facts.model)) is not None and (found := _from_affine(*affine)) is not None:
        return found
    for stated in facts.metadata.inputs[:1]:
        if stated.mean and stated.std and 0.0 not in stated.std:
            mean, std = _shortest(stated.mean), _shortest(stated.std)
            return Numbers(mean, std, f"the file's metadata states mean {mean} and std {std}")
    exporter = facts.metadata.exporter
    if exporter is not None:
        return Numbers(*RANGES["0..1"], f"{exporter.file} is Ultralytics', whose models take 0..1")
    return None


def _from_quantization(facts: Facts) -> Numbers | None:
    tensor = facts.picture.tensor
    low, high = tensor.real_range
    if -2.7 < low < -1.6 and 2.0 < high < 3.0:
        return None  # mean and standard deviation of ImageNet: the family says in which order of colours
    shift = 128 if tensor.dtype == "int8" else 0
    mean, std = float(tensor.zero_point + shift), round(1.0 / tensor.scale, 4)
    nominal = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
    known = any(abs(low - a) <= NEAR * (b - a) and abs(high - b) <= NEAR * (b - a) for a, b in nominal)
    says = f"the input is {tensor.dtype} with steps of {tensor.scale:.6g} from {low:.3g} to {high:.3g}"
    unless = "" if known else ", if no other range is given"
    return Numbers((mean,), (std,), f"{says}: the picture's bytes are its steps{unless}", certain=known)


def _from_affine(factor: NDArray[np.float64], offset: NDArray[np.float64]) -> Numbers | None:
    """Return what the input is when the graph itself scales it: the range that becomes 0..1 or -1..1, else one that ends within about 3.

    Bytes also where the graph takes their mean off and leaves the rest to the weights, as networks from Caffe do.
    """
    says = f"the graph starts with x * {factor.reshape(-1)[0]:.4g} + {offset.reshape(-1)[0]:.4g}"
    for name in ("0..255", "0..1", "-1..1", "imagenet"):
        mean, std = (np.array(numbers) for numbers in RANGES[name])
        low, high = (factor * ((byte - mean) / std) + offset for byte in (0.0, 255.0))
        if np.allclose(high, 1, atol=0.02) and (np.allclose(low, 0, atol=0.02) or np.allclose(low, -1, atol=0.02)):
            return Numbers(*RANGES[name], f"{says}: it takes {name} to {low.mean():.0f}..1 itself")
    for name, top in (("0..255", 255.0), ("0..1", 1.0)):
        ends = np.stack([offset, factor * top + offset])
        if 0.4 <= float(np.abs(ends).max()) <= 3.5 and float(np.ptp(ends, axis=0).min()) >= 0.4:
            return Numbers(*RANGES[name], f"{says}: it normalises {name} itself")
    low, high = offset, factor * 255 + offset
    if np.all((low >= -170) & (low <= -80) & (high >= 80) & (high <= 175)):
        return Numbers(*RANGES["0..255"], f"{says}: it takes the mean off bytes itself")
    return None


def _by_convention(facts: Facts, convention: Convention, color: Color) -> Numbers:
    """Return the family's numbers, unless the size of the first layer's weights contradicts them. color: in whose order."""
    word = convention.input_range
    why = f"the file does not state the input numbers; models of {convention.who} take {word}"
    size = first_layer_size(facts.model)
    if size is not None and facts.picture.tensor.dtype == "float32":
        bytes_wanted = size < BYTE_WEIGHTS
        says = f"the first layer's weights are {'small' if bytes_wanted else 'large'} ({size:.3g})"
        if bytes_wanted != (word == "0..255"):
            word = "0..255" if bytes_wanted else "imagenet"
            why += f", but {says}, which fits {'bytes' if bytes_wanted else 'numbers about 1'}: {word}"
        else:
            why += f"; {says}, which fits"
    mean, std = RANGES[word]
    if color != ("BGR" if word == "nanodet" else "RGB"):
        mean, std = mean[::-1], std[::-1]
    if facts.picture.channels == 1 and len(mean) == 3:
        mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
    return Numbers(mean, std, why, certain=False)


def _color(facts: Facts, convention: Convention, hints: Hints) -> tuple[Color, str]:
    if facts.picture.channels == 1:
        return "GRAY", "one channel: grayscale"
    if hints.color in {"BGR", "RGB"}:
        return hints.color, "colour order as given"
    stated = facts.metadata.inputs[0].color if facts.metadata.inputs else ""
    if stated == "RGB":
        return "RGB", "the file's metadata says RGB"
    return convention.color, f"colour order {convention.color}, the convention of {convention.who}"


def _shortest(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """Return one number where all are the same."""
    rounded = tuple(round(number, 4) for number in numbers)
    return rounded[:1] if len(set(rounded)) == 1 else rounded


def _one_or_all(numbers: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return numbers if len(numbers) in {1, channels} else numbers[:1]


def _say(numbers: Numbers) -> str:
    return f"(byte - {', '.join(f'{m:g}' for m in numbers.mean)}) / {', '.join(f'{s:g}' for s in numbers.std)}"
