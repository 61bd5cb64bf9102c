"""The models of `python -m benchmarks.rule`: bundled and of the catalogue, in int8 and, where there is a float original, in float."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.networks import COMMAND, Places, cached, ssd_oid
from edgeannot.base.foreign import sha256_of
from edgeannot.base.places import bundled_folder
from edgeannot.library.catalogue import Entry, read_catalogue
from edgeannot.library.obtain import PullOptions
from edgeannot.library.pull import pull
from edgeannot.vision.cards import ModelCard, find_card, read_card
from edgeannot_maintain.bundle import TINY_CFG, TINY_WEIGHTS

__all__ = ["Line", "lines_of", "not_at_hand"]

COCO_LISTS = ("coco80", "coco90")
TINY_SIZES = (192, 224, 320, 416)


@dataclass(frozen=True, slots=True)
class Line:
    """One model with one dtype, at its sizes."""

    name: str
    dtype: Literal["int8", "float32"]
    made: str
    """Where the file is from, in a few words."""
    cards: tuple[ModelCard, ...]
    """Smallest input first."""

    @property
    def family(self) -> str:
        """yolo or ssd."""
        return self.cards[0].family


def lines_of(places: Places, *, tiny: bool) -> list[Line]:
    """All lines whose files are at hand; `tiny`: two of them, to try the benchmark itself."""
    bundled = find_card("yolov3-tiny", [bundled_folder()])
    sizes = (192, 416) if tiny else TINY_SIZES
    lines = [Line("yolov3-tiny", "int8", "bundled", tuple(bundled.at_size(size) for size in sizes))]
    found = list(_from_catalogue(places))
    if tiny:
        return [*lines, *(line for line in found if line.name == "ssd-mobilenet-v1-coco")]
    lines.append(Line("yolov3-tiny", "float32", "its Darknet weights, converted", tuple(_tiny_float(places, size) for size in sizes)))
    oid = "ssd-mobilenet-v2-oid"
    lines.append(Line(oid, "float32", "catalogue, MediaPipe's file with float16 weights", (ssd_oid(places)[0].card,)))
    return [*lines, *found]


def _tiny_float(places: Places, size: int) -> ModelCard:
    """The bundled YOLO before it was quantized, for one input size."""
    cfg, weights = cached(TINY_CFG, TINY_WEIGHTS)(places)
    out = places.work / f"yolov3-tiny-float-{size}.tflite"
    names = bundled_folder() / "yolov3-tiny.labels.txt"
    _command("convert", cfg, weights, "-o", out, "--mask", "1,2,3", "--labels", names, "--size", size)
    return read_card(out.with_suffix(".toml"))


def _command(*words: object) -> None:
    subprocess.run([*COMMAND, *map(str, words)], check=True, capture_output=True)


def _detectors() -> list[Entry]:
    """Entries that know COCO's classes."""
    return [entry for entry in read_catalogue().values() if entry.task == "detect" and (entry.names in COCO_LISTS or not entry.names)]


def _files(places: Places) -> dict[str, Path]:
    """sha256 -> file, of what the test data holds."""
    return {sha256_of(path): path for path in sorted((places.data / "models").rglob("*")) if path.is_file()}


def not_at_hand(places: Places) -> list[str]:
    """Detectors of the catalogue that know COCO's classes and whose files are not in the test data."""
    there = _files(places)
    return [entry.name for entry in _detectors() if any(file.sha256 not in there for file in entry.files)]


def _from_catalogue(places: Places) -> list[Line]:
    """Pulled as `edgeannot models pull --file` does; what comes as float is quantized as `edgeannot quantize` does."""
    there = _files(places)
    lines = []
    for entry in _detectors():
        if any(file.sha256 not in there for file in entry.files):
            continue
        files = tuple(there[file.sha256] for file in entry.files)
        card = pull(entry, PullOptions(places.work / "models", places.work / "downloads", files=files, offline=True)).card
        if not entry.converted:
            lines.append(Line(entry.name, "int8", "catalogue, published as int8", (card,)))
            continue
        lines.append(Line(entry.name, "float32", "catalogue, converted", (card,)))
        small = places.work / f"{entry.name}-int8.tflite"
        pictures = places.data / "detection" / "voc50_formats" / "images"
        _command("quantize", card.folder / f"{card.name}.toml", "-o", small, "--images", pictures, "--limit", 24, "--no-check")
        lines.append(Line(entry.name, "int8", "catalogue, quantized by `edgeannot quantize`", (read_card(small.with_suffix(".toml")),)))
    return lines
