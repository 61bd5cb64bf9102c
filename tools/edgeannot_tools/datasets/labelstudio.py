"""Label Studio: a JSON list of tasks, https://labelstud.io/guide/export#label-studio-json-format-of-annotated-tasks

Boxes are results of the type `rectanglelabels`: x, y, width and height in hundredths of the picture's sides. What a person marked stands in
`annotations`, what a model found in `predictions`, with its score, to be corrected there. A picture's place is a storage path:
`/data/local-files/?d=images/a.jpg`, below the folder that Label Studio is started with (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT).

Written: `tasks.json`, `label_config.xml` (the labelling interface with the classes), `images/[SPLIT/]` and `classes.txt`, which keeps the
class ids. Read: this, and the export "JSON"; of several annotations of a picture the first that was not cancelled.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree as ET

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import as_float, as_int, one_line, parse_json, read_bytes, read_head, shorten
from edgeannot_tools.datasets.by_name import NamedPicture, assemble, place, write_class_file
from edgeannot_tools.datasets.form import LARGEST_BYTES, Dataset, LabelledObject, Picture, Problem, Reading, ReadOptions, WriteOptions
from edgeannot_tools.datasets.pictures import PICTURE_SUFFIXES, files_at
from edgeannot_tools.datasets.yolo import flag_losses

__all__ = ["losses", "read", "recognise", "write"]

_FILE = "tasks.json"
_HEAD_BYTES = 1 << 16
_SIDES = ("x", "y", "width", "height")
_FIELD, _FROM, _TO = "image", "label", "image"
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio puts this before the name of a file that was uploaded."""


def recognise(path: Path) -> bool:
    """Tell whether the path is, or holds, a JSON list of tasks."""
    return bool(_files(path))


def read(path: Path, options: ReadOptions) -> Reading:
    """Return the set in a list of tasks. Raises InputError where there is none."""
    files = _files(path)
    if not files:
        raise InputError(f"{path}: no JSON list of Label Studio's tasks there")
    if len(files) > 1:
        raise InputError(f"{path} has several lists of tasks ({', '.join(file.name for file in files)}); name the one that is meant")
    file = files[0]
    tasks = parse_json(read_bytes(file, "the list of tasks", max_bytes=LARGEST_BYTES), str(file))
    if not isinstance(tasks, list):
        raise InputError(f"{file}: wanted a list of tasks, found {shorten(tasks, 60)}")
    problems: list[Problem] = []
    found = [_picture(task, f"{file}, task {number}", problems) for number, task in enumerate(tasks, 1)]
    return assemble([picture for picture in found if picture is not None], file, options, problems)


def write(dataset: Dataset, folder: Path, options: WriteOptions) -> None:
    """Write tasks.json, label_config.xml, classes.txt and images/ into the folder."""
    placed = place(dataset, folder, options)
    tasks = [{"id": number, **_task(*each, dataset.class_names)} for number, each in enumerate(placed, 1)]
    (folder / _FILE).write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
    view = ET.Element("View")
    ET.SubElement(view, "Image", {"name": _TO, "value": f"${_FIELD}", "zoom": "true"})
    labels = ET.SubElement(view, "RectangleLabels", {"name": _FROM, "toName": _TO})
    for name in dataset.class_names:
        ET.SubElement(labels, "Label", {"value": name})
    ET.indent(view)
    (folder / "label_config.xml").write_text(ET.tostring(view, encoding="unicode") + "\n", encoding="utf-8")
    write_class_file(dataset, folder)


def losses(dataset: Dataset) -> list[str]:
    """Return what this format has no place for, one sentence each."""
    return flag_losses(dataset, "Label Studio")


def _files(path: Path) -> list[Path]:
    return [file for file in files_at(path, ".json") if _holds_tasks(file)]


def _holds_tasks(file: Path) -> bool:
    head = read_head(file, _HEAD_BYTES)
    return head.lstrip()[:1] == b"[" and b'"data"' in head and (b'"annotations"' in head or b'"predictions"' in head)


# -- reading ---------------------------------------------------------------------------------------------------------------------


def _picture(task: Any, where: str, problems: list[Problem]) -> NamedPicture | None:
    data = task.get("data") if isinstance(task, Mapping) else None
    name = _picture_name(data) if isinstance(data, Mapping) else ""
    if not name or not isinstance(data, Mapping):
        problems.append(Problem("bad-line", "error", where, "no picture in `data`; wanted `image` with a path or an address"))
        return None
    objects, size = [], None
    for result in _results(task):
        size = size or _stated_size(result)
        read = _object(result)
        if isinstance(read, str):
            problems.append(Problem("bad-line", "error", where, read))
        elif read is not None:
            objects.append(read)
    split = one_line(data.get("split") or "")
    return NamedPicture(where, name.removeprefix(f"{split}/"), size, tuple(objects), split)


def _picture_name(data: Mapping[str, Any]) -> str:
    """Return the picture's path, without the address that leads to it and without what an upload put before its name."""
    texts = [data[_FIELD], *data.values()] if _FIELD in data else list(data.values())
    for text in texts:
        if not isinstance(text, str):
            continue
        try:
            parts = urlsplit(text)
        except ValueError:  # brackets that are no IPv6 address
            continue
        path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
        if Path(path).suffix.lower() in PICTURE_SUFFIXES:
            head, slash, last = path.removeprefix("images/").lstrip("/").rpartition("/")
            return one_line(head + slash + (_UPLOADED.sub("", last) if "/data/upload/" in text else last))
    return ""


def _results(task: Mapping[str, Any]) -> list[Any]:
    """Return the boxes that a person left, or else those that a model found."""
    for kind in ("annotations", "predictions"):
        given = task.get(kind)
        for each in given if isinstance(given, list) else []:
            if isinstance(each, Mapping) and not each.get("was_cancelled") and isinstance(each.get("result"), list):
                return list(each["result"])
    return []


def _stated_size(result: Any) -> tuple[int, int] | None:
    if not isinstance(result, Mapping):
        return None
    width, height = as_int(result.get("original_width")), as_int(result.get("original_height"))
    return (width, height) if width and height else None


def _object(result: Any) -> tuple[str, LabelledObject] | str | None:
    """Return (class name, object); what is wrong with it; None for what marks nothing in the picture, such as a choice."""
    value = result.get("value") if isinstance(result, Mapping) else None
    if not isinstance(value, Mapping) or not any(str(key).endswith("labels") for key in value):
        return None
    labels, size = value.get("rectanglelabels"), _stated_size(result)
    if not isinstance(labels, list) or not labels or not one_line(labels[0]).strip() or as_float(value.get("rotation", 0)) != 0:
        return f"wanted an upright box with a label, found {shorten(dict(value), 80)}: left out"
    numbers = [as_float(value.get(side)) for side in _SIDES]
    if size is None or None in numbers:
        return f"wanted numbers in {', '.join(_SIDES)}, original_width and original_height, found {shorten(dict(value), 80)}"
    x, y, w, h = (number / 100 for number in numbers if number is not None)
    box = x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1]
    if not all(map(math.isfinite, box)):
        return f"the box is beyond all numbers, found {shorten(dict(value), 80)}"
    return one_line(labels[0]), LabelledObject(0, box)


# -- writing ---------------------------------------------------------------------------------------------------------------------


def _task(split: str, picture: Picture, path: str, names: tuple[str, ...]) -> dict[str, Any]:
    results = list(_written(picture, names))
    data = {_FIELD: f"/data/local-files/?d={quote(path)}", **({"split": split} if split else {})}
    if (model := picture.extra.get("model")) is None:
        return {"data": data, "annotations": [{"result": results}]}
    least = min((thing.extra["score"] for thing in picture.objects), default=0)
    return {"data": data, "predictions": [{"model_version": model, "score": least, "result": results}]}


def _written(picture: Picture, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    width, height = picture.size_wh
    for number, thing in enumerate(picture.objects):
        x1, y1, x2, y2 = thing.box
        sides = (x1 / width * 100, y1 / height * 100, (x2 - x1) / width * 100, (y2 - y1) / height * 100)
        yield {
            "id": f"box{number}",
            "type": "rectanglelabels",
            "from_name": _FROM,
            "to_name": _TO,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"rotation": 0, **dict(zip(_SIDES, sides, strict=True)), "rectanglelabels": [names[thing.class_id]]},
            **({"score": thing.extra["score"]} if "score" in thing.extra else {}),
        }
