"""Darknet: label files beside the pictures, names in `obj.names`, lists of pictures, all named by `obj.data`.

The layout that `darknet detector train` and CVAT use: https://github.com/AlexeyAB/darknet#how-to-train-to-detect-your-custom-objects
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import number_of, read_text
from edgeannot_tools.datasets.form import Dataset, Picture, Problem, Reading, ReadOptions, WriteOptions, read_class_file, sorted_pictures
from edgeannot_tools.datasets.pictures import listed_paths, place_pictures, require_unique
from edgeannot_tools.datasets.yolo import flag_losses
from edgeannot_tools.datasets.yolo_text import format_labels, read_picture

__all__ = ["losses", "read", "recognise", "write"]

_LISTS = {"train": "train", "val": "valid", "test": "test"}
"""Our name of a split -> the key in obj.data, which is also the name of the list."""
_SPLIT_OF = {name: split for split, name in _LISTS.items()}
_ALL = "pictures"
"""The name of the list of a set that is not split."""
_PICTURES = "obj_train_data"


def recognise(path: Path) -> bool:
    """Tell whether the path is, or holds, a .data file that names classes."""
    return _data_file(path) is not None


def read(path: Path, options: ReadOptions) -> Reading:
    """Return the set that a .data file names. Raises InputError when it cannot be read."""
    data = _data_file(path)
    if data is None:
        raise InputError(f"{path}: no .data file with `names = ...` there")
    table = _table(data)
    names = read_class_file(options.classes or _beside(data, table["names"]))
    problems: list[Problem] = []
    pictures: dict[Path, Picture] = {}
    lists = {split: table[key] for split, key in _LISTS.items() if key in table}
    if not lists:
        raise InputError(f"{data}: names no list of pictures (`train = ...`, `valid = ...`)")
    one_list = len(set(lists.values())) == 1
    for split, entry in lists.items():
        # One list for training and validation is a set that is not split, unless the list says what it is.
        of_split = _SPLIT_OF.get(Path(entry).stem, "") if one_list else split
        for file in _listed(_beside(data, entry), data, options.images):
            if file not in pictures:
                name = _name(file, data.parent, options.images, of_split)
                pictures |= read_picture(file, name, file.with_suffix(".txt"), len(names), problems, split=of_split)
    return Reading(Dataset(names, sorted_pictures(pictures.values())), tuple(problems))


def write(dataset: Dataset, folder: Path, options: WriteOptions) -> None:
    """Write obj.data, obj.names, the lists, and each picture with its label file beside it."""
    if unknown := sorted({picture.split for picture in dataset.pictures} - {"", *_LISTS}):
        raise InputError(
            f"Darknet knows the splits train, val and test only, found {', '.join(unknown)}; write another format, or split again"
        )
    rest = "" if dataset.splits() == ("",) else "train"  # Darknet reads nothing but what is listed
    placed = [
        (picture.split or rest, "/".join(filter(None, (_PICTURES, picture.split or rest, picture.name)))) for picture in dataset.pictures
    ]
    label_names = [place.rpartition(".")[0] for _, place in placed]
    require_unique(zip(label_names, dataset.pictures, strict=True), "label file")
    (folder / _PICTURES).mkdir()
    place_pictures(((picture, folder / place) for picture, (_, place) in zip(dataset.pictures, placed, strict=True)), options.pictures)
    for picture, (_, place) in zip(dataset.pictures, placed, strict=True):
        label = (folder / place).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(format_labels(picture.objects, picture.size_wh), encoding="utf-8")
    (folder / "obj.names").write_text("".join(f"{name}\n" for name in dataset.class_names), encoding="utf-8")
    (folder / "obj.data").write_text(_write_lists(placed, folder, len(dataset.class_names)), encoding="utf-8")


def losses(dataset: Dataset) -> list[str]:
    """Return what this format has no place for, one sentence each."""
    found = flag_losses(dataset, "Darknet")
    if "" in dataset.splits() and dataset.splits() != ("",):
        count = sum(not picture.split for picture in dataset.pictures)
        found.append(
            f"{number_of(count, 'picture')} without a split while others have one: added to train.txt (Darknet reads listed pictures only)"
        )
    return found


def _write_lists(placed: list[tuple[str, str]], folder: Path, class_count: int) -> str:
    """Write the lists of pictures; the text of obj.data. `valid` is needed by the trainer: without one it is the training list."""
    lists = {(_LISTS[split] if split else _ALL) for split, _ in placed}
    for name in lists:
        listed = [place for split, place in placed if (_LISTS[split] if split else _ALL) == name]
        (folder / f"{name}.txt").write_text("".join(f"{place}\n" for place in listed), encoding="utf-8")
    some = next((name for name in (*_LISTS.values(), _ALL) if name in lists), _ALL)
    keys = [f"{key} = {key if key in lists else some}.txt" for key in _LISTS.values() if key in lists or key != "test"]
    return "\n".join([f"classes = {class_count}", *keys, "names = obj.names", "backup = backup/"]) + "\n"


def _data_file(path: Path) -> Path | None:
    candidates = [path] if path.is_file() and path.suffix == ".data" else sorted(path.glob("*.data")) if path.is_dir() else []
    return next((file for file in candidates if "names" in _table(file)), None)


def _table(data: Path) -> dict[str, str]:
    """`key = value` lines."""
    lines = read_text(data, "the data file").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _beside(data: Path, entry: str) -> Path:
    """Return a file that obj.data or a list names: relative to the folder that the trainer is started in, which may be the one of obj.data
    or the one above; CVAT writes `data/` before each and leaves it to the user to call the folder so."""
    tries = [data.parent / entry, data.parent.parent / entry, data.parent.joinpath(*Path(entry).parts[1:])]
    return next((place for place in tries if place.is_file()), tries[0])


def _listed(list_file: Path, data: Path, images: Path | None) -> Iterator[Path]:
    """Return the pictures of a list, found like the list itself, or by their names in the given folder."""
    if not list_file.is_file():
        raise InputError(f"{data}: the list of pictures {list_file} is not there")
    for line in listed_paths(list_file):
        yield images / Path(line).name if images is not None else _beside(data, line)


def _name(file: Path, folder: Path, images: Path | None, split: str) -> str:
    """Return the picture's name below its picture folder, without the split's folder."""
    for base in (images, folder / _PICTURES, folder):
        if base is not None and file.is_relative_to(base):
            parts = file.relative_to(base).parts
            return "/".join(parts[1:] if parts[0] == split and len(parts) > 1 else parts)
    return file.name
