"""What a .tflite file carries about itself: a zip of files appended to it, TFLite Metadata, and what Ultralytics' exporter writes.

* Associated files: https://ai.google.dev/edge/litert/models/metadata (a zip archive after the model; zip readers find it from the end)
* TFLite Metadata: a FlatBuffer in the metadata entry `TFLITE_METADATA`, schema `metadata_schema.fbs` of
  https://github.com/tensorflow/tflite-support (identifier M001); inside it MediaPipe's notes about a detector (`detector_metadata`)
* Ultralytics: `metadata.json`, or `temp_meta.txt` / `meta.txt` holding a Python dict, with names, imgsz, stride, task
"""

from __future__ import annotations

import ast
import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any, Literal

from edgeannot.base.foreign import as_int, class_name, one_line, parse_json, printable
from edgeannot.tflite.detector_metadata import DETECTOR_METADATA, DetectorMetadata, parse_detector_metadata
from edgeannot.tflite.flatbuffer import Broken, Table, root
from edgeannot.tflite.schema import TFLiteModel

__all__ = ["Exporter", "ModelMetadata", "TensorMetadata", "read_metadata"]

MAX_FILE_BYTES = 2 << 20
"""Appended label files are a few kilobytes, that of ImageNet-21k 1 MB; of what is larger nothing is read."""
MAX_BYTES = 4 << 20
"""Of all appended files together: packed as zeros they are a thousandth of that."""
MAX_FILES = 64
MAX_DIRECTORY_BYTES = 1 << 20
MAX_DICT_BYTES = 256 << 10
"""Reading a text as Python takes 200 times its length."""
MAX_NUMBER = 1 << 16
LABEL_TYPES = {2, 3}
"""enum AssociatedFileType: labels of an output's columns, or of the numbers in it."""


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """What TFLite Metadata says of one input or output."""

    name: str
    """As MediaPipe names roles: image; location, category, score, number of detections."""
    color: Literal["", "RGB", "GRAY"]
    mean: tuple[float, ...]
    """With `std`: `real = (byte - mean) / std`; empty where not stated."""
    std: tuple[float, ...]
    labels: tuple[str, ...]
    """Names of label files that belong to the tensor, those for all languages first."""
    threshold: float | None = None
    """The score below which the model's maker counts nothing, above 0 and below 1; None where not stated."""
    calibrated: bool = False
    """Whether scores are meant to go through a calibration."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """What Ultralytics' exporter says; fields are None or empty where it does not."""

    file: str
    description: str
    task: str
    names: tuple[str, ...]
    input_wh: tuple[int, int] | None
    end_to_end: bool | None
    keypoints: tuple[int, ...]
    """Number of keypoints and numbers a keypoint, for a pose model."""
    arguments: dict[str, Any]
    """The export's own options (int8, nms, ...)."""
    license: str


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """All of it. Empty where the file carries nothing."""

    name: str = ""
    description: str = ""
    license: str = ""
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    """The appended files by name."""
    exporter: Exporter | None = None
    detector: DetectorMetadata | None = None
    notes: tuple[str, ...] = ()
    """What could not be read, for people."""

    def label_file(self) -> tuple[str, tuple[str, ...]] | None:
        """Return the appended file with the classes' names and its lines: the one the metadata names, else the only text file there is."""
        plain = [name for name in self.files if not _python_dict(self.files[name])]
        named = [name for tensor in self.outputs for name in tensor.labels if name in plain]
        texts = [name for name in plain if name.lower().endswith((".txt", ".names", ".labels"))]
        chosen = named[0] if named else texts[0] if len(texts) == 1 else None
        return None if chosen is None else (chosen, _lines(self.files[chosen]))


def read_metadata(model: TFLiteModel) -> ModelMetadata:
    """Return what the file says of itself; broken metadata is left out and named in `notes`, since a model runs without it."""
    files, notes = _appended_files(model.raw)
    exporter = None
    for name, content in files.items():
        table = _json(content) if name.endswith(".json") else _python_dict(content) if name.endswith(".txt") else None
        if table and isinstance(table.get("names"), dict | list):
            exporter = _exporter(name, table)
    blob = model.metadata.get("TFLITE_METADATA", b"")
    try:
        top = root(blob) if blob else None
        graphs = top.tables(3) if top else ()
        detector, more = _detector(graphs[0]) if graphs else (None, ())
        outputs = tuple(_tensor(t) for t in graphs[0].tables(3)) if graphs else ()
        if any(tensor.calibrated for tensor in outputs):
            more = (*more, "the score calibration that its metadata names is not applied")
        # table ModelMetadata: name, description, version, subgraph_metadata, author, license
        # table SubGraphMetadata: .., input_tensor_metadata 2, output_tensor_metadata 3, .., custom_metadata 9
        return ModelMetadata(
            name=top.text(0) if top else "",
            description=top.text(1) if top else "",
            license=top.text(5) if top else "",
            inputs=tuple(_tensor(t) for t in graphs[0].tables(2)) if graphs else (),
            outputs=outputs,
            files=files,
            exporter=exporter,
            detector=detector,
            notes=(*notes, *more),
        )
    except Broken as exc:
        return ModelMetadata(files=files, exporter=exporter, notes=(*notes, f"its TFLite metadata is damaged and left out ({exc})"))


def _detector(graph: Table) -> tuple[DetectorMetadata | None, tuple[str, ...]]:
    """Return MediaPipe's notes about a detector, and what is wrong with them where they cannot be used."""
    for entry in graph.tables(9):  # table CustomMetadata: name, data
        if entry.text(0) == DETECTOR_METADATA:
            try:
                return parse_detector_metadata(entry.blob(1)), ()
            except Broken as exc:
                return None, (f"its {DETECTOR_METADATA} is damaged and left out ({exc})",)
    return None, ()


def _appended_files(raw: bytes) -> tuple[dict[str, bytes], tuple[str, ...]]:
    files: dict[str, bytes] = {}
    end = raw.rfind(b"PK\x05\x06", max(0, len(raw) - (1 << 16) - 22))  # end of central directory, at most 64 KiB of comment behind it
    if end < 0:
        return files, ()
    try:
        if struct.unpack_from("<I", raw, end + 12)[0] > MAX_DIRECTORY_BYTES:
            return files, ("the files appended to it are too many, and left out",)
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            notes = [note for info in archive.infolist()[:MAX_FILES] if (note := _take(archive, info, files))]
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, RuntimeError, NotImplementedError, EOFError, ValueError) as exc:
        return files, (f"the files appended to it cannot be read ({printable(exc)})",)
    return files, tuple(notes)


def _take(archive: zipfile.ZipFile, info: zipfile.ZipInfo, files: dict[str, bytes]) -> str:
    """Put a file's content into `files`; why it was left out, empty where it was not."""
    if info.filename[-1:] in ("", "/"):  # `is_dir` fails for an empty name
        return ""
    name = printable(info.filename)
    # The others are unpacked whole before zipfile looks at how much was wanted.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"the appended file {name} is packed in a way that is not read"
    left = min(MAX_FILE_BYTES, MAX_BYTES - sum(map(len, files.values())))
    if info.file_size > left:
        return f"the appended file {name} is too large, and left out"
    with archive.open(info) as file:
        files[name] = file.read(info.file_size)  # `archive.read` unpacks all there is, whatever size was claimed
    return ""


def _tensor(table: Table) -> TensorMetadata:
    # table TensorMetadata: name, description, dimension_names, content, process_units, stats, associated_files
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    threshold, calibrated = None, False
    # table ProcessUnit: options_type, options; union members: 1 NormalizationOptions: mean, std; 2 ScoreCalibrationOptions;
    # 3 ScoreThresholdingOptions: global_score_threshold
    for unit in table.tables(4):
        options, kind = unit.table(1), unit.number(0, "B")
        if options and kind == 1:
            mean, std = options.reals(0), options.reals(1)
        if options and kind == 3 and 0 < options.real(0) < 1:
            threshold = options.real(0)
        calibrated = calibrated or kind == 2
    content = table.table(3)  # table Content: content_properties_type, content_properties, range; union member 2 is ImageProperties
    image = content.table(1) if content and content.number(0, "B") == 2 else None  # table ImageProperties: color_space, default_size
    colors: dict[int, Literal["RGB", "GRAY"]] = {1: "RGB", 2: "GRAY"}
    # table AssociatedFile: name, description, type, locale
    files = sorted((entry for entry in table.tables(6) if entry.number(2, "b") in LABEL_TYPES), key=lambda entry: entry.text(3) != "")
    return TensorMetadata(
        name=one_line(table.text(0)),
        color=colors.get(image.number(0, "b"), "") if image else "",
        mean=mean,
        std=std,
        labels=tuple(entry.text(0) for entry in files),
        threshold=threshold,
        calibrated=calibrated,
    )


def _lines(content: bytes) -> tuple[str, ...]:
    """Return label lines, without the empty ones at the end."""
    return tuple(class_name(line.strip()) for line in content.decode("utf-8-sig", "replace").rstrip().splitlines())


def _json(content: bytes) -> dict[str, Any] | None:
    table = parse_json(content, "", error=None)
    return table if isinstance(table, dict) else None


def _python_dict(content: bytes) -> dict[str, Any] | None:
    """Return the dict that older exporters wrote with `str()`; literals only, nothing is run."""
    text = content.decode("utf-8", "replace").strip()
    if not text.startswith("{") or len(text) > MAX_DICT_BYTES:
        return None
    try:
        table = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # TypeError: a dict as a key
        return None
    return table if isinstance(table, dict) else None


def _exporter(file: str, table: dict[str, Any]) -> Exporter:
    size = _integers(table.get("imgsz"))
    end_to_end = table.get("end2end")
    arguments = table.get("args")
    return Exporter(
        file=file,
        description=printable(table.get("description", "")),
        task=printable(table.get("task", "")),
        names=_names(table["names"]),
        input_wh=(size[1], size[0]) if len(size) == 2 else (size[0], size[0]) if len(size) == 1 else None,
        end_to_end=end_to_end if isinstance(end_to_end, bool) else None,
        keypoints=_integers(table.get("kpt_shape")),
        arguments=arguments if isinstance(arguments, dict) else {},
        license=printable(table.get("license", "")),
    )


def _names(names: Any) -> tuple[str, ...]:
    """Return class names in order, from a list or from a dict of ids (JSON makes the ids strings)."""
    if isinstance(names, list):
        return tuple(map(class_name, names))
    by_id = {as_int(key): class_name(name) for key, name in names.items()}
    ids = [number for number in by_id if number is not None and 0 <= number < MAX_NUMBER]
    return tuple(by_id.get(i, str(i)) for i in range(max(ids, default=-1) + 1)) if len(ids) == len(names) else ()


def _integers(value: Any) -> tuple[int, ...]:
    """Return positive whole numbers from a number, a list, or their text; none where one of them is something else."""
    values = re.findall(r"[^][(),\s]+", value[:100]) if isinstance(value, str) else value if isinstance(value, list | tuple) else (value,)
    numbers = [as_int(part) for part in values]
    return tuple(n for n in numbers if n) if all(n is not None and 0 < n < MAX_NUMBER for n in numbers) else ()
