"""Pascal VOC: one XML file a picture, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf section 2.

VOC counts pixels from 1 and its box ends are inclusive: `xmin 1, xmax 500` is the whole of a picture 500 pixels wide, for us
(0, 500). So x1 = xmin - 1 and x2 = xmax. Many tools write edges counted from 0 into the same tags; read those with
`voc_origin=0` (x1 = xmin, x2 = xmax). The check of a set says when the numbers look so.

Written: `Annotations/`, `JPEGImages/`, `ImageSets/Main/SPLIT.txt`, and `classes.txt`, which VOC does not have: it keeps the class ids.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import number_of, read_head
from edgeannot_tools.datasets.by_name import numbered, write_class_file
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
    find_class_file,
    read_class_file,
    sorted_pictures,
    split_named,
)
from edgeannot_tools.datasets.pictures import PictureIndex, list_files, listed_paths, place_pictures, require_unique, size_of
from edgeannot_tools.datasets.yolo import flag_losses

__all__ = ["losses", "read", "recognise", "write"]

_ENDS = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = ("truncated", "difficult", "occluded")
_LOOKED_AT = 20
"""Files that decide what a folder holds: another program's XML may be among them."""
_OWN_TAGS = frozenset({"name", "bndbox", "iscrowd", *_FLAGS})
_OWN_PICTURE_TAGS = frozenset({"folder", "filename", "size", "object"})


def recognise(path: Path) -> bool:
    """Tell whether the folder holds XML files that are annotations (the first ones are looked at)."""
    files = list_files(path, {".xml"}) if path.is_dir() else [path] if path.suffix.lower() == ".xml" else []
    return any(_is_annotation(file) for file in files[:_LOOKED_AT])


def _is_annotation(file: Path) -> bool:
    return re.search(rb"<annotation[\s>]", read_head(file, 4096).replace(b"\0", b"")) is not None  # tools on Windows write UTF-16 too


def read(path: Path, options: ReadOptions) -> Reading:
    """Return the set at the path (a folder, or one XML file)."""
    folder = path.parent if path.is_file() else path
    files = [path] if path.is_file() else list_files(folder, {".xml"})
    problems: list[Problem] = []
    notes = [note for file in files if (note := _read_file(file, _relative_stem(file, folder), options, problems)) is not None]
    class_file = options.classes or find_class_file([folder, folder.parent])
    used = {name for note in notes for name, _ in note.objects}
    names = read_class_file(class_file) if class_file is not None else tuple(sorted(used))
    if not names:
        raise InputError(f"{path}: no annotation names a class, and there is no class file; give one with --classes")
    index = PictureIndex.beside(folder, options.images, {note.stem for note in notes})
    if not index.by_name:  # the annotations are called otherwise than the pictures that they state
        index = PictureIndex.beside(folder, options.images, {note.file_name.rpartition(".")[0] for note in notes})
    splits = _read_splits([folder, folder.parent], problems)
    pictures = [picture for note in notes if (picture := _picture(note, index, names, splits, problems)) is not None]
    labelled = {picture.path for picture in pictures} | {note.found(index) for note in notes}
    if not path.is_file():
        bare = [file for file in index.by_name.values() if file not in labelled]
        problems += [Problem("missing-label", "warning", str(file), f"no {file.stem}.xml: the picture is left out") for file in bare]
    return Reading(Dataset(names, sorted_pictures(pictures)), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Note:
    """One annotation file; boxes are in our pixels, classes still names."""

    path: Path
    stem: str
    file_name: str
    size_wh: tuple[int, int] | None
    objects: tuple[tuple[str, LabelledObject], ...]
    rest: tuple[str, ...]
    """The elements that the common form has no place for, as XML."""

    def found(self, index: PictureIndex) -> Path | None:
        """Return the picture: of the same name as the file, or else of the name that the file states."""
        named = index.by_name.get(self.file_name)
        files = index.find(self.stem) or ((named,) if named is not None else index.find(self.file_name.rpartition(".")[0]))
        return files[0] if files else None


def _relative_stem(file: Path, folder: Path) -> str:
    parts = file.relative_to(folder).with_suffix("").parts
    return "/".join(parts[1:] if parts[0] == "Annotations" else parts)


def _read_file(path: Path, stem: str, options: ReadOptions, problems: list[Problem]) -> _Note | None:
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - expat itself refuses entity bombs and loads nothing from outside
    except (OSError, ET.ParseError, ValueError, LookupError) as exc:  # the last two for encodings that are none
        problems.append(Problem("bad-label-file", "error", str(path), f"the file is not valid XML ({exc})"))
        return None
    if root.tag != "annotation":
        problems.append(Problem("bad-label-file", "warning", str(path), f"not an annotation but <{root.tag}>: left out"))
        return None
    objects = []
    for number, element in enumerate(root.findall("object"), 1):
        parsed = _object(element, options.voc_origin)
        if isinstance(parsed, str):
            problems.append(Problem("bad-line", "error", f"{path}, object {number}", parsed))
        else:
            objects.append(parsed)
    rest = tuple(_xml(element) for element in root if element.tag not in _OWN_PICTURE_TAGS)
    return _Note(path, stem, _text(root, "filename").replace("\\", "/").rpartition("/")[2], _stated_size(root), tuple(objects), rest)


def _object(element: ET.Element, origin: int) -> tuple[str, LabelledObject] | str:
    """Return (class name, object), or what is wrong with it. Parts of a person have boxes too, so only direct children count."""
    name, box = _text(element, "name"), element.find("bndbox")
    if not name:
        return "the object has no <name>"
    if box is None:
        return f"{name!r} has no <bndbox> (rotated boxes and outlines are not read)"
    try:
        x1, y1, x2, y2 = (float(_text(box, end)) for end in _ENDS)
    except ValueError:
        return f"{name!r}: wanted numbers in {', '.join(_ENDS)}, found {[_text(box, end) for end in _ENDS]}"
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return f"{name!r}: wanted finite numbers, found {[_text(box, end) for end in _ENDS]}"
    flags = {flag: _text(element, flag) in {"1", "true", "True"} for flag in _FLAGS}
    extra = {"voc": tuple(_xml(child) for child in element if child.tag not in _OWN_TAGS)}
    crowd = _text(element, "iscrowd") == "1"
    return name, LabelledObject(-1, (x1 - origin, y1 - origin, x2, y2), crowd=crowd, extra=extra, **flags)


def _stated_size(root: ET.Element) -> tuple[int, int] | None:
    size = root.find("size")
    try:
        stated = (int(float(_text(size, "width"))), int(float(_text(size, "height")))) if size is not None else (0, 0)
    except (ValueError, OverflowError):
        return None
    return stated if min(stated) > 0 else None  # some tools write 0 for what they do not know


def _text(parent: ET.Element, tag: str) -> str:
    return (parent.findtext(tag) or "").strip()


def _xml(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode").strip()


def _picture(note: _Note, index: PictureIndex, names: tuple[str, ...], splits: dict[str, str], problems: list[Problem]) -> Picture | None:
    path = note.found(index)
    if path is None:
        problems.append(Problem("missing-picture", "error", str(note.path), f"no picture {note.file_name or note.stem} in {index.folder}"))
    size = size_of(str(note.path), path, note.size_wh, problems)
    if size is None:
        return None
    things = numbered(note.objects, names, str(note.path), problems)
    file_name = index.name_of(path) if path is not None else note.file_name or f"{note.stem}.jpg"
    return Picture(file_name, size, things, path, splits.get(note.stem, ""), {"voc": note.rest})


def _read_splits(folders: Iterable[Path], problems: list[Problem]) -> dict[str, str]:
    """Stem -> split, from ImageSets/Main; files per class (`dog_train.txt`) and `trainval.txt` repeat what the others say."""
    lists = next((folder / "ImageSets" / "Main" for folder in folders if (folder / "ImageSets" / "Main").is_dir()), None)
    found: dict[str, str] = {}
    for file in sorted(lists.glob("*.txt")) if lists is not None else []:
        if "_" in file.stem or file.stem == "trainval":
            continue
        split = split_named(file.stem)
        stems = [line.split()[0] for line in listed_paths(file)]
        twice = [stem for stem in stems if found.setdefault(stem, split) != split]
        problems += [Problem("two-splits", "error", str(file), f"{stem} is in the split {found[stem] or UNASSIGNED} too") for stem in twice]
    return found


def write(dataset: Dataset, folder: Path, options: WriteOptions) -> None:
    """Write Annotations, JPEGImages, ImageSets/Main and classes.txt into the folder."""
    require_unique(((f"{picture.stem}.xml", picture) for picture in dataset.pictures), "annotation")
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir()
    place_pictures(((picture, folder / "JPEGImages" / picture.name) for picture in dataset.pictures), options.pictures)
    for picture in dataset.pictures:
        path = folder / "Annotations" / f"{picture.stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        tree = _element(picture, dataset.class_names, options)
        ET.indent(tree, "\t")
        path.write_text(ET.tostring(tree, encoding="unicode") + "\n", encoding="utf-8")
    placed = dataset.placed()
    for split in dict.fromkeys(split for split, _ in placed if split):
        lists = folder / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("".join(f"{picture.stem}\n" for of, picture in placed if of == split), encoding="utf-8")
    write_class_file(dataset, folder)


def losses(dataset: Dataset) -> list[str]:
    """Return what this format has no place for, one sentence each."""
    crowds = sum(thing.crowd for picture in dataset.pictures for thing in picture.objects)
    how = f"{number_of(crowds, 'object')} marked as a crowd: written as <iscrowd>1</iscrowd>, which other VOC readers do not know"
    return [*([how] if crowds else []), *flag_losses(dataset, "VOC", kept=[*_FLAGS, "crowd"])]


def _element(picture: Picture, names: tuple[str, ...], options: WriteOptions) -> ET.Element:
    root = ET.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", picture.name.rpartition("/")[2])
    rest: Iterable[str] = picture.extra.get("voc", ())
    for text in rest:
        root.append(ET.fromstring(text))  # noqa: S314 - text that this module made
    size = ET.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*picture.size_wh, 3), strict=True):
        _add(size, tag, value)
    for thing in picture.objects:
        root.append(_object_element(thing, names[thing.class_id], options))
    return root


def _object_element(thing: LabelledObject, name: str, options: WriteOptions) -> ET.Element:
    element = ET.Element("object")
    _add(element, "name", name)
    rest: Iterable[str] = thing.extra.get("voc", ())
    for text in rest:
        element.append(ET.fromstring(text))  # noqa: S314 - text that this module made
    for flag in _FLAGS:
        _add(element, flag, int(getattr(thing, flag)))
    if thing.crowd:
        _add(element, "iscrowd", 1)
    box = ET.SubElement(element, "bndbox")
    for tag, value in zip(_ENDS, _voc_pixels(thing.box, whole=options.whole_pixels), strict=True):
        _add(box, tag, value)
    return element


def _voc_pixels(box: Box, *, whole: bool) -> tuple[str, ...]:
    """Return the box counted from 1 with inclusive ends; nine decimals at most, none where the number is whole."""
    ends = (box[0] + 1, box[1] + 1, box[2], box[3])
    if whole:
        return tuple(str(math.floor(end + 0.5)) for end in ends)
    return tuple(f"{end:.9f}".rstrip("0").rstrip(".") for end in ends)


def _add(parent: ET.Element, tag: str, text: Any) -> None:
    ET.SubElement(parent, tag).text = str(text)
