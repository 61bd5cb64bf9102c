"""Label files beside the results: YOLO txt, Pascal VOC XML, COCO JSON, one file a picture and format.

COCO's usual form is one file for a whole set, which would have to be written anew for each picture. Here each picture has a COCO
file of its own that is a complete data set of one picture; image and annotation ids are made from the picture's name, so files
can be joined by concatenating their lists.
"""

from __future__ import annotations

import hashlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.foreign import one_line, read_bytes
from edgeannot.payload import encode, rfc3339
from edgeannot.sinks.base import FolderState, Sink, SinkContext, SinkOptions
from edgeannot.sinks.files import OutputFolder, companion_name, picture_name
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

__all__ = ["ClassList", "LabelFormat", "LabelsOptions", "LabelsSink", "coco_json", "voc_xml", "yolo_txt"]

LabelFormat = Literal["yolo", "voc", "coco"]

_CLASSES = PurePosixPath("classes.txt")
_NO_CLASS = "-"
"""The line of a number that stands for no class."""


class LabelsOptions(SinkOptions):
    """Label files for training tools."""

    enabled: bool = False
    """Whether label files are written."""
    folder: Path = Path("labels")
    """Folder for them; a relative one lies in the output folder. With several formats each has a folder of its own in it."""
    formats: tuple[LabelFormat, ...] = Field(default=("yolo",), min_length=1)
    """Formats: yolo (txt), voc (xml), coco (json)."""
    scores: bool = False
    """Add the score as a sixth column of YOLO files; VOC and COCO files always carry it."""
    min_free_mb: int = Field(default=50, ge=0)
    """Free disk space, in megabytes, below which no label files are written."""

    def written_paths(self, out_dir: Path) -> tuple[Path, ...]:
        """Return the one folder, which has those of several formats in it."""
        return (out_dir / self.folder,)


class LabelsSink(Sink):
    """Writes `<folder>/<source>/<name>.txt|.xml|.json`; a picture without objects has a file too, which says so."""

    def __init__(self, options: LabelsOptions, context: SinkContext) -> None:
        root = context.out_dir / options.folder
        formats = dict.fromkeys(options.formats)
        self._outs = {f: OutputFolder(root / f if len(formats) > 1 else root, min_free_bytes=options.min_free_mb * 2**20) for f in formats}
        self._writers: Mapping[LabelFormat, tuple[str, Callable[[Annotation], bytes]]] = {
            "yolo": (".txt", lambda annotation: yolo_txt(annotation, self._classes.number, scores=options.scores)),
            "voc": (".xml", voc_xml),
            "coco": (".json", coco_json),
        }
        self._classes = ClassList(_text(self._outs["yolo"].folder / _CLASSES) if "yolo" in self._outs else "")
        self._class_folders = {PurePosixPath(): True}
        self._classes.adopt(context.class_names)
        self._write_classes()

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Store the label files of one picture; no messages."""
        for label_format, out in self._outs.items():
            suffix, write = self._writers[label_format]
            name = companion_name(annotation.frame, suffix)
            out.write(name, write(annotation))
            if label_format == "yolo":
                self._class_folders.setdefault(name.parent, False)
        self._write_classes()
        return ()

    def folders(self) -> Sequence[FolderState]:
        """Return one state for each format."""
        return tuple(out.state for out in self._outs.values())

    def flush(self) -> None:
        """Bring the last picture's files to the disk. Raises LinkError."""
        for out in self._outs.values():
            out.flush()

    def _write_classes(self) -> None:
        """Write the list of classes where it is missing or old: at the top, and beside label files, where labelImg looks for it."""
        if "yolo" not in self._outs:
            return
        if self._classes.changed:
            self._class_folders = dict.fromkeys(self._class_folders, False)
            self._classes.changed = False
        if self._classes.empty:
            return
        for folder in [folder for folder, written in self._class_folders.items() if not written]:
            self._class_folders[folder] = self._outs["yolo"].write(folder / _CLASSES, self._classes.text()) is not None


class ClassList:
    """The classes of a folder of YOLO label files: line N (from 0) of its classes.txt is the name of class N.

    A label file holds numbers only. Another model may number its classes in another way, now or at the next start; its names take the
    numbers they have in the folder, and new names get new ones, for as long as the folder lives.
    """

    def __init__(self, text: str = "") -> None:
        """text: of the folder's classes.txt; empty where there is none."""
        self._lines = text.splitlines()
        self.changed = False
        """Whether there are names that the text did not have."""

    @property
    def empty(self) -> bool:
        """Whether no class has a name."""
        return not self._lines

    def adopt(self, names: Mapping[int, str]) -> None:
        """Add the names of a model. In a folder without classes they keep the model's numbers."""
        if not self._lines and names:
            self._lines = [_plain(names.get(number, _NO_CLASS)) for number in range(max(names) + 1)]
            self.changed = True
        for number, name in names.items():
            self.number(number, name)

    def number(self, class_id: int, label: str) -> int:
        """Return the number in the folder of a model's class. A class without a name, whose label is its number, keeps that."""
        name = _plain(label)
        if name == str(class_id) or (class_id < len(self._lines) and self._lines[class_id] == name):
            return class_id
        if name in self._lines:
            return self._lines.index(name)
        self.changed = True
        free = class_id >= len(self._lines) or self._lines[class_id] == _NO_CLASS
        place = class_id if free else len(self._lines)
        self._lines += [_NO_CLASS] * (place + 1 - len(self._lines))
        self._lines[place] = name
        return place

    def text(self) -> bytes:
        """Return the contents of classes.txt."""
        return ("\n".join(self._lines) + "\n").encode("utf-8", "backslashreplace")


def _plain(name: str) -> str:
    """A name as one line holds it; bytes that are no UTF-8 as \\xNN, as they are read back."""
    return " ".join(name.encode("utf-8", "backslashreplace").decode().split()) or _NO_CLASS


def yolo_txt(annotation: Annotation, number: Callable[[int, str], int] = lambda class_id, _: class_id, *, scores: bool = False) -> bytes:
    """Return `class cx cy w h` a line, relative to width and height; the format of Darknet and its successors.

    number: of a class by its id and label.
    """
    width, height = annotation.frame.size_wh
    found = annotation.detections
    lines = []
    rows = zip(found.classes.tolist(), annotation.labels, found.scores.tolist(), found.boxes.tolist(), strict=True)
    for class_id, label, score, (x1, y1, x2, y2) in rows:
        parts = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        tail = f" {score:.4f}" if scores else ""
        lines.append(f"{number(class_id, label)} " + " ".join(f"{part:.6f}" for part in parts) + tail + "\n")
    return "".join(lines).encode()


def voc_xml(annotation: Annotation) -> bytes:
    """Return a Pascal VOC annotation (VOC2012 devkit): pixels count from 1, far edges inclusive, rounded to the nearest pixel edge."""
    frame = annotation.frame
    width, height = frame.size_wh
    name = picture_name(frame)
    root = ET.Element("annotation")
    _add(root, "folder", str(name.parent))
    _add(root, "filename", name.name)
    _add(ET.SubElement(root, "source"), "database", "edgeannot")
    size = ET.SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        _add(size, tag, value)
    _add(root, "segmented", 0)
    found = annotation.detections
    for label, score, box in zip(annotation.labels, found.scores.tolist(), found.boxes.tolist(), strict=True):
        item = ET.SubElement(root, "object")
        for tag, text in (("name", label), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0), ("confidence", f"{score:.4f}")):
            _add(item, tag, text)
        bounds = ET.SubElement(item, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), voc_pixels(box, (width, height)), strict=True):
            _add(bounds, tag, value)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def coco_json(annotation: Annotation) -> bytes:
    """Return a COCO data set of this one picture (https://cocodataset.org/#format-data): `bbox` is x, y, width, height in pixels."""
    frame = annotation.frame
    width, height = frame.size_wh
    name = picture_name(frame)
    found = annotation.detections
    image_id = _number(name)
    rows = []
    for row, (score, class_id, (x1, y1, x2, y2)) in enumerate(
        zip(found.scores.tolist(), found.classes.tolist(), found.boxes.tolist(), strict=True)
    ):
        x, y, w, h = bbox = [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)]
        rows.append(
            {
                "id": _number(name / str(row)),
                "image_id": image_id,
                "category_id": class_id,
                "bbox": bbox,
                "segmentation": [[x, y, x, y + h, x + w, y + h, x + w, y]],  # the box: readers make no mask of an empty list
                "area": round((x2 - x1) * (y2 - y1), 2),
                "iscrowd": 0,
                "score": round(score, 4),
            }
        )
    names = dict(sorted(zip(found.classes.tolist(), annotation.labels, strict=True)))
    document = {
        "info": {"description": f"made by edgeannot with {annotation.model.name}", "date_created": rfc3339(frame.captured_at)},
        "licenses": [],
        "images": [{"id": image_id, "file_name": one_line(str(name)), "width": width, "height": height}],
        "annotations": rows,
        "categories": [{"id": class_id, "name": one_line(label)} for class_id, label in names.items()],
    }
    return encode(document) + b"\n"


def _text(path: Path) -> str:
    """Return what the file holds; nothing where there is none, or something else than a file of this folder, which will be written over."""
    if path.is_symlink():
        return ""
    try:
        return read_bytes(path, "the list of classes").decode("utf-8", "replace")
    except EdgeannotError:
        return ""


def voc_pixels(box_xyxy: Sequence[float], size_wh: tuple[int, int]) -> list[int]:
    """Return inclusive 1-based pixels: [x1, x2) in 0-based edges covers x1 + 1 .. x2; at least one pixel, inside the picture."""
    near = [min(max(round(box_xyxy[axis]) + 1, 1), size_wh[axis]) for axis in (0, 1)]
    far = [min(max(round(box_xyxy[axis + 2]), near[axis]), size_wh[axis]) for axis in (0, 1)]
    return near + far


def _add(parent: ET.Element, tag: str, text: object) -> None:
    ET.SubElement(parent, tag).text = one_line(str(text))


def _number(name: PurePosixPath) -> int:
    """Return an id made from a name, below 2**53, which JSON readers keep exactly."""
    return int.from_bytes(hashlib.sha256(os.fsencode(str(name))).digest()[:6], "big") + 1
