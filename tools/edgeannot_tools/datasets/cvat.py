"""CVAT for images 1.1: one XML file, https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/

`<image id name width height [subset]>` holds `<box label xtl ytl xbr ybr occluded>` in pixels counted from 0, far edges exclusive. The
labels of the task, in their order, stand in `<meta>`. Written: `annotations.xml`, which CVAT takes as "CVAT 1.1" into a task whose pictures
have the same names, and `images/[SPLIT/]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import as_float, as_int, one_line, read_head
from edgeannot_tools.datasets.by_name import NamedPicture, assemble, place
from edgeannot_tools.datasets.form import Dataset, LabelledObject, Problem, Reading, ReadOptions, WriteOptions
from edgeannot_tools.datasets.pictures import files_at
from edgeannot_tools.datasets.yolo import flag_losses

__all__ = ["losses", "read", "recognise", "write"]

_SIDES = ("xtl", "ytl", "xbr", "ybr")
_FILE = "annotations.xml"
_HEAD_BYTES = 1 << 16
_OTHER_SHAPES = frozenset({"polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton"})


def recognise(path: Path) -> bool:
    """Tell whether the path is, or holds, an XML file of CVAT."""
    return bool(_files(path))


def read(path: Path, options: ReadOptions) -> Reading:
    """Return the set in CVAT's XML file. Raises InputError where there is none, or one of a video."""
    files = _files(path)
    if not files:
        raise InputError(f"{path}: no XML file of CVAT with <annotations> there")
    if len(files) > 1:
        raise InputError(f"{path} has several files of CVAT ({', '.join(file.name for file in files)}); name the one that is meant")
    file = files[0]
    try:
        root = ET.parse(file).getroot()  # noqa: S314 - expat itself refuses entity bombs and loads nothing from outside
    except (OSError, ET.ParseError, ValueError, LookupError) as exc:
        raise InputError(f"{file} cannot be read as XML ({exc})") from exc
    if root.find("track") is not None:
        raise InputError(f'{file} holds the tracks of a video; export the task from CVAT as "CVAT for images 1.1"')
    problems: list[Problem] = []
    found = [_picture(element, file, problems) for element in root.iter("image")]
    names = [one_line(label.findtext("name") or "") for label in root.iterfind("./meta//labels/label")]
    return assemble([picture for picture in found if picture is not None], file, options, problems, [name for name in names if name])


def write(dataset: Dataset, folder: Path, options: WriteOptions) -> None:
    """Write annotations.xml and images/ into the folder."""
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for name in dataset.class_names:
        ET.SubElement(ET.SubElement(labels, "label"), "name").text = name
    for number, (split, picture, _) in enumerate(place(dataset, folder, options)):
        width, height = map(str, picture.size_wh)
        facts = {"id": str(number), "name": picture.name, **({"subset": split} if split else {}), "width": width, "height": height}
        element = ET.SubElement(root, "image", facts)
        for thing in picture.objects:
            element.append(_box(thing, dataset.class_names[thing.class_id]))
    ET.indent(root)
    (folder / _FILE).write_bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def losses(dataset: Dataset) -> list[str]:
    """Return what this format has no place for, one sentence each."""
    return flag_losses(dataset, "CVAT", kept=["occluded"])


def _files(path: Path) -> list[Path]:
    return [file for file in files_at(path, ".xml") if b"<annotations" in read_head(file, _HEAD_BYTES).replace(b"\0", b"")]


def _picture(element: ET.Element, file: Path, problems: list[Problem]) -> NamedPicture | None:
    name = one_line(element.get("name", ""))
    where = f"{file}, image {name or element.get('id')!r}"
    if not name:
        problems.append(Problem("bad-line", "error", where, "the image has no name"))
        return None
    width, height = as_int(element.get("width")), as_int(element.get("height"))
    objects = tuple(_objects(element, where, problems))
    return NamedPicture(where, name, (width, height) if width and height else None, objects, one_line(element.get("subset", "")))


def _objects(element: ET.Element, where: str, problems: list[Problem]) -> Iterator[tuple[str, LabelledObject]]:
    for child in element:
        label = one_line(child.get("label", ""))
        if child.tag in _OTHER_SHAPES or (as_float(child.get("rotation")) or 0) != 0:
            problems.append(Problem("bad-line", "error", where, f"{label!r} is a {child.tag}, not an upright box: left out"))
        elif child.tag == "box":
            x1, y1, x2, y2 = (as_float(child.get(side)) for side in _SIDES)
            if not label or x1 is None or y1 is None or x2 is None or y2 is None:
                found = [child.get(key) for key in ("label", *_SIDES)]
                wanted = f"a label and numbers in {', '.join(_SIDES)}"
                problems.append(Problem("bad-line", "error", where, f"wanted {wanted}, found {found!r:.80}"))
            else:
                yield label, LabelledObject(0, (x1, y1, x2, y2), occluded=child.get("occluded") == "1")


def _box(thing: LabelledObject, label: str) -> ET.Element:
    sides = dict(zip(_SIDES, (f"{side:.9f}".rstrip("0").rstrip(".") for side in thing.box), strict=True))
    source = "auto" if "score" in thing.extra else "manual"
    return ET.Element("box", {"label": label, "source": source, "occluded": str(int(thing.occluded)), **sides, "z_order": "0"})
