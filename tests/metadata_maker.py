"""Writes TFLite Metadata: what `metadata_schema.fbs` and MediaPipe's `object_detector_metadata_schema.fbs` would generate."""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Tables", "detector_metadata", "tflite_metadata"]


class Tables:
    """Writes FlatBuffers tables by slot number."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(256)

    def table(self, fields: dict[int, tuple[str, object]]) -> int:
        """A table; kinds: text, ref (a table or vector made before), byte, int, float."""
        made = {slot: self.builder.CreateString(value) if kind == "text" else value for slot, (kind, value) in fields.items()}
        self.builder.StartObject(max(fields, default=0) + 1)
        for slot, (kind, _) in fields.items():
            if kind == "byte":
                self.builder.PrependInt8Slot(slot, made[slot], -1)
            elif kind == "int":
                self.builder.PrependInt32Slot(slot, made[slot], 0)
            elif kind == "float":
                self.builder.PrependFloat32Slot(slot, made[slot], 0.0)
            else:
                self.builder.PrependUOffsetTRelativeSlot(slot, made[slot], 0)
        return self.builder.EndObject()

    def vector(self, tables: list[int]) -> int:
        self.builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self.builder.PrependUOffsetTRelative(table)
        return self.builder.EndVector()

    def floats(self, numbers: list[float]) -> int:
        self.builder.StartVector(4, len(numbers), 4)
        for number in reversed(numbers):
            self.builder.PrependFloat32(number)
        return self.builder.EndVector()

    def blob(self, content: bytes) -> int:
        return self.builder.CreateByteVector(content)

    def finished(self, root: int, identifier: bytes = b"M001") -> bytes:
        self.builder.Finish(root, identifier)
        return bytes(self.builder.Output())


def tflite_metadata(
    custom: bytes | None = None,
    *,
    outputs: Sequence[str] = ("probability",),
    threshold: float | None = None,
    labels_are_values: bool = False,
) -> bytes:
    """A model's metadata: an image of -1..1, outputs by these names, the last one with labels in names.txt.

    custom: the content of DETECTOR_METADATA. threshold: the score of the last output below which nothing counts. labels_are_values: the
    last output holds class ids, not a column for each class.
    """
    kind = 3 if labels_are_values else 2
    t = Tables()
    options = t.table({0: ("ref", t.floats([127.0])), 1: ("ref", t.floats([128.0]))})
    unit = t.table({0: ("byte", 1), 1: ("ref", options)})
    image = t.table({0: ("byte", 1)})
    content = t.table({0: ("byte", 2), 1: ("ref", image)})
    given = t.table({0: ("text", "image"), 3: ("ref", content), 4: ("ref", t.vector([unit]))})
    translated = t.table({0: ("text", "noms.txt"), 2: ("byte", kind), 3: ("text", "fr")})
    labels = t.table({0: ("text", "names.txt"), 2: ("byte", kind)})
    units = []
    if threshold is not None:
        units.append(t.table({0: ("byte", 3), 1: ("ref", t.table({0: ("float", threshold)}))}))
    last = {0: ("text", outputs[-1]), 4: ("ref", t.vector(units)), 6: ("ref", t.vector([translated, labels]))}
    taken = [*(t.table({0: ("text", name)}) for name in outputs[:-1]), t.table(last)]
    fields = {2: ("ref", t.vector([given])), 3: ("ref", t.vector(taken))}
    if custom is not None:
        fields[9] = ("ref", t.vector([t.table({0: ("text", "DETECTOR_METADATA"), 1: ("ref", t.blob(custom))})]))
    graph = t.table(fields)
    return t.finished(t.table({0: ("text", "Sorter"), 1: ("text", "sorts"), 3: ("ref", t.vector([graph])), 5: ("text", "CC0")}))


def detector_metadata(
    anchors: ArrayLike,
    *,
    classes: int,
    numbers: int = 4,
    boxes: int | None = None,
    scales_xywh: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    exponential: bool = True,
    sigmoid: bool = False,
) -> bytes:
    """MediaPipe's notes for decoding raw outputs. anchors: (N, 4) centre x, centre y, width, height in shares of the input."""
    t = Tables()
    rows = np.asarray(anchors, np.float32).reshape(-1, 4)
    fixed = t.table({0: ("ref", t.vector([t.table({i: ("float", float(n)) for i, n in enumerate(row)}) for row in rows]))})
    stated = t.table({0: ("ref", fixed)})
    x, y, w, h = scales_xywh
    decoding = t.table(
        {
            0: ("int", classes),
            1: ("int", len(rows) if boxes is None else boxes),
            2: ("int", numbers),
            6: ("float", x),
            7: ("float", y),
            8: ("float", w),
            9: ("float", h),
            10: ("byte", int(exponential)),
            11: ("byte", int(sigmoid)),
        }
    )
    return t.finished(t.table({1: ("ref", stated), 2: ("ref", decoding)}), b"V001")
