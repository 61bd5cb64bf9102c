"""The label lists of the bundled models."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from edgeannot.base.errors import InputError
from edgeannot_maintain.sources import Package, Part, read_part

__all__ = ["coco_labels", "imagenet_labels"]

COCO_NAMES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking meter, bench, "
    "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, "
    "snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, "
    "knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, "
    "dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, "
    "vase, scissors, teddy bear, hair drier, toothbrush"
)
"""The 80 classes of COCO without the gaps of its ids."""

MOBILENET_JS = Package("npm", "@tensorflow-models/mobilenet", "2.1.1", "tensorflow-models-mobilenet-2.1.1.tgz")
IMAGENET_CLASSES = Part(
    MOBILENET_JS, "package/dist/imagenet_classes.js", "2b077246aef6959d0714d3a454aac148aa71581236ba3233c839ca50307cee1b"
)
IMAGENET_COUNT = 1000
# Two classes are called the same, or lead with the same word; ids count from 0.
IMAGENET_APART = {134: "crane (bird)", 517: "crane (machine)", 639: "tank suit"}
STRING = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
ENTRY = re.compile(rf"(\d+):\s*({STRING}(?:\s*\+\s*{STRING})*)")


def coco_labels() -> tuple[str, ...]:
    """COCO's names, id 0 first."""
    return tuple(COCO_NAMES.split(", "))


def imagenet_labels(cache: Path) -> tuple[str, ...]:
    """ImageNet's names, id 0 first: of each class the first of its synonyms, and never one name for two classes."""
    text = read_part(IMAGENET_CLASSES, cache).decode("utf-8")
    names: dict[int, str] = {}
    for number, value in ENTRY.findall(text):
        # JavaScript's strings, joined by +, are written as Python's are.
        whole = "".join(str(ast.literal_eval(part)) for part in re.findall(STRING, value))
        names[int(number)] = whole.split(",")[0].strip()
    names |= IMAGENET_APART
    if sorted(names) != list(range(IMAGENET_COUNT)) or len(set(names.values())) != IMAGENET_COUNT:
        raise InputError(f"{IMAGENET_CLASSES}: wanted {IMAGENET_COUNT} different names, found {len(set(names.values()))}")
    return tuple(names[number] for number in range(IMAGENET_COUNT))
