"""MediaPipe's own metadata writer: `python -m benchmarks.peers.mediapipe_metadata MODEL.tflite LABELS.txt OUT`; weights unchanged."""

from __future__ import annotations

import sys
from pathlib import Path

from mediapipe.tasks.python.metadata.metadata_writers.metadata_writer import Labels
from mediapipe.tasks.python.metadata.metadata_writers.object_detector import MetadataWriter


def main() -> None:
    """Write a copy of the model that names its labels and how its input is scaled (a float one's: to -1..1)."""
    model, labels, out = map(Path, sys.argv[1:4])
    names = Labels().add(labels.read_text().splitlines())
    writer = MetadataWriter.create_for_models_with_nms(bytearray(model.read_bytes()), [127.5], [127.5], names)
    out.write_bytes(writer.populate()[0])


if __name__ == "__main__":
    main()
