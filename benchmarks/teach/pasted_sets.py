"""Make a labelled set by pasting cut-outs into pictures: objects of very different size, or small ones in crowds.

    python benchmarks/teach/pasted_sets.py COCO_JSON OUT --backgrounds DIR [DIR...] [--kind sizes|crowded] [--pictures 40]

COCO_JSON: an instances.json with polygons; beside it, `images/`. The objects are cut along their polygons, changed in scale, shape,
light and side, and pasted with soft edges, so they are easier than real ones, but their sizes and their crowding are as wanted. Pictures
below --backgrounds are 640 x 480 afterwards; those in COCO_JSON itself are not used. The same seed gives the same set, written as YOLO's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from edgeannot.vision.data import UInt8Array
from edgeannot_tools.datasets import Dataset, LabelledObject, Picture, save_dataset
from edgeannot_tools.datasets.pictures import PICTURE_SUFFIXES, list_files

KINDS = {
    # Root of the area in pixels, from and to; objects a picture.
    "sizes": ({"orange": (20, 34), "horse": (45, 75), "elephant": (100, 150)}, (2, 5)),
    "crowded": ({"orange": (16, 32), "broccoli": (16, 32), "clock": (16, 32)}, (12, 30)),
}
WIDTH, HEIGHT = 640, 480
HIDDEN = 0.6
"""Of an object at most, behind those that are pasted after it."""


def cut_outs(source: Path, names: list[str]) -> dict[str, list[UInt8Array]]:
    """Return (h, w, 4) BGR and coverage of each object of these classes that has polygons."""
    table = json.loads(source.read_text())
    class_of = {row["id"]: row["name"] for row in table["categories"]}
    path_of = {row["id"]: source.parent / "images" / row["file_name"] for row in table["images"]}
    found: dict[str, list[UInt8Array]] = {name: [] for name in names}
    for row in table["annotations"]:
        name = class_of[row["category_id"]]
        if name not in found or row["iscrowd"] or row["bbox"][2] * row["bbox"][3] < 32**2:
            continue
        image = cv2.imread(str(path_of[row["image_id"]]))
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.array(part).reshape(-1, 2).round().astype(np.int32) for part in row["segmentation"]], 255)
        ys, xs = np.nonzero(mask)
        cut = np.dstack([image, mask])[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        found[name].append(np.asarray(cut, np.uint8))
    return found


def changed(cut: UInt8Array, side: float, rng: np.random.Generator) -> UInt8Array:
    """Return the cut-out with this root of its area, a little other in shape and light, perhaps mirrored."""
    height, width = cut.shape[:2]
    scale, aspect = side / np.sqrt(height * width), np.exp(rng.uniform(-0.15, 0.15))
    size = max(4, round(width * scale * aspect)), max(4, round(height * scale / aspect))
    cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    light = np.clip(cut[..., :3] * rng.uniform(0.75, 1.25) + rng.uniform(-20, 20), 0, 255)
    cut = np.dstack([light.astype(np.uint8), cut[..., 3]])
    return cut[:, ::-1] if rng.random() < 0.5 else cut


def pasted(
    image: UInt8Array, cuts: list[list[UInt8Array]], sides: list[tuple[int, int]], count: int, crowded: bool, rng: np.random.Generator
) -> tuple[UInt8Array, list[LabelledObject]]:
    """Return the picture with so many objects of random classes, and their marks; in a crowd they lie around a few places."""
    image = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    places = rng.uniform((0.2, 0.2), (0.8, 0.8), (3, 2)) * (WIDTH, HEIGHT)
    owner = np.full((HEIGHT, WIDTH), -1)
    marks: list[tuple[int, tuple[int, int, int, int], int]] = []
    for number in range(count):
        kind = int(rng.integers(len(cuts))) if number >= len(cuts) else number
        low, high = sides[kind]
        cut = changed(cuts[kind][int(rng.integers(len(cuts[kind])))], rng.uniform(low, high), rng)
        height, width = cut.shape[:2]
        x, y = places[int(rng.integers(3))] + rng.normal(0, 45, 2) if crowded else rng.uniform(0, (WIDTH, HEIGHT))
        left, top = int(np.clip(x - width / 2, 0, WIDTH - width)), int(np.clip(y - height / 2, 0, HEIGHT - height))
        part = image[top : top + height, left : left + width]
        cover = cv2.GaussianBlur(cut[..., 3], (3, 3), 0)[..., None] / 255
        part[:] = (part * (1 - cover) + cut[..., :3] * cover).astype(np.uint8)
        owner[top : top + height, left : left + width][cut[..., 3] > 127] = number
        marks.append((kind, (left, top, left + width, top + height), int((cut[..., 3] > 127).sum())))
    seen = [int((owner == number).sum()) for number in range(count)]
    return image, [LabelledObject(kind, box) for (kind, box, area), left in zip(marks, seen, strict=True) if left > (1 - HIDDEN) * area]


def main() -> None:
    """Make the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backgrounds", type=Path, nargs="+", required=True)
    parser.add_argument("--kind", choices=sorted(KINDS), default="sizes")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sides, (fewest, most) = KINDS[args.kind]
    cuts = cut_outs(args.coco, list(sides))
    paths = [path for folder in args.backgrounds for path in list_files(folder, PICTURE_SUFFIXES)]
    rng = np.random.default_rng(args.seed)
    folder = args.out / "pictures"
    folder.mkdir(parents=True)
    pictures = []
    for number, row in enumerate(rng.permutation(len(paths))[: args.pictures].tolist()):
        image = cv2.imread(str(paths[row]))
        count = int(rng.integers(fewest, most + 1))
        image, objects = pasted(image, list(cuts.values()), list(sides.values()), count, args.kind == "crowded", rng)
        path = folder / f"{number:03d}.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        pictures.append(Picture(path.name, (WIDTH, HEIGHT), tuple(objects), path))
    save_dataset(Dataset(tuple(sides), tuple(pictures)), args.out / "set", "yolo")
    print(f"{len(pictures)} pictures with {sum(len(picture.objects) for picture in pictures)} objects in {args.out / 'set'}")


if __name__ == "__main__":
    main()
