"""The values that travel between the stages: frozen, complete from birth, numpy at most.

Conventions: pixels count from the top left corner, x to the right and y down; a box is `x1, y1, x2, y2` with the far edges
exclusive, in float32; sizes in tuples are width before height, array shapes height before width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.file_signature import FileSignature
from edgeannot.vision.news import News, SubLabel

__all__ = [
    "Annotation",
    "Detections",
    "Failure",
    "FileKey",
    "Fit",
    "FloatArray",
    "Frame",
    "IntArray",
    "ModelFacts",
    "Outputs",
    "Profile",
    "RawTensor",
    "Sender",
    "TensorRef",
    "TensorSpec",
    "UInt8Array",
]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]

TensorRef = str | int
"""How a card names a model's tensor: by its name in the file, or by its position (0-based) among the graph's inputs or outputs."""

Profile = Literal["low", "mid", "high"]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a picture that came as a message: the camera, where the device that annotates is only one of its workers."""

    device: str
    topic: str
    id: str | None = None
    """What the sender calls the picture."""
    dated: bool = True
    """Whether the sender said when the picture was taken; else that is when it arrived."""


@dataclass(frozen=True, slots=True)
class FileKey:
    """Which file a picture came from, and how that file was when it was read."""

    path: str
    """Relative to the source's folder, as `os.fsdecode` gives it."""
    signature: FileSignature
    folder: str = ""
    """The source's folder, absolute."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture as a source hands it over. `image` is (H, W, 3) uint8 BGR, upright (EXIF orientation applied)."""

    image: UInt8Array
    source: str
    """The name of the source in the settings, e.g. "porch"."""
    seq: int
    """Counts up by one for each frame of this source since the daemon started, from 0."""
    captured_at: datetime
    """UTC; a file's modification time, or when a camera's frame was read."""
    identity: str
    """What makes this picture the same picture after a restart: for a file its path in the source and its content hash."""
    path: Path | None = None
    """The file it came from, absolute; None for a camera."""
    decode_ms: float = 0.0
    name: str = ""
    """Where the picture lies in its source, as a POSIX path with extension ("2026/cat_dog.jpg"); a camera's frames have names
    made of date, time and seq ("2026-07-01/103105-000012.jpg"). Names of output files follow it. Empty: the sinks make one."""
    key: FileKey | None = None
    """What the ledger remembers it by; None for what is not remembered, such as a camera's frame."""
    content_hash: bytes = b""
    """BLAKE2b, 16 bytes, of the file's bytes; empty for a camera."""
    sender: Sender | None = None
    """Who sent it, where it came as a message; its identity is then the same for every worker. None: taken or found here."""
    whole_wh: tuple[int, int] | None = None
    """Width and height of the whole picture, where `image` was made smaller when it was decoded; None: `image` is the whole."""
    damage: str = ""
    """What is wrong with the picture, where only most of it could be read, one clause; empty for a sound one."""
    own_folder: bool = True
    """Whether names of output files begin with a folder of the source's name."""
    region: tuple[float, float, float, float] | None = None
    """The part that the model is to see: left, top, right, bottom as fractions of width and height; None: all."""
    min_score: float | None = None
    """Smallest score that is to be reported; None: the model's."""
    any_label: bool = False
    """Whether objects of labels are to be reported that nobody asked for, as tracking follows them."""
    position_s: float = 0.0
    """Where it is in a video file, in seconds from its beginning."""
    unchanged: bool = False
    """Whether it shows what an earlier one showed, so that it is finished without inference."""
    ticket: int = 0
    """Names it among the pictures that are being processed (`crash_guard.Ticket`)."""
    taken_at: float | None = None
    """When a live camera handed it over, by the monotonic clock in seconds; None for what is not live."""

    @property
    def seen(self) -> tuple[UInt8Array, tuple[int, int]]:
        """The part of `image` that the model is to see, one pixel at least, and where its left top corner is."""
        if self.region is None:
            return self.image, (0, 0)
        height, width = self.image.shape[:2]
        left, top = min(int(self.region[0] * width), width - 1), min(int(self.region[1] * height), height - 1)
        right, bottom = max(left + 1, round(self.region[2] * width)), max(top + 1, round(self.region[3] * height))
        return self.image[top:bottom, left:right], (left, top)

    @property
    def moment_s(self) -> float:
        """When the picture was taken, in seconds since 1970; in a video file the time goes on with its frames."""
        return self.captured_at.timestamp() + self.position_s

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the whole picture in pixels."""
        if self.whole_wh is not None:
            return self.whole_wh
        height, width = self.image.shape[:2]
        return int(width), int(height)


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that a source could not read, and what the source did with the file. No frame follows for it."""

    source: str
    name: str
    """Where the file lay in its source, like `Frame.name`."""
    reason: str
    """A short stable word for counting, as in `FrameError.reason`."""
    message: str
    """One sentence for the user."""
    path: Path
    """The file, absolute; no longer there when it was moved."""
    quarantined: Path | None = None
    """Where the file is now; None: it was left in place."""
    key: FileKey | None = None
    """As in `Frame.key`; None where it is to be tried again."""


@dataclass(frozen=True)
class Fit:
    """How a picture was placed on the model's input: cut, scaled per axis, then moved by a whole number of pixels.

    The inverse is exact up to float rounding: `fit.to_frame(fit.to_model(boxes)) == boxes`. The scale is the one that was
    really pasted (scaled width in whole pixels over frame width), not the ideal ratio.

    >>> fit = Fit(frame_wh=(200, 100), model_wh=(100, 100), scale_xy=(0.5, 0.5), pad_xy=(0, 25))
    >>> fit.to_model(np.array([[20, 20, 40, 60]], np.float32)).tolist()
    [[10.0, 35.0, 20.0, 55.0]]
    """

    frame_wh: tuple[int, int]
    model_wh: tuple[int, int]
    scale_xy: tuple[float, float]
    pad_xy: tuple[int, int]
    cut_xy: tuple[int, int] = (0, 0)
    """Frame pixels left out to the left and above, and as many to the right and below."""

    def to_model(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Return boxes (N, 4) in frame pixels as boxes in model pixels."""
        scale, pad, cut = self._factors
        return ((boxes_xyxy - cut) * scale + pad).astype(np.float32)

    def to_frame(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Return boxes (N, 4) in model pixels as boxes in frame pixels, not clipped."""
        scale, pad, cut = self._factors
        return ((boxes_xyxy - pad) / scale + cut).astype(np.float32)

    @functools.cached_property
    def _factors(self) -> tuple[NDArray[np.float64], ...]:
        return tuple(np.array(pair * 2, np.float64) for pair in (self.scale_xy, self.pad_xy, self.cut_xy))


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one picture, one row an object, best score first; N = 0 is ordinary.

    boxes: (N, 4) float32 xyxy in pixels of one named space (model or frame); for a classifier the whole picture.
    scores: (N,) float32 in 0..1. classes: (N,) int64 class ids as the model counts them. tracks: (N,) int64 or None.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    tracks: IntArray | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes.shape == (n, 4) and self.scores.shape == self.classes.shape == (n,) and self.tracks is None:
            return
        for name, shape in {"boxes": (n, 4), "scores": (n,), "classes": (n,), "tracks": (n,)}.items():
            found = getattr(self, name)
            if found is not None and found.shape != shape:
                raise ValueError(f"Detections.{name}: wanted shape {shape}, found {found.shape}")

    @classmethod
    def empty(cls) -> Detections:
        """No object."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: NDArray[Any] | slice) -> Detections:
        """Return the rows picked by a boolean mask, an index array or a slice."""
        tracks = None if self.tracks is None else self.tracks[rows]
        return Detections(self.boxes[rows], self.scores[rows], self.classes[rows], tracks)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What the runtime says of an input or output tensor. `scale` 0 means: not quantized, `real == stored`."""

    name: str
    index: int
    """Position among the graph's inputs or outputs, 0-based."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    @property
    def quantized(self) -> bool:
        """Whether stored numbers are steps of `scale` rather than the values themselves."""
        return self.scale != 0.0 and self.dtype.kind in "iu"

    @property
    def usable(self) -> bool:
        """Whether whatever is stored is a finite number below 1e12."""
        return self.quantized and self.dtype.itemsize <= 2 and abs(self.scale) < 1e6


@dataclass(frozen=True, slots=True)
class RawTensor:
    """An output as the runtime stored it, with the means to read real values: all of them, or a few after thresholding.

    `real = (stored - zero_point) * scale`, https://ai.google.dev/edge/litert/models/quantization_spec
    """

    values: NDArray[Any]
    spec: TensorSpec

    def real(self, rows: Any = None) -> FloatArray:
        """Return the real values as float32; `rows` is any numpy index into `values` (None: everything)."""
        stored = self.values if rows is None else self.values[rows]
        if not self.spec.quantized:
            return np.asarray(stored, np.float32)
        # The type is named: numpy before 2 would calculate with halves.
        real: FloatArray = np.subtract(stored, np.float32(self.spec.zero_point), dtype=np.float32)
        real *= np.float32(self.spec.scale)
        return real

    def stored_at_least(self, real: float) -> float:
        """Return the smallest stored number whose real value is >= `real`: compare `values >= tensor.stored_at_least(0.3)`.

        For a quantized tensor a whole number, at most one past the type's range, so that the comparison stays in the stored type
        (a float would make numpy convert the whole tensor first). `real` may be infinite.
        """
        if not self.spec.quantized:
            return real
        numbers = 1 << 8 * self.spec.dtype.itemsize
        least = -(numbers >> 1) if self.spec.dtype.kind == "i" else 0
        stored = real / self.spec.scale + self.spec.zero_point - 1e-6
        return math.ceil(min(max(stored, least), least + numbers))

    def reshape(self, *shape: int) -> RawTensor:
        """Return the same numbers in another shape."""
        return RawTensor(self.values.reshape(*shape), self.spec)


@dataclass(frozen=True, slots=True)
class Outputs:
    """A model's outputs in graph order, reached by position or by tensor name as the card does.

    Valid until the next run of the engine that gave them.
    """

    tensors: Sequence[RawTensor]

    def __getitem__(self, ref: TensorRef) -> RawTensor:
        if isinstance(ref, int):
            return self.tensors[ref]
        for tensor in self.tensors:
            if tensor.spec.name == ref:
                return tensor
        raise KeyError(ref)

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[RawTensor]:
        return iter(self.tensors)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The few facts of the model in use that travel with each result."""

    name: str
    sha256: str
    family: str
    profile: Profile


@dataclass(frozen=True, slots=True)
class Annotation:
    """The result for one picture: the frame's facts, what was found in frame pixels, and how long each stage took."""

    frame: Frame
    detections: Detections
    """Boxes in pixels of the whole frame (`Frame.size_wh`), clipped to it."""
    labels: tuple[str, ...]
    """One label a detection, in the same order."""
    model: ModelFacts
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    """decode, preprocess, inference, postprocess, total; of a live camera also age, which is in no sum."""
    news: News | None = None
    """What happened to tracked objects in this picture."""
    sub_labels: tuple[SubLabel | None, ...] = ()
    """What the second stage says, one a detection; empty: none of them has one."""

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """The labels as they are shown to people, with those of the second stage."""
        subs = self.sub_labels or (None,) * len(self.labels)
        return tuple(label if sub is None else f"{label}: {sub.label}" for label, sub in zip(self.labels, subs, strict=True))
