"""One step of edgeannot alone: `python -m benchmarks.peers.own_stages decode|input|boxes MODEL FOLDER OUTPUTS < paths`.

OUTPUTS is the end of the files with the network's output for each picture, beside the pictures; `outputs` writes them.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.peers.turns import serve
from edgeannot.base.places import bundled_folder
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import Outputs, RawTensor
from edgeannot.vision.decode import configure_opencv, decode, keep_freed_memory
from edgeannot.vision.geometry import clip, nms
from edgeannot.vision.heads import reader_of
from edgeannot.vision.pipeline import load_engine, to_tensor


def main() -> None:
    """Do the step for the pictures whose paths come on stdin."""
    step, model, folder, end = sys.argv[1:5]
    configure_opencv()
    keep_freed_memory()
    card = find_card(model, [Path(folder), bundled_folder()])
    engine = load_engine(card)
    fill, head = to_tensor(card, engine), reader_of(card.head)

    def image(data: bytes) -> Any:
        return decode(data).image

    def read(path: str) -> bytes:
        return Path(path).read_bytes()

    def picture(path: str) -> Any:
        return image(read(path))

    def output(path: str) -> tuple[Outputs, Any, Any]:
        seen = picture(path)
        return Outputs([RawTensor(np.load(path + end)["values"], engine.outputs[0])]), fill(seen)[1], seen.shape[1::-1]

    def boxes(given: tuple[Outputs, Any, Any]) -> int:
        outputs, fit, size_wh = given
        found = head.decode(outputs, card.input_wh, card.defaults.min_score)
        found = found[nms(found.boxes, found.scores, found.classes, card.defaults.iou, limit=card.defaults.max_detections)]
        return len(clip(fit.to_frame(found.boxes), size_wh))

    def write(path: str) -> int:
        values = engine.run(fill(picture(path))[0])[0]
        np.savez(f"{path}{end}", values=values.values, quantization=[values.spec.scale, values.spec.zero_point])
        return 0

    steps: dict[str, tuple[Any, Any]] = {
        "decode": (read, lambda data: len(image(data)) * 0),
        "input": (picture, lambda seen: len(fill(seen)) * 0),
        "boxes": (output, boxes),
        "outputs": (str, write),
    }
    first, annotate = steps[step]
    serve(annotate, first=first, edgeannot=version("edgeannot"), opencv=cv2.__version__, simplejpeg=version("simplejpeg"))


if __name__ == "__main__":
    main()
