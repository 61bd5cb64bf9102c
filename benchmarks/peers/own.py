"""edgeannot and its floors, as peers: `python -m benchmarks.peers.own WHAT MODEL FOLDER < paths`.

WHAT: bare (one run of the network), floor (the fastest decoding of the JPEG, then the run), edgeannot (from the file to boxes), scaled
(the same with the JPEG decoded at 1/2, 1/4 or 1/8 where its shorter side stays above the input's).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from simplejpeg import decode_jpeg

from benchmarks.peers.turns import serve
from edgeannot.base.places import bundled_folder
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import Frame
from edgeannot.vision.decode import configure_opencv, keep_freed_memory, read_picture
from edgeannot.vision.pipeline import load_pipeline


def main() -> None:
    """Annotate the pictures whose paths come on stdin."""
    what, model, folder = sys.argv[1:4]
    configure_opencv()
    keep_freed_memory()
    pipeline = load_pipeline(find_card(model, [Path(folder), bundled_folder()]))
    engine = pipeline.engine
    tensor = np.zeros(engine.input.shape, engine.input.dtype)

    def bare(_path: str) -> int:
        return len(engine.run(tensor))

    def floor(path: str) -> int:
        decode_jpeg(Path(path).read_bytes(), colorspace="BGR")
        return len(engine.run(tensor))

    def whole(path: str) -> int:
        return annotated(path, None)

    def scaled(path: str) -> int:
        return annotated(path, max(pipeline.card.input_wh))

    def annotated(path: str, min_side: int | None) -> int:
        picture = read_picture(Path(path), min_side=min_side)
        frame = Frame(picture.image, "bench", 0, datetime.now(UTC), path, whole_wh=(picture.width, picture.height))
        return len(pipeline(frame).detections)

    kinds: dict[str, Callable[[str], int]] = {"bare": bare, "floor": floor, "edgeannot": whole, "scaled": scaled}
    serve(kinds[what], edgeannot=version("edgeannot"), runtime=engine.runtime, opencv=cv2.__version__, simplejpeg=version("simplejpeg"))


if __name__ == "__main__":
    main()
