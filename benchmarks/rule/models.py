"""The models of `python -m benchmarks.rule`: bundled and of the catalogue, in int8 and, where there is a float original, in float."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from benchmarks.bundled import DETECTORS
from benchmarks.networks import COMMAND, Places
from edgeannot.base.foreign import sha256_of
from edgeannot.base.places import bundled_folder
from edgeannot.library.catalogue import Entry, read_catalogue
from edgeannot.library.modelstore import card_toml
from edgeannot.library.obtain import PullOptions
from edgeannot.library.pull import pull
from edgeannot.vision.cards import ModelCard, find_card, read_card
from edgeannot_tools.output import write_whole
from edgeannot_tools.quantize.graph_quantizer import prepare_graph

__all__ = ["Line", "lines_of", "not_at_hand"]

COCO_LISTS = ("coco80", "coco90")


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
        """yolo, ssd or nanodet."""
        return self.cards[0].family


def lines_of(places: Places, *, tiny: bool) -> list[Line]:
    """All lines whose files are at hand; `tiny`: two of them, to try the benchmark itself."""
    bundled = [find_card(name, [bundled_folder()]) for name in DETECTORS]
    if tiny:
        return [Line(card.name, "int8", "bundled", (card.at_size(card.input.sizes[0]),)) for card in bundled[:2]]
    lines = [Line(card.name, "int8", "bundled", _at_all_sizes(card)) for card in bundled]
    lines += [Line(card.name, "float32", "its published weights", _at_all_sizes(_in_float(card, places))) for card in bundled]
    return [*lines, *_from_catalogue(places)]


def _at_all_sizes(card: ModelCard) -> tuple[ModelCard, ...]:
    return tuple(card.at_size(size) for size in sorted(card.input.sizes))


def _in_float(card: ModelCard, places: Places) -> ModelCard:
    """A bundled detector before it was quantized."""
    folder = places.work / "float"
    data, file = prepare_graph(DETECTORS[card.name](places.cache)).to_bytes(), f"{card.name}.tflite"
    labels = card.labels.model_copy(update={"file": None, "names": card.label_names()})
    changes = {"file": file, "sha256": sha256(data).hexdigest(), "labels": labels, "measured": ()}
    write_whole(folder / file, data)
    write_whole(folder / f"{card.name}.toml", card_toml(card.model_copy(update=changes), ()).encode())
    return read_card(folder / f"{card.name}.toml")


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
