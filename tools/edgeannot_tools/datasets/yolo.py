"""YOLO: one .txt a picture in a folder of their own, class names in `data.yaml` or `classes.txt`.

Read: a `data.yaml` (or its folder) as Ultralytics and Roboflow write it; or any folder of label files with a class file in or
above it and the pictures in it or beside it. Written: `data.yaml`, `classes.txt`, `images/[SPLIT/]`, `labels/[SPLIT/]`.
A picture without a label file, or with an empty one, is a picture without objects.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import number_of, one_line, printable, read_text, shorten
from edgeannot_tools.datasets.form import (
    CLASS_FILES,
    Dataset,
    Picture,
    Problem,
    Reading,
    ReadOptions,
    WriteOptions,
    find_class_file,
    read_class_file,
    sorted_pictures,
    split_named,
)
from edgeannot_tools.datasets.pictures import PICTURE_SUFFIXES, PictureIndex, list_files, listed_paths, place_pictures, require_unique
from edgeannot_tools.datasets.yolo_text import format_labels, looks_like_labels, read_picture

__all__ = ["losses", "read", "recognise", "write"]

_NOT_SPLITS = frozenset({"path", "names", "nc", "download", "kpt_shape", "flip_idx", "roboflow", "channels"})
_MOST_BRACKETS = 100
_LOOKED_AT = 20
"""Files that decide what a folder holds."""
_SPLIT_CALLED = {"valid": "val"}
_NOT_LABELS = frozenset(
    {*CLASS_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt", "readme.txt", "license.txt", "requirements.txt"}
)


def recognise(path: Path) -> bool:
    """Tell whether there is a data.yaml with names, or label files, at the path."""
    if path.is_file():
        return path.suffix.lower() in {".yaml", ".yml"}
    if _yaml_in(path) is not None:
        return True
    if any(path.glob("*.data")):
        return False  # Darknet's own layout has its own reader
    labels = _label_files(path)
    filled = [file for file in labels if file.stat().st_size][:_LOOKED_AT]
    if labels and not filled:  # nothing is marked anywhere: that these are labels only the class file beside them tells
        return find_class_file([path]) is not None
    return any(looks_like_labels(file) for file in filled)


def read(path: Path, options: ReadOptions) -> Reading:
    """Return the set at the path. Raises InputError or MissingError when there is no set to speak of."""
    yaml_file = path if path.is_file() else _yaml_in(path)
    if yaml_file is not None and options.images is None:
        return _read_yaml(yaml_file, options)
    return _read_folder(path.parent if path.is_file() else path, options)


def write(dataset: Dataset, folder: Path, options: WriteOptions) -> None:
    """Write data.yaml, classes.txt, labels and pictures into the folder."""
    placed = dataset.placed()
    require_unique(((f"{split}/{picture.stem}.txt", picture) for split, picture in placed), "label file")
    for split in {"", *(split for split, _ in placed)}:
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    place_pictures(((picture, folder / "images" / split / picture.name) for split, picture in placed), options.pictures)
    for split, picture in placed:
        label = folder / "labels" / split / f"{picture.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(format_labels(picture.objects, picture.size_wh), encoding="utf-8")
    names = "".join(f"{name}\n" for name in dataset.class_names)
    beside = {label.parent for label in (folder / "labels").rglob("*.txt")}  # where labelImg looks for it
    for place in (folder, *beside):
        (place / "classes.txt").write_text(names, encoding="utf-8")
    (folder / "data.yaml").write_text(_yaml_text(dataset), encoding="utf-8")


def losses(dataset: Dataset) -> list[str]:
    """Return what this format has no place for, one sentence each."""
    return flag_losses(dataset, "YOLO")


def flag_losses(dataset: Dataset, what: str, kept: Collection[str] = ()) -> list[str]:
    """Return what labels of nothing but a class, a box and the flags that are `kept` lose of the set."""
    things = [thing for picture in dataset.pictures for thing in picture.objects]
    flags = {
        "marked difficult": {"difficult"},
        "marked as a crowd (iscrowd, IsGroupOf)": {"crowd"},
        "marked truncated or occluded": {"truncated", "occluded"},
    }
    counts = {kind: sum(any(getattr(thing, name) for name in names.difference(kept)) for thing in things) for kind, names in flags.items()}
    counts["outlined by a mask"] = sum(bool(thing.extra.get("coco", {}).get("segmentation")) for thing in things)
    return [
        f"{number_of(count, 'object')} {kind}: {what} labels cannot record this; written as ordinary boxes"
        for kind, count in counts.items()
        if count
    ]


def _yaml_in(folder: Path) -> Path | None:
    files = [file for file in (*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))) if "names" in _load_yaml(file)]
    named = [file for file in files if file.stem == "data"]
    if len(files) > 1 and not named:
        raise InputError(
            f"{folder} has several data files ({', '.join(file.name for file in files)}); name the one that is meant instead of the folder"
        )
    return next(iter(named or files), None)


def _load_yaml(path: Path) -> Mapping[str, Any]:
    text = read_text(path, "the data file")
    depth = max(accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text)), default=0)
    if depth > _MOST_BRACKETS:  # the library takes time by the square of it
        raise InputError(f"{path} cannot be read as YAML (its brackets are nested {depth} deep)")
    try:
        table = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:  # a ValueError for a date or a number that is none
        raise InputError(f"{path} cannot be read as YAML ({' '.join(printable(exc, lines=True).split()):.120})") from exc
    return table if isinstance(table, dict) else {}


def _yaml_names(table: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Return names as a list, or as a table from id to name."""
    names = table.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: wanted `names` as a list, or a table with ids 0, 1, 2, ..., found {shorten(names, 60)}")
    if any(isinstance(name, list | dict) for name in names):
        raise InputError(f"{path}: wanted words in `names`, found a list or a table among them")
    texts = tuple(one_line(name) for name in names)
    if len(set(texts)) != len(texts):
        raise InputError(f"{path}: a class name is there twice in `names`; every class needs a name of its own")
    return texts


def _read_yaml(path: Path, options: ReadOptions) -> Reading:
    table = _load_yaml(path)
    names = read_class_file(options.classes) if options.classes else _yaml_names(table, path)
    problems: list[Problem] = []
    pictures: dict[Path, Picture] = {}
    sources = _sources(table)
    if not sources:
        raise InputError(f"{path}: names neither `train`, `val` nor `test`; add the folder of the pictures, relative to this file")
    one_folder = len({str(source) for source in sources.values()}) == 1
    for split, source in sources.items():
        for entry in source if isinstance(source, list) else [source]:
            place = _resolve(str(entry), str(table.get("path") or ""), path.parent)
            if place is None:
                problems.append(Problem("missing-folder", "error", str(path), f"`{split}: {entry}` is not there; correct the path"))
                continue
            # One folder given for training and validation is a set that is not split, unless the folder says what it is.
            of_split = split_named(place.name if place.name in sources else "" if one_folder else split)
            problems += _labels_alone(place)
            for base, file in _pictures_at(place):
                if file not in pictures:
                    name = file.relative_to(base).as_posix() if file.is_relative_to(base) else file.name
                    pictures |= read_picture(file, name, _label_beside(file), len(names), problems, split=of_split)
    return Reading(Dataset(names, sorted_pictures(pictures.values())), tuple(problems))


def _sources(table: Mapping[str, Any]) -> dict[str, Any]:
    """Split -> folder, list file, or several of them: every entry of data.yaml that is not known to be something else."""
    return {
        _SPLIT_CALLED.get(key, key): value
        for key, value in table.items()
        if key not in _NOT_SPLITS and isinstance(key, str) and value and isinstance(value, str | list) and not str(value).startswith("http")
    }


def _resolve(entry: str, root: str, folder: Path) -> Path | None:
    """Return where an entry of data.yaml lies. Ultralytics takes `path` relative to its own data folder, and Roboflow writes one `..` too
    many."""
    tries = [folder / root / entry, folder / entry, folder / entry.removeprefix("../")]
    return next((place for place in tries if place.exists()), None)


def _pictures_at(place: Path) -> Iterable[tuple[Path, Path]]:
    """Return (folder that names are relative to, picture) for a folder of pictures or a text file that lists them."""
    if place.is_dir():
        return [(place, file) for file in list_files(place, PICTURE_SUFFIXES)]
    files = [place.parent / line for line in listed_paths(place)]
    common = place.parent / "images"
    return [(common if file.is_relative_to(common) else place.parent, file) for file in files]


def _labels_alone(place: Path) -> list[Problem]:
    """Label files of a picture folder that have no picture."""
    labels = _label_beside(place / "any.jpg").parent
    if not place.is_dir() or labels == place or not labels.is_dir():
        return []
    stems = {file.relative_to(place).with_suffix("") for file in list_files(place, PICTURE_SUFFIXES)}
    alone = [file for file in _label_files(labels) if file.relative_to(labels).with_suffix("") not in stems]
    return [Problem("missing-picture", "error", str(file), f"no picture of this name in {place}") for file in alone]


def _label_beside(picture: Path) -> Path:
    """Return the label file of a picture: `labels` for the last `images` in its path, or beside it."""
    parts = list(picture.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
        moved = Path(*parts).with_suffix(".txt")
        if moved.exists() or not picture.with_suffix(".txt").exists():
            return moved
    return picture.with_suffix(".txt")


def _label_files(folder: Path) -> list[Path]:
    return [path for path in list_files(folder, {".txt"}) if path.name.lower() not in _NOT_LABELS]


def _read_folder(folder: Path, options: ReadOptions) -> Reading:
    labels = {path.relative_to(folder).with_suffix("").as_posix(): path for path in _label_files(folder)}
    names = _folder_names(folder, options)
    index = PictureIndex.beside(folder, options.images, labels)
    problems: list[Problem] = []
    pictures: dict[Path, Picture] = {}
    label_of: dict[Path, Path] = {}
    for stem, label in labels.items():
        files = index.find(stem)
        if len(files) > 1:
            raise InputError(f"{label} could belong to {files[0]} or {files[1]}; remove one, or name the picture folder with --images")
        if not files:
            problems.append(Problem("missing-picture", "error", str(label), f"no picture of this name in {index.folder}"))
        elif files[0] in label_of:
            raise InputError(f"{files[0].name} has two label files, {label_of[files[0]]} and {label}; name the label folder that is meant")
        else:
            label_of[files[0]] = label
    for name, file in index.by_name.items():
        pictures |= read_picture(file, name, label_of.get(file, file.with_suffix(".txt")), len(names), problems)
    return Reading(Dataset(names, sorted_pictures(pictures.values())), tuple(problems))


def _folder_names(folder: Path, options: ReadOptions) -> tuple[str, ...]:
    found = options.classes or find_class_file([folder, folder / "labels", folder.parent])
    if found is None and (yaml_file := _yaml_in(folder) or _yaml_in(folder.parent)) is not None:
        return _yaml_names(_load_yaml(yaml_file), yaml_file)
    if found is None:
        raise MissingError(f"no class names (classes.txt, obj.names, data.yaml) in {folder} or above it; give them with --classes FILE")
    return read_class_file(found)


def _yaml_text(dataset: Dataset) -> str:
    table: dict[str, Any] = {split: f"images/{split}" for split, _ in dataset.placed() if split}
    some = next(iter(table.values()), "images")
    for needed in ("train", "val"):  # trainers refuse a file without either; one folder for both means: not split
        table.setdefault(needed, some)
    table["names"] = dict(enumerate(dataset.class_names))
    head = "# Pictures in images/, labels in labels/ under the same names: class cx cy w h, relative to the picture.\n"
    return head + yaml.safe_dump(table, sort_keys=False, allow_unicode=True)
