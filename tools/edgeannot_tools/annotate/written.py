"""What a model found, as a labelled set in one of the formats of `datasets`, as JSON lines, and as a sheet to look through."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeannot.payload import Origin, detections_payload, encode
from edgeannot.vision.data import Detections, ModelFacts, UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot.vision.draw import draw
from edgeannot_tools.annotate.found import Found
from edgeannot_tools.datasets import Dataset, LabelledObject, Picture, PictureMode
from edgeannot_tools.datasets.pictures import place_pictures
from edgeannot_tools.evaluate.drawings import picture_tile, save_tiles, write_text
from edgeannot_tools.output import staged_folder

__all__ = ["as_dataset", "save_json_lines", "save_review_sheet"]

_TILE_WH = (400, 300)
_CAPTION_PX = 22
_COLUMNS = 4
_MOST_TILES = 48


def as_dataset(results: Sequence[Found], class_names: Sequence[str], model: str) -> Dataset:
    """Return a set of the results. class_names: of every class that the model may report, in the order of its ids.

    Each object's `extra` has its `score`, and each picture's the `model`, as it is a proposal that nobody has checked.
    """
    names = tuple(dict.fromkeys([*class_names, *sorted({label for found in results for label in found.labels} - set(class_names))]))
    number = {name: class_id for class_id, name in enumerate(names)}
    return Dataset(names, tuple(_picture(found, number, model) for found in results))


def _picture(found: Found, number: dict[str, int], model: str) -> Picture:
    rows = zip(found.labels, found.detections.boxes.tolist(), found.detections.scores.tolist(), strict=True)
    things = tuple(LabelledObject(number[label], tuple(box), extra={"score": round(score, 4)}) for label, box, score in rows)
    return Picture(found.name, found.size_wh, things, found.path, extra={"model": model})


def save_json_lines(results: Sequence[Found], model: ModelFacts, folder: Path, pictures: PictureMode) -> None:
    """Write `annotations.jsonl`, the payload of MQTT's subscribers a line, and images/ into a new folder, all or nothing."""
    origin = Origin(socket.gethostname(), str(uuid.uuid4()))
    lines = [encode(detections_payload(found.annotation(model, number), origin)) for number, found in enumerate(results)]
    with staged_folder(folder) as stage:
        (stage / "images").mkdir()
        place_pictures(
            ((Picture(found.name, found.size_wh, path=found.path), stage / "images" / found.name) for found in results), pictures
        )
        (stage / "annotations.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


def save_review_sheet(results: Sequence[Found], title: str, path: Path) -> int:
    """Write a PNG of the pictures with their boxes, the least sure first; return how many are on it."""
    shown = sorted(results, key=lambda found: (found.least_score, found.name))[:_MOST_TILES]
    save_tiles([_tile(found) for found in shown], title, _COLUMNS, path)
    return len(shown)


def _tile(found: Found) -> UInt8Array:
    image = read_picture(found.path, min_side=max(_TILE_WH)).image
    tile, _, (left, top) = picture_tile(image, _TILE_WH, _CAPTION_PX)
    inner = tile[top : _TILE_WH[1] - top, left : _TILE_WH[0] - left]
    scale = inner.shape[1] / found.size_wh[0]
    boxes = (found.detections.boxes * np.float32(scale)).astype(np.float32)
    inner[:] = draw(inner, Detections(boxes, found.detections.scores, found.detections.classes), found.labels)
    least = f"{found.least_score:.2f}  " if found.labels else "nothing  "
    write_text(tile, least + found.name[-60:], (4, _TILE_WH[1] + 15), 0.42)
    return tile
