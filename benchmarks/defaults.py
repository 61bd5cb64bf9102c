"""What the defaults see, to be looked at: `python -m benchmarks.defaults` writes docs/annotated.png and docs/defaults.jpg.

docs/annotated.png is what the default of `mid` makes of three samples. The pictures of the sheet are the samples and what is made of
them: darkened, as a night camera shows it, through a fisheye lens, far away, and grounds without any object. A row a picture, a column
a model. The boxes of each are counted and printed; on an empty ground they are false alarms.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeannot.base.places import SAMPLES, bundled_folder
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import Frame, UInt8Array
from edgeannot.vision.draw import draw
from edgeannot.vision.pipeline import load_pipeline

DOCS = Path(__file__).resolve().parent.parent / "docs"
MODELS = {
    "before: yolov3-tiny 224": "yolov3-tiny@224",
    "low: NanoDet-g 224": "nanodet-g@224",
    "mid, high: SSDLite 300": "ssdlite-mobilenet-v2-coco@300",
}
"""What is written above a column, and the model."""
CELL_WH, GAP_PX = (360, 270), 6
_FISHEYE_RAD = 0.9


def _bytes(image: Any) -> UInt8Array:
    """Return the picture with its type: OpenCV's stubs name none."""
    return np.asarray(image, np.uint8)


def dark(image: UInt8Array) -> UInt8Array:
    """Return the picture as a tenth of the light gives it, with the noise of a small sensor."""
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image * 0.1 + noise, 0, 255).astype(np.uint8)


def night(image: UInt8Array) -> UInt8Array:
    """Return the picture in gray, with little contrast."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return _bytes(cv2.cvtColor((gray * 0.4 + 60).astype(np.uint8), cv2.COLOR_GRAY2BGR))


def fisheye(image: UInt8Array) -> UInt8Array:
    """Return the picture through an equidistant lens of about 100 degrees, black around the circle."""
    h, w = image.shape[:2]
    half = np.array([w / 2, h / 2], np.float32)
    offset = np.dstack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))) / half - 1
    radius = np.linalg.norm(offset, axis=2, keepdims=True)
    flat = np.tan(np.minimum(radius, 1) * _FISHEYE_RAD) / np.tan(_FISHEYE_RAD) / np.maximum(radius, 1e-6)
    source = ((np.where(radius < 1, offset * flat, 9) + 1) * half).astype(np.float32)
    return _bytes(cv2.remap(image, source[..., 0], source[..., 1], cv2.INTER_LINEAR))


def far(image: UInt8Array) -> UInt8Array:
    """Return a lawn as wide as the picture with the picture's middle on it, at a fifth of its size."""
    h, w = image.shape[:2]
    lawn = ground(0.75, 0.62)(image)
    small = cv2.resize(image, (w // 5, h // 5), interpolation=cv2.INTER_AREA)
    lawn[h // 2 : h // 2 + small.shape[0], w // 3 : w // 3 + small.shape[1]] = small
    return lawn


def ground(x: float, y: float) -> Callable[[UInt8Array], UInt8Array]:
    """Return a function that enlarges a quarter of a picture, by its corner in shares of the sides."""

    def cut(image: UInt8Array) -> UInt8Array:
        h, w = image.shape[:2]
        return _bytes(cv2.resize(image[int(y * h) : int((y + 0.25) * h), int(x * w) : int((x + 0.25) * w)], (w, h)))

    return cut


PICTURES: list[tuple[str, str, Callable[[UInt8Array], UInt8Array]]] = [
    *((name, name, np.copy) for name in ("astronaut", "cameraman", "cat", "coffee", "scene")),
    ("dark", "scene", dark), ("dark", "cat", dark), ("night", "scene", night), ("night", "astronaut", night),
    ("fisheye", "scene", fisheye), ("fisheye", "astronaut", fisheye), ("far", "cameraman", far),
    ("empty: wood", "coffee", ground(0.75, 0.75)), ("empty: lawn", "cameraman", ground(0.75, 0.62)),
    ("empty: sky", "cameraman", ground(0, 0)),
]  # fmt: skip


def seen(model: str) -> list[tuple[UInt8Array, int]]:
    """Return each picture with its boxes drawn, and their number."""
    card = find_card(model, [bundled_folder()])
    run = load_pipeline(card)
    found = []
    for _, name, change in PICTURES:
        image = change(_bytes(cv2.imread(str(SAMPLES / f"{name}.jpg"))))
        annotation = run(Frame(image, "sheet", 0, datetime.now(UTC), name))
        found.append((draw(image, annotation.detections, annotation.labels), len(annotation.detections)))
    return found


def fitted(image: UInt8Array) -> UInt8Array:
    """Return the picture within a white cell."""
    w, h = CELL_WH
    scale = min((w - GAP_PX) / image.shape[1], (h - GAP_PX) / image.shape[0])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cell = np.full((h, w, 3), 255, np.uint8)
    cell[: small.shape[0], : small.shape[1]] = small
    return cell


def titled(text: str, width: int) -> UInt8Array:
    """Return a line of text on white."""
    line = np.full((26, width, 3), 255, np.uint8)
    cv2.putText(line, text, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return line


def main() -> None:
    """Write both pictures and print the number of boxes."""
    columns = {title: seen(model) for title, model in MODELS.items()}
    print(f"{'boxes':24}", *(f"{title:>24}" for title in columns))
    for row, (what, name, _) in enumerate(PICTURES):
        print(f"{f'{what} ({name})':24}", *(f"{cells[row][1]:24}" for cells in columns.values()))
    sheet = [np.hstack([titled(title, CELL_WH[0]) for title in columns])]
    for row, (what, _, _) in enumerate(PICTURES):
        sheet += [titled(what, CELL_WH[0] * len(columns)), np.hstack([fitted(cells[row][0]) for cells in columns.values()])]
    cv2.imwrite(str(DOCS / "defaults.jpg"), np.vstack(sheet), [cv2.IMWRITE_JPEG_QUALITY, 72])
    found = dict(zip((name for _, name, _ in PICTURES), (image for image, _ in list(columns.values())[-1][:5]), strict=False))
    strip = [cv2.resize(found[name], None, fx=300 / found[name].shape[0], fy=300 / found[name].shape[0], interpolation=cv2.INTER_AREA)
             for name in ("astronaut", "cat", "coffee")]  # fmt: skip
    cv2.imwrite(str(DOCS / "annotated.png"), np.hstack(strip))


if __name__ == "__main__":
    main()
