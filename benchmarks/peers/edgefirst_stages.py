"""EdgeFirst's HAL, one step alone: `python -m benchmarks.peers.edgefirst_stages decode|input|boxes float32|int8 SIZE OUTPUTS < paths`.

OUTPUTS is the end of the files with the network's output for each picture, beside the pictures. Its JPEG decoder gives luma and colour
apart, colour at half size (NV12); `convert` reads that, so RGB numbers come about in the second step. It works on the CPU here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import edgefirst_hal as hal
import numpy as np
from edgefirst.decoder import Decoder, Nms, Output, Tensor
from edgefirst.decoder import version as decoder_version

from benchmarks.peers.turns import serve

MIN_SCORE, IOU = 0.3, 0.45
GREY = [114, 114, 114, 255]


def main() -> None:
    """Do the step for the pictures whose paths come on stdin."""
    step, kind, size, end = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    images = hal.ImageProcessor()
    whole = images.create_image(4096, 4096, hal.PixelFormat.Nv12, access="readwrite")
    tensor = images.create_image(size, size, hal.PixelFormat.Rgb, dtype=kind, access="readwrite")
    decoders: list[Decoder] = []

    def read(path: str) -> bytes:
        return Path(path).read_bytes()

    def decoded(path: str) -> None:
        decode(read(path))

    def decode(data: bytes) -> int:
        whole.decode_image(data)
        return 0

    def convert(_: None) -> int:
        images.convert(whole, tensor, letterbox=GREY)
        return 0

    def output(path: str) -> Tensor:
        stored = np.load(path + end)
        values, (scale, zero_point) = stored["values"], stored["quantization"]
        if not decoders:
            told = Output.detection(shape=list(values.shape)).with_normalized(True)
            told = told.with_quantization(float(scale), int(zero_point)) if scale else told
            decoders.append(Decoder.new_from_outputs([told], score_threshold=MIN_SCORE, iou_threshold=IOU, nms=Nms.ClassAware))
        made = Tensor(list(values.shape), dtype=str(values.dtype))
        made.from_numpy(values)
        return made

    def boxes(values: Tensor) -> int:
        return len(decoders[0].decode([values])[0])

    steps: dict[str, tuple[Any, Any]] = {"decode": (read, decode), "input": (decoded, convert), "boxes": (output, boxes)}
    first, annotate = steps[step]
    serve(annotate, first=first, **{"edgefirst-hal": hal.version(), "edgefirst-decoder": decoder_version()})


if __name__ == "__main__":
    main()
