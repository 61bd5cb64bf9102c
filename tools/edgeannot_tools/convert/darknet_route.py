"""`edgeannot convert` for Darknet: finds the .cfg, .weights and .names that belong together, and writes the card that the cfg states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import sha256_of
from edgeannot.card_inference import read_labels
from edgeannot_tools.convert import darknet
from edgeannot_tools.convert.darknet_files import read_bytes
from edgeannot_tools.convert.files import CLASS_NAMES_HINT, Converted, Request, label_names

__all__ = ["convert_darknet", "find_pair"]

TRAINING_SUFFIX = re.compile(r"_(best|last|final|\d+)$")
"""Darknet's trainer writes NAME_best.weights, NAME_last.weights, NAME_10000.weights for NAME.cfg."""
CLASS_MIN_SCORE = 0.1
"""A classifier spreads its score over classes that are alike; 0.3 would often show nothing."""
PAD_BYTE = 127
"""Darknet's letterbox fills with 0.5."""


def find_pair(sources: Sequence[Path]) -> tuple[Path, Path]:
    """Return the .cfg and the .weights, where one is given the other from beside it. Raises MissingError or InputError."""
    cfg = next((path for path in sources if path.suffix.lower() == ".cfg"), None)
    weights = next((path for path in sources if path.suffix.lower() == ".weights"), None)
    if cfg is None and weights is not None:
        cfg = _one_of([weights.with_name(f"{stem}.cfg") for stem in _stems(weights)], "cfg", weights)
    if weights is None and cfg is not None:
        trained = [path for path in sorted(cfg.parent.glob("*.weights")) if path.stem != cfg.stem and cfg.stem in _stems(path)]
        same = cfg.with_suffix(".weights")
        weights = _one_of([same] if same.is_file() else trained, "weights", cfg)
    if cfg is None or weights is None or len(sources) > 2:
        raise InputError(f"wanted one Darknet .cfg and one .weights, found {', '.join(path.name for path in sources)}")
    for path in (cfg, weights):
        if not path.is_file():
            raise MissingError(f"there is no file {path}")
    return cfg, weights


def _stems(weights: Path) -> list[str]:
    """Return the names that the cfg of such weights has."""
    return list(dict.fromkeys([weights.stem, TRAINING_SUFFIX.sub("", weights.stem)]))


def _one_of(candidates: Sequence[Path], kind: str, other: Path) -> Path:
    found = [path for path in candidates if path.is_file()]
    if len(found) == 1 or (found and found[0].stem == other.stem):
        return found[0]
    seen = f"several are there ({', '.join(path.name for path in found)})" if found else f"there is no {other.stem}.{kind} beside it"
    error = InputError if found else MissingError
    raise error(f"{other} needs its .{kind}, and {seen}; name both files")


def convert_darknet(sources: Sequence[Path], request: Request) -> Converted:
    """Return the network of a .cfg and a .weights. Raises MissingError or InputError, each naming the file and the line or layer."""
    cfg, weights = find_pair(sources)
    sections = darknet.parse_cfg(read_bytes(cfg).decode("utf-8-sig", "replace"), str(cfg))
    try:
        made = darknet.convert(cfg, weights, size_wh=request.size_wh, masks=_masks(sections, request.masks, cfg))
        _check_strides(made)
    except InputError as exc:
        if request.size_wh is None:
            raise
        width, height = request.size_wh
        raise InputError(f"--size {width}x{height}: {exc}; most networks of this kind need multiples of 32") from exc
    names, notes = _names(made, cfg, request)
    warnings = list(made.warnings)
    if darknet.TINY_WARNING in warnings:
        warnings.append("the masks are given with --mask 1,2,3 (the last [yolo] section's)")
    usable = bool(made.heads) or made.graph.shape(made.graph.outputs[0])[1:-1] in ((), (1, 1))
    table = _card(made, sections[0]) | {"provenance": {"source_sha256": sha256_of(weights)}} if usable else None
    return Converted(
        made.graph,
        source=f"{cfg.name}, {weights.name}",
        card=table,
        no_card="" if usable else "the cfg ends in a map without [yolo] or [region], so what it is for is not known",
        names=names,
        evidence=(f"converted from {cfg.name}, which states the head, and {weights.name}",),
        notes=(*made.notes, *notes),
        warnings=tuple(warnings),
    )


def _masks(sections: Sequence[darknet.Section], given: Sequence[Sequence[int]], cfg: Path) -> list[Sequence[int]] | None:
    """Return masks for every head; one given mask is the last head's."""
    heads = [section for section in sections if section.kind in darknet.HEAD_KINDS]
    if not given:
        return None
    if len(given) not in (1, len(heads)):
        raise InputError(
            f"--mask: {cfg} has {len(heads)} [yolo] sections; give one mask (the last one's) or {len(heads)}, found {len(given)}"
        )
    if len(given) == len(heads):
        return list(given)
    own = [list(head.integers("mask")) or list(range(len(head.numbers("anchors")) // 2)) for head in heads[:-1]]
    return [*own, given[0]]


def _check_strides(made: darknet.Conversion) -> None:
    """Raise InputError where a head's cells are no whole number of pixels."""
    for head in made.heads:
        if any(pixels % cells for pixels, cells in zip(made.input_wh, head.grid_wh, strict=True)):
            size, grid = ("x".join(map(str, wh)) for wh in (made.input_wh, head.grid_wh))
            raise InputError(f"an input of {size} gives a map of {grid} cells, which are no whole number of pixels")


def _names(made: darknet.Conversion, cfg: Path, request: Request) -> tuple[tuple[str, ...], list[str]]:
    """Return class names and a sentence about them: as given, or from a .names file beside the cfg that has as many as there are
    classes."""
    classes = made.heads[0].classes if made.heads else made.graph.shape(made.graph.outputs[0])[-1]
    if request.hints.labels is not None:
        return label_names(request.hints.labels, classes), []
    for path in dict.fromkeys([cfg.with_suffix(".names"), *sorted(cfg.parent.glob("*.names"))]):
        if path.is_file() and len(names := read_labels(path)) == classes:
            return names, [f"class names are those of {path}"]
    return (), [CLASS_NAMES_HINT]


def _card(made: darknet.Conversion, net: darknet.Section) -> dict[str, Any]:
    width, height = made.input_wh
    channels = made.graph.shape(made.graph.inputs[0])[3]
    table: dict[str, Any] = {
        "task": "detect" if made.heads else "classify",
        "family": "yolo" if made.heads else "other",
        "input": {
            "width": width,
            "height": height,
            "channels": channels,
            "resize": "letterbox" if net.integer("letter_box", 0) else "stretch",
            "pad": PAD_BYTE,
            "color": "RGB" if channels == 3 else "GRAY",
            "mean": [0.0],
            "std": [255.0],
        },
        "head": _head(made.heads) if made.heads else _classifier(made),
    }
    if not made.heads:
        table["defaults"] = {"min_score": CLASS_MIN_SCORE}
    return table


def _head(heads: Sequence[darknet.Head]) -> dict[str, Any]:
    """Return the `yolo-grid` head of the sections. Raises InputError where they are of different kinds."""
    first = heads[0]
    kinds = {(head.kind, head.new_coords, head.softmax, head.classes) for head in heads}
    if len(kinds) > 1:
        raise InputError(f"the cfg's heads differ in kind, coordinates or classes ({sorted(map(str, kinds))}), which no card can say")
    table: dict[str, Any] = {
        "kind": "yolo-grid",
        "grids": [{"output": head.output, "anchors": head.anchors} for head in heads],
    }
    if len(scales := {head.scale_x_y for head in heads}) == 1:
        table["xy_scale"] = scales.pop()
    else:
        table["grids"] = [grid | {"xy_scale": head.scale_x_y} for grid, head in zip(table["grids"], heads, strict=True)]
    if first.new_coords:  # the convolution before it ends in a logistic function then, and [yolo] applies none
        table |= {"activation": "none", "class_activation": "none", "size": "square"}
    if first.kind == "region":
        table |= {"anchor_units": "cells", "class_activation": "softmax" if first.softmax else "sigmoid"}
    return table


def _classifier(made: darknet.Conversion) -> dict[str, Any]:
    graph = made.graph
    output = graph.outputs[0]
    probabilities = graph.code_name(graph.producers()[output]) == "SOFTMAX"
    return {"kind": "classify", "output": graph.name(output), "activation": "none" if probabilities else "softmax"}
