"""COCO: one JSON file a split, https://cocodataset.org/#format-data (object detection).

`bbox` is x, y, width, height in pixels counted from 0, so x2 = x + width. Category ids need not be dense (COCO's own run from
1 to 90 with holes): class ids here are positions in the order of the category ids. Everything else in the file (ids, outlines,
areas, licences, keypoints, ...) is kept and written back, as long as the box that it belongs to is the same.

Written: `annotations/instances[_SPLIT].json` and `images/[SPLIT/]`. The outline (`segmentation`) of an object that has only a box is the
box, which is no outline when it is read.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import printable, read_head, shorten
from edgeannot_tools.datasets.by_name import place
from edgeannot_tools.datasets.form import (
    UNASSIGNED,
    Box,
    Dataset,
    LabelledObject,
    Picture,
    Problem,
    Reading,
    ReadOptions,
    WriteOptions,
    read_class_file,
    sorted_pictures,
    split_named,
)
from edgeannot_tools.datasets.pictures import picture_folders, size_of

__all__ = ["box_around", "box_of", "is_whole", "losses", "read", "recognise", "write"]

_ABOUT = {"info": {"description": "labelled set, written by edgeannot"}, "licenses": []}
"""What pycocotools' `info()` and others look for in every file."""
_HEAD_BYTES = 1 << 16
_IDS = ("id", "image_id", "category_id")
_TABLES = (b'"images"', b'"annotations"', b'"categories"')


def recognise(path: Path) -> bool:
    """Tell whether the path is, or holds, a JSON file of COCO's form."""
    return bool(_json_files(path))


def read(path: Path, options: ReadOptions) -> Reading:
    """Return the set in a JSON file, or in all the files of a folder, each a split."""
    files = _json_files(path)
    if not files:
        raise InputError(f"{path}: no JSON file with `images`, `annotations` and `categories` there")
    tables = {file: _load(file) for file in files}
    problems: list[Problem] = []
    categories = _categories(tables, problems)
    names = tuple(dict.fromkeys(category["name"] for category in categories.values()))
    if options.classes is not None:
        names = read_class_file(options.classes)
    class_ids = {key: names.index(category["name"]) for key, category in categories.items() if category["name"] in names}
    pictures: list[Picture] = []
    for file, table in tables.items():
        split = _split_of(file) if len(files) > 1 or file.stem.startswith("instances_") else ""
        pictures += _Reader(file, table, split, class_ids, _folders(file, split, options), problems).pictures()
    rest = {key: value for key, value in next(iter(tables.values())).items() if key not in {"images", "annotations", "categories"}}
    return Reading(
        Dataset(names, sorted_pictures(pictures), {"coco": {"categories": tuple(categories.values()), "rest": rest}}), tuple(problems)
    )


def _json_files(path: Path) -> list[Path]:
    """Return the label file at the path, or in it, in `annotations/`, or one in each folder of a split; captions and the like are passed
    over."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" and _is_coco(path) else []
    for pattern in ("*.json", "annotations/*.json", "*/_annotations.coco.json"):
        files = [file for file in sorted(path.glob(pattern)) if _is_coco(file)]
        if len(files) > 1 and pattern != "*/_annotations.coco.json":
            instances = [file for file in files if file.stem.startswith("instances")]
            if not instances:
                raise InputError(f"{path} has several COCO files ({', '.join(file.name for file in files)}); name the one that is meant")
            files = instances
        if files:
            return files
    return []


def _is_coco(file: Path) -> bool:
    """Large files are judged by their beginning: one of the tables begins there."""
    head = read_head(file, _HEAD_BYTES)
    return head.lstrip()[:1] == b"{" and (any(table in head for table in _TABLES) or (len(head) == _HEAD_BYTES and b'"licenses"' in head))


def _split_of(file: Path) -> str:
    """instances_train.json -> train; train/_annotations.coco.json -> train."""
    name = file.parent.name if file.stem.startswith("_annotations") else file.stem.removeprefix("instances").lstrip("_")
    return split_named({"valid": "val"}.get(name, name))


def _folders(file: Path, split: str, options: ReadOptions) -> tuple[Path, ...]:
    beside = [options.images] if options.images is not None else [file.parent, *picture_folders(file.parent)]
    of_split = [folder / (split or UNASSIGNED) for folder in beside if (folder / (split or UNASSIGNED)).is_dir()]
    return tuple(dict.fromkeys([*of_split, *beside]))


def _load(file: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as exc:
        raise InputError(f"{file} cannot be read as JSON ({printable(exc):.200})") from exc
    for key in ("images", "annotations", "categories"):
        if not isinstance(table, dict) or not isinstance(table.get(key), list):
            raise InputError(f"{file}: wanted a COCO label file with a list `{key}`, found none")
        for number, entry in enumerate(table[key]):
            if not isinstance(entry, dict) or any(isinstance(entry.get(name), list | dict) for name in _IDS):
                raise InputError(f"{file}: wanted in `{key}` objects with ids, found as number {number}: {shorten(entry)}")
    return table


def _categories(tables: Mapping[Path, Mapping[str, Any]], problems: list[Problem]) -> dict[int, Mapping[str, Any]]:
    """Category id -> category over all files, in the order of the ids; two ids of one name are one class."""
    found: dict[int, Mapping[str, Any]] = {}
    for file, table in tables.items():
        for category in table["categories"]:
            if not is_whole(category.get("id")) or not category.get("name"):
                raise InputError(f"{file}: a category needs a whole number `id` and a `name`, found {shorten(category)}")
            known = found.setdefault(category["id"], category)
            if known["name"] != category["name"]:
                raise InputError(
                    f"{file}: category {category['id']} is {category['name']!r} here and {known['name']!r} in another split's file"
                )
    names = [category["name"] for category in found.values()]
    where = str(next(iter(tables)))
    problems += [
        Problem("repeated-class", "warning", where, f"{names.count(name)} categories are called {name!r}: read as one")
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class _Reader:
    """One file's way into pictures: it holds the tables that every annotation is looked up in."""

    file: Path
    table: Mapping[str, Any]
    split: str
    class_ids: Mapping[int, int]
    """Category id -> class id."""
    folders: tuple[Path, ...]
    """Where its pictures may lie, likeliest first."""
    problems: list[Problem]

    def pictures(self) -> list[Picture]:
        """Return the pictures of the file that can be used."""
        objects = self._objects()
        counts = Counter(entry.get("id") for entry in self.table["images"])
        for number in [number for number, count in counts.items() if count > 1]:
            self._problem(
                "repeated-id", f"image {number!r}", f"{counts[number]} pictures have this id, so its objects cannot be told apart"
            )
        return [
            picture for entry in self.table["images"] if (picture := self._picture(entry, objects.get(entry.get("id"), []))) is not None
        ]

    def _problem(self, kind: str, where: str, message: str) -> None:
        self.problems.append(Problem(kind, "error", f"{self.file}, {where}", message))

    def _objects(self) -> dict[Any, list[LabelledObject]]:
        known = {entry.get("id") for entry in self.table["images"]}
        objects: dict[Any, list[LabelledObject]] = {}
        for number, entry in enumerate(self.table["annotations"]):
            where = f"annotation {entry.get('id', number)}"
            image = entry.get("image_id")
            if image not in known:
                self._problem("missing-picture", where, f"belongs to picture {image!r}, which `images` does not have")
            elif entry.get("category_id") not in self.class_ids:
                self._problem("unknown-class", where, f"category {entry.get('category_id')!r} is not one of the classes")
            elif (box := box_of(entry.get("bbox")) or box_around(entry.get("segmentation"))) is None:
                self._problem("bad-line", where, f"wanted `bbox` as four finite numbers, found {entry.get('bbox')!r:.60}")
            else:
                objects.setdefault(image, []).append(_object(entry, box, self.class_ids[entry["category_id"]]))
        return objects

    def _tails(self, name: str) -> list[str]:
        """Return the name, and what is left of it without the folders of the machine that wrote it, where that can mean one picture
        only."""
        parts = name.replace("\\", "/").split("/")
        others = [str(entry.get("file_name", "")).replace("\\", "/").rpartition("/")[2] for entry in self.table["images"]]
        return [name] if others.count(parts[-1]) > 1 else [name, *("/".join(parts[start:]) for start in range(len(parts)))]

    def _picture(self, entry: Mapping[str, Any], objects: Iterable[LabelledObject]) -> Picture | None:
        name, where = str(entry.get("file_name", "")), f"image {entry.get('id')!r}"
        if not name:
            self._problem("bad-line", where, "has no `file_name`")
            return None
        path = next((folder / tail for tail in self._tails(name) for folder in self.folders if (folder / tail).is_file()), None)
        stated = (entry.get("width"), entry.get("height"))
        if path is None:
            folders = ", ".join(map(str, self.folders))
            self._problem("missing-picture", where, f"{name} is in none of: {folders}")
        size = size_of(f"{self.file}, {where}", path, stated if stated != (None, None) else None, self.problems)
        if size is None or not all(isinstance(side, int) and side > 0 for side in size):
            return None
        return Picture(name.removeprefix("./"), size, tuple(objects), path, self.split, {"coco": entry})


def _object(entry: Mapping[str, Any], box: Box, class_id: int) -> LabelledObject:
    return LabelledObject(
        class_id,
        box,
        difficult=bool(entry.get("difficult") or entry.get("ignore")),
        crowd=bool(entry.get("iscrowd")),
        truncated=bool(entry.get("truncated")),
        occluded=bool(entry.get("occluded")),
        extra={"coco": {key: value for key, value in entry.items() if key != "segmentation" or value != [_outline(box)]}},
    )


def write(dataset: Dataset, folder: Path, options: WriteOptions) -> None:
    """Write annotations/instances[_SPLIT].json and images/ into the folder."""
    placed = [(split, picture) for split, picture, _ in place(dataset, folder, options)]
    (folder / "annotations").mkdir()
    category_ids, categories = _written_categories(dataset)
    image_ids = _ids([picture.extra.get("coco", {}).get("id") for _, picture in placed])
    things = [thing for _, picture in placed for thing in picture.objects]
    object_ids = iter(_ids([thing.extra.get("coco", {}).get("id") for thing in things]))
    tables: dict[str, dict[str, Any]] = {}
    for (split, picture), image_id in zip(placed, image_ids, strict=True):
        rest = dataset.extra.get("coco", {}).get("rest", {})
        table = tables.setdefault(split, {**_ABOUT, **rest, "images": [], "annotations": [], "categories": categories})
        kept = {key: value for key, value in picture.extra.get("coco", {}).items() if key not in {"id", "file_name", "width", "height"}}
        table["images"].append(
            {"id": image_id, "file_name": picture.name, "width": picture.size_wh[0], "height": picture.size_wh[1], **kept}
        )
        for thing in picture.objects:
            table["annotations"].append(_annotation(thing, next(object_ids), image_id, category_ids[thing.class_id]))
    for split, table in tables.items():
        name = f"instances_{split}.json" if split else "instances.json"
        (folder / "annotations" / name).write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")


def losses(dataset: Dataset) -> list[str]:
    """COCO keeps everything: flags that it does not define go under keys of their own (`difficult`, `truncated`, `occluded`)."""
    things = [thing for picture in dataset.pictures for thing in picture.objects]
    hard = sum(thing.difficult for thing in things)
    return (
        [f'{hard} objects are marked difficult: written as "difficult": 1, which COCO\'s own evaluation does not look at'] if hard else []
    )


def _written_categories(dataset: Dataset) -> tuple[list[int], list[Mapping[str, Any]]]:
    """Category id by class id, and the categories; the ids that the set came with, or else 1, 2, 3, ..."""
    known: dict[str, Mapping[str, Any]] = {}
    for category in dataset.extra.get("coco", {}).get("categories", ()):
        known.setdefault(category["name"], category)
    if known.keys() >= set(dataset.class_names) and dataset.class_names:
        chosen: list[Mapping[str, Any]] = [known[name] for name in dataset.class_names]
    else:
        chosen = [{"id": number, "name": name} for number, name in enumerate(dataset.class_names, 1)]
    return [int(category["id"]) for category in chosen], chosen


def _ids(given: list[Any]) -> list[Any]:
    """Return the ids that came with the set where each has one of its own, or else 1, 2, 3, ..."""
    if None not in given and len(set(given)) == len(given):
        return given
    return list(range(1, len(given) + 1))


def _annotation(thing: LabelledObject, number: Any, image_id: Any, category_id: int) -> dict[str, Any]:
    came_with: Mapping[str, Any] = thing.extra.get("coco", {})
    x1, y1, x2, y2 = thing.box
    same_box = box_of(came_with.get("bbox")) == thing.box
    bbox = came_with["bbox"] if same_box else [round(value, 9) for value in (x1, y1, x2 - x1, y2 - y1)]
    entry: dict[str, Any] = {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "area": came_with["area"] if same_box and "area" in came_with else round((x2 - x1) * (y2 - y1), 9),
        "iscrowd": int(thing.crowd),
        "segmentation": came_with["segmentation"] if "segmentation" in came_with else [_outline(box_of(bbox) or thing.box)],
    }
    entry |= {flag: 1 for flag in ("difficult", "truncated", "occluded") if getattr(thing, flag)}
    return entry | {
        key: value for key, value in came_with.items() if key not in entry and (key != "ignore" or bool(value) == thing.difficult)
    }


def _outline(box: Box) -> list[float]:
    """Return the polygon of an object that has only a box: pycocotools makes the same of results, and no mask of an empty list."""
    x1, y1, x2, y2 = box
    return [x1, y1, x1, y2, x2, y2, x2, y1]


def is_whole(number: Any) -> bool:
    """Tell whether it is a whole number; tables that went through pandas say 3.0."""
    return isinstance(number, int) or (isinstance(number, float) and number.is_integer())


def box_of(bbox: Any) -> Box | None:
    """x, y, width, height as corners; None where they are not four finite numbers."""
    numbers = _finite(bbox)
    if numbers is None or len(numbers) != 4:
        return None
    x, y, w, h = numbers
    return x, y, x + w, y + h


def box_around(polygons: Any) -> Box | None:
    """Return the box around an outline, for annotations that have no other; None where there is no polygon."""
    parts = [_finite(part) for part in polygons] if isinstance(polygons, list) else []
    numbers = [[*part] for part in parts if part is not None and len(part) >= 6 and len(part) % 2 == 0]
    if not numbers or len(numbers) != len(parts):
        return None
    xs, ys = ([value for part in numbers for value in part[axis::2]] for axis in (0, 1))
    return min(xs), min(ys), max(xs), max(ys)


def _finite(values: Any) -> list[float] | None:
    """Return a list of finite numbers as floats; None where it is anything else."""
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        return None
    try:
        numbers = [float(value) for value in values]
    except OverflowError:  # JSON's whole numbers have no end
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
