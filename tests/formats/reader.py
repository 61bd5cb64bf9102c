"""Opens a labelled set with the code of the tools that it is written for, in an environment where these are installed.

    reader.py TOOL FOLDER

prints a JSON list of [picture, label, x1, y1, x2, y2] in pixels of the picture, far edges exclusive.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = tuple[str, str, float, float, float, float]


def _of_supervision(dataset: Any) -> Iterator[Row]:
    for path, _, found in dataset:
        for box, class_id in zip(found.xyxy.tolist(), found.class_id.tolist(), strict=True):
            yield Path(path).name, dataset.classes[class_id], *box


def supervision_yolo(folder: Path) -> Iterator[Row]:
    """Supervision, as Ultralytics lays a set out."""
    import supervision

    yield from _of_supervision(
        supervision.DetectionDataset.from_yolo(str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"))
    )


def supervision_voc(folder: Path) -> Iterator[Row]:
    """Supervision; it counts VOC's pixels from 0."""
    import supervision

    dataset = supervision.DetectionDataset.from_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    yield from _of_supervision(dataset)


def pycocotools(folder: Path) -> Iterator[Row]:
    """COCO's own reader."""
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "annotations" / "instances.json"))
    for note in coco.loadAnns(coco.getAnnIds()):
        x, y, w, h = note["bbox"]
        [category] = coco.loadCats(note["category_id"])
        yield coco.loadImgs(note["image_id"])[0]["file_name"], category["name"], x, y, x + w, y + h


def pycocotools_masks(folder: Path) -> Iterator[Row]:
    """COCO's own reader: the boxes around the masks; it tells of the set, too, which fails where the file says nothing of it."""
    import numpy as np
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "annotations" / "instances.json"))
    coco.info()
    for note in coco.loadAnns(coco.getAnnIds()):
        rows, columns = np.nonzero(coco.annToMask(note))
        [category] = coco.loadCats(note["category_id"])
        corners = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        yield coco.loadImgs(note["image_id"])[0]["file_name"], category["name"], *map(float, corners)


def _of_labelimg(shapes: Any, name: str) -> Iterator[Row]:
    for label, points, *_ in shapes:
        (x1, y1), _, (x2, y2), _ = points
        yield name, label, x1, y1, x2, y2


def labelimg_yolo(folder: Path) -> Iterator[Row]:
    """labelImg, which looks for classes.txt beside each label file."""
    from libs.yolo_io import YoloReader
    from PIL import Image

    class Size:
        def __init__(self, path: Path) -> None:
            self._size = Image.open(path).size

        def width(self) -> int:
            return self._size[0]

        def height(self) -> int:
            return self._size[1]

        def isGrayscale(self) -> bool:  # noqa: N802 - Qt's name
            return False

    for picture in sorted((folder / "images").iterdir()):
        yield from _of_labelimg(YoloReader(str(folder / "labels" / f"{picture.stem}.txt"), Size(picture)).get_shapes(), picture.name)


def labelimg_voc(folder: Path) -> Iterator[Row]:
    """labelImg's reader of VOC."""
    from libs.pascal_voc_io import PascalVocReader

    for picture in sorted((folder / "JPEGImages").iterdir()):
        yield from _of_labelimg(PascalVocReader(str(folder / "Annotations" / f"{picture.stem}.xml")).get_shapes(), picture.name)


def label_studio(folder: Path) -> Iterator[Row]:
    """Label Studio's converter, to COCO."""
    from label_studio_converter import Converter

    converter = Converter(str(folder / "label_config.xml"), str(folder), download_resources=False)
    with tempfile.TemporaryDirectory() as out:
        converter.convert_to_coco(str(folder / "tasks.json"), out, is_dir=False)
        table = json.loads((Path(out) / "result.json").read_text())
    pictures = {image["id"]: Path(image["file_name"]).name for image in table["images"]}
    names = {category["id"]: category["name"] for category in table["categories"]}
    for note in table["annotations"]:
        x, y, w, h = note["bbox"]
        yield pictures[note["image_id"]], names[note["category_id"]], x, y, x + w, y + h


TOOLS: dict[str, Callable[[Path], Iterator[Row]]] = {
    each.__name__: each
    for each in (supervision_yolo, supervision_voc, pycocotools, pycocotools_masks, labelimg_yolo, labelimg_voc, label_studio)
}

if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(list(TOOLS[sys.argv[1]](Path(sys.argv[2])))) + "\n")
