"""`edgeannot convert` for ONNX, through the onnx2tf command of this environment or of another one.

onnx2tf writes TFLite without TensorFlow since version 2.6, but pins numpy, onnx and LiteRT and needs Python 3.12, so it is called as a
program. It works on a copy: it simplifies its input file in place. https://github.com/PINTO0309/onnx2tf
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeannot.base.errors import ConfigError, InputError, MissingError, ModelError, install
from edgeannot.base.foreign import sha256_of
from edgeannot_tools.convert.files import REASON_LENGTH, Converted, Request, last_line, with_card
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.output import waiting

__all__ = ["OnnxFacts", "OnnxInput", "convert_onnx", "find_onnx2tf", "read_onnx"]

OLDEST = (2, 6)
PYTHON = (3, 12)
INSTALL = (
    "make an environment for it (`python3.12 -m venv onnx-env && onnx-env/bin/pip install 'onnx2tf>=2.6'`, about 660 MB) "
    "and put onnx-env/bin at the end of the PATH, or give `edgeannot convert` --onnx2tf onnx-env/bin/onnx2tf"
)
IMAGE_RANK = 4
COLOURS = (1, 3)
ERROR_LINE = re.compile(r"(?:[\w.]+\.)?\w*(?:Error|Exception)\b: \S|ERROR\b")
"""How Python ends a traceback, and how onnx2tf begins its own complaints."""
CHAINED = re.compile(r"During handling of the above exception|was the direct cause of the following exception")


def convert_onnx(sources: Sequence[Path], request: Request) -> Converted:
    """Return the network of an .onnx file, channels last, its card read off the graph.

    Raises MissingError or InputError for the file, ConfigError where onnx2tf has to be installed, ModelError for what it cannot convert.
    """
    (path,) = sources
    facts = read_onnx(path)
    picture = _picture(facts, path, request)
    command = find_onnx2tf(request.onnx2tf)
    version = _version(command)
    with tempfile.TemporaryDirectory(prefix="edgeannot-onnx-") as folder:
        copy = _copy(path, facts, Path(folder))
        out = Path(folder) / "out"
        with waiting(f"onnx2tf converts {path.name}"):
            done = _call(command, "-i", copy, "-o", out, *_shape_options(picture, request))
        if done.returncode != 0:
            raise ModelError(f"onnx2tf cannot convert {path}: {_reason(done.stdout + done.stderr)}")
        written = sorted(out.glob("*_float32.tflite"))
        if not written:
            raise ModelError(f"onnx2tf {version} wrote no float32 model for {path}; run it by hand to see why: {command} -i COPY -o FOLDER")
        graph = Graph.from_bytes(written[0].read_bytes(), str(path))
    converted = with_card(graph, path, request, names=facts.class_names())
    if converted.card is not None:
        provenance = {**converted.card.get("provenance", {}), "source_sha256": sha256_of(path)}
        provenance["license"] = provenance.get("license") or facts.metadata.get("license", "")
        converted = replace(converted, card={**converted.card, "provenance": provenance})
    return converted.noting(f"converted by onnx2tf {version}")


def find_onnx2tf(given: Path | None) -> Path:
    """Return the onnx2tf command: as given, else beside this Python, else on the PATH. Raises ConfigError that says what to install."""
    if given is not None:
        found = shutil.which(str(given.expanduser()))
        if found is None:
            raise ConfigError(f"--onnx2tf: {given} is no program that can be run; give the path of an onnx2tf command, or {INSTALL}")
        return Path(found)
    beside = Path(sys.executable).parent / "onnx2tf"
    if beside.is_file():
        return beside
    if on_path := shutil.which("onnx2tf"):
        return Path(on_path)
    here = sys.version_info[:3]
    if here[:2] >= PYTHON:
        raise ConfigError(f"converting ONNX needs onnx2tf 2.6 or later: {install('tools,onnx')}, or {INSTALL}")
    running = ".".join(map(str, here))
    raise ConfigError(f"converting ONNX needs onnx2tf 2.6 or later, which needs Python 3.12 or later (this is {running}): {INSTALL}")


def _version(command: Path) -> str:
    """Return the version of the command. Raises ConfigError where it is too old (Python 3.11 gets one that needs all of TensorFlow)."""
    done = _call(command, "-V")
    match = re.search(r"(\d+)\.(\d+)\.\S+", done.stdout)
    if match is None:
        raise ConfigError(f"onnx2tf at {command} does not state its version ({last_line(done.stderr + done.stdout)}); {INSTALL}")
    if (int(match[1]), int(match[2])) < OLDEST:
        raise ConfigError(f"onnx2tf at {command} is version {match[0]}, wanted 2.6 or later (needs Python 3.12 or later); {INSTALL}")
    return match[0]


def _picture(facts: OnnxFacts, path: Path, request: Request) -> OnnxInput:
    """Return the input, a picture, with a size that is known. Raises InputError before anything long is started."""
    if len(facts.inputs) != 1:
        found = ", ".join(f"{i.name} {_shape(i)}" for i in facts.inputs)
        raise InputError(f"{path}: wanted one input, a picture; found {len(facts.inputs)}: {found}")
    picture = facts.inputs[0]
    if len(picture.shape) != IMAGE_RANK:
        raise InputError(f"{path}: wanted an input of 4 dimensions, a picture; found {picture.name} {_shape(picture)}")
    height, width = _sides(picture)
    if request.size_wh is None and (height is None or width is None):
        raise InputError(f"{path}: the size of the input {picture.name} {_shape(picture)} is not fixed; choose one with --size N or WxH")
    if request.size_wh is not None and any(have not in (None, want) for have, want in zip((width, height), request.size_wh, strict=True)):
        raise InputError(f"--size: {path} is fixed to an input of {width}x{height}; export it with the size you want, or a dynamic one")
    if picture.shape[0] not in (None, 1):
        raise InputError(f"{path}: wanted a batch of 1, found {picture.name} {_shape(picture)}; export it with batch 1")
    return picture


def _channels_last(picture: OnnxInput) -> bool:
    return picture.shape[3] in COLOURS and picture.shape[1] not in COLOURS


def _sides(picture: OnnxInput) -> tuple[int | None, int | None]:
    """Return height and width."""
    return (picture.shape[1], picture.shape[2]) if _channels_last(picture) else (picture.shape[2], picture.shape[3])


def _shape_options(picture: OnnxInput, request: Request) -> list[str]:
    """onnx2tf's options for sizes that are not fixed, and for inputs that have the channels last already."""
    options = ["-kat", picture.name] if _channels_last(picture) else []
    if None not in picture.shape:
        return options
    height, width = _sides(picture)
    if request.size_wh is not None:
        width, height = request.size_wh
    if _channels_last(picture):
        sizes = [1, height, width, picture.shape[3] or COLOURS[-1]]
    else:
        sizes = [1, picture.shape[1] or COLOURS[-1], height, width]
    return [*options, "-ois", f"{picture.name}:{','.join(map(str, sizes))}"]


def _shape(picture: OnnxInput) -> str:
    return f"({', '.join('?' if n is None else str(n) for n in picture.shape)})"


def _copy(path: Path, facts: OnnxFacts, folder: Path) -> Path:
    """Return a copy of the model and of the weights beside it, for onnx2tf to change. Raises MissingError or InputError."""
    copy = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', path.stem) or 'model'}.onnx"
    try:
        shutil.copyfile(path, copy)
        for name in sorted(facts.data_files):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise InputError(f"{path} wants weights from {name}, outside its own folder; put them beside it and export again")
            if not (path.parent / name).is_file():
                raise MissingError(f"{path} has its weights in {name}, which is not beside it; fetch that file too")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path.parent / name, folder / name)
    except OSError as exc:
        raise InputError(f"{path} cannot be copied to {folder} ({exc.strerror}); make room there") from exc
    return copy


def _call(command: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run onnx2tf to its end; it dies with this process. Raises ConfigError where it cannot be started."""
    # With the command's own folder in front: onnx2tf starts `onnxsim`, without which shapes stay unknown.
    environment = os.environ | {"PATH": f"{command.absolute().parent}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONPATH": ""}
    try:
        return subprocess.run([command, *words], capture_output=True, text=True, errors="replace", env=environment, check=False)
    except OSError as exc:
        raise ConfigError(f"onnx2tf at {command} cannot be started ({exc.strerror}); {INSTALL}") from exc


def _reason(output: str) -> str:
    """Return what the output says of the failure, without colours: the first error of the last chain of errors, else the last line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in re.split(r"[\r\n]+", output)]
    root = ""
    chained = False
    for line in lines:
        if CHAINED.search(line):
            chained = True
        elif ERROR_LINE.match(line):
            root, chained = (root if chained and root else line), False
    return root[:REASON_LENGTH].rstrip(".") or last_line("\n".join(lines))


VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""
MODEL_PRODUCER, MODEL_GRAPH, MODEL_METADATA = 2, 7, 14
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT = 1, 5, 11
TENSOR_NAME, TENSOR_EXTERNAL, NODE_TYPE, VALUE_NAME, VALUE_TYPE = 8, 13, 4, 1, 2
MAX_SHIFT = 63


@dataclass(frozen=True, slots=True)
class OnnxInput:
    """An input that is no constant; a size that is not fixed is None."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """What was read."""

    producer: str
    inputs: tuple[OnnxInput, ...]
    operators: frozenset[str]
    metadata: Mapping[str, str]
    data_files: frozenset[str] = frozenset()
    """Files beside the model that hold weights, as paths relative to it."""

    def class_names(self) -> tuple[str, ...]:
        """Return the names that Ultralytics' exporter leaves, `{0: 'person', ...}`; empty where there are none."""
        try:
            found = ast.literal_eval(self.metadata.get("names", ""))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return ()
        if isinstance(found, dict) and sorted(found) == list(range(len(found))):
            return tuple(str(found[i]) for i in range(len(found)))
        return tuple(map(str, found)) if isinstance(found, list | tuple) else ()


def read_onnx(path: Path) -> OnnxFacts:
    """Return the facts of a file. Raises MissingError, or InputError for what is no ONNX model or a truncated one."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise MissingError(f"{path} cannot be read: {exc.strerror}") from exc
    try:
        facts = _model(memoryview(data))
    except (ValueError, IndexError, UnicodeDecodeError, TypeError) as exc:
        raise InputError(f"{path} is not an ONNX model, or a truncated one; export or fetch it again") from exc
    if not facts.operators or not facts.inputs:
        missing = "operators" if not facts.operators else "inputs"
        raise InputError(f"{path} is not an ONNX model that can run: it holds no {missing}")
    return facts


def _model(data: memoryview) -> OnnxFacts:
    producer, metadata = "", {}
    inputs: list[OnnxInput] = []
    constants: set[str] = set()
    operators: set[str] = set()
    data_files: set[str] = set()
    for number, value in _fields(data):
        if number == MODEL_PRODUCER:
            producer = _text(value)
        elif number == MODEL_METADATA:
            key, text = _pair(value)
            metadata[key] = text
        elif number == MODEL_GRAPH:
            for inner, part in _fields(_message(value)):
                if inner == GRAPH_NODE:
                    operators.add(_text(dict(_fields(_message(part))).get(NODE_TYPE, b"")))
                elif inner == GRAPH_INITIALIZER:
                    tensor = list(_fields(_message(part)))
                    constants.add(_text(dict(tensor).get(TENSOR_NAME, b"")))
                    pairs = dict(_pair(entry) for field, entry in tensor if field == TENSOR_EXTERNAL)
                    data_files |= {pairs["location"]} if "location" in pairs else set()
                elif inner == GRAPH_INPUT:
                    inputs.append(_input(_message(part)))
    # Files from before 2019 list their weights among the inputs.
    return OnnxFacts(producer, tuple(i for i in inputs if i.name not in constants), frozenset(operators), metadata, frozenset(data_files))


def _pair(value: int | memoryview) -> tuple[str, str]:
    """StringStringEntryProto: a key and a value."""
    fields = dict(_fields(_message(value)))
    return _text(fields.get(1, b"")), _text(fields.get(2, b""))


def _input(data: memoryview) -> OnnxInput:
    """ValueInfoProto -> TypeProto.tensor_type -> shape -> dim -> value (1) or the name of a size that is not fixed (2)."""
    fields = dict(_fields(data))
    shape: list[int | None] = []
    tensor = dict(_fields(_message(fields[VALUE_TYPE]))).get(1) if VALUE_TYPE in fields else None
    if tensor is not None:
        for number, value in _fields(_message(tensor)):
            if number == 2:
                shape = [_dimension(_message(dim)) for _, dim in _fields(_message(value))]
    return OnnxInput(_text(fields.get(VALUE_NAME, b"")), tuple(shape))


def _dimension(data: memoryview) -> int | None:
    size = dict(_fields(data)).get(1)
    return size if isinstance(size, int) and size > 0 else None


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Return (field number, value) of a message, in order. Raises ValueError or IndexError where it ends in the middle."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire = key & 7
        if wire == VARINT:
            number, position = _varint(data, position)
            yield key >> 3, number
            continue
        if wire == BYTES:
            length, position = _varint(data, position)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > len(data) or not key >> 3:
            raise ValueError("the message is truncated")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > MAX_SHIFT:
            raise ValueError("a number is too long")


def _message(value: int | memoryview | bytes) -> memoryview:
    if isinstance(value, int):
        raise TypeError("wanted a message, found a number")
    return memoryview(value)


def _text(value: int | memoryview | bytes) -> str:
    return bytes(_message(value)).decode("utf-8")
