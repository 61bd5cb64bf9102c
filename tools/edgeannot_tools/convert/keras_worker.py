"""Run as a program by the Python that has TensorFlow: writes a Keras model or a SavedModel as float TFLite.

    python keras_worker.py SOURCE OUT.tflite REPORT.json [WIDTH HEIGHT]

It stands alone, so that TensorFlow may live in another environment, and its memory goes when it ends. REPORT.json says what went
wrong, as `{"kind": ..., "error": ...}`, or `{"version": ...}`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> int:
    """Converts, and writes the report; 0 when the model was written."""
    source, out, report = (Path(word) for word in arguments[:3])
    size_wh = (int(arguments[3]), int(arguments[4])) if len(arguments) > 4 else None
    try:
        found = _convert(source, out, size_wh)
    except ProblemError as exc:
        found = {"kind": exc.kind, "error": str(exc)}
    except Exception as exc:  # noqa: BLE001 - TensorFlow raises everything there is; the caller has to say it in one sentence
        found = {"kind": "convert", "error": f"{type(exc).__name__}: {exc}"}
    report.write_text(json.dumps(found), encoding="utf-8")
    return 0 if "version" in found else 1


class ProblemError(Exception):
    """Something that the user has to know; `kind` is install, read, shape or convert."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _convert(source: Path, out: Path, size_wh: tuple[int, int] | None) -> dict[str, str]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        tf: Any = importlib.import_module("tensorflow")
    except ImportError as exc:
        raise ProblemError("install", str(exc)) from exc
    # What is traced belongs to the model; it must live until the converter is done. The converter is not told of it: it would
    # keep the weights as variables then, which nothing sets in a TFLite file.
    function, _owner = _saved_model(tf, source, size_wh) if source.is_dir() else _keras_model(tf, source, size_wh)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    try:
        data = converter.convert()
    except Exception as exc:
        raise ProblemError("convert", str(exc)) from exc
    out.write_bytes(data)
    return {"version": str(tf.__version__)}


def _keras_model(tf: Any, source: Path, size_wh: tuple[int, int] | None) -> tuple[Any, Any]:
    try:
        model = tf.keras.models.load_model(source, compile=False)
    except Exception as exc:
        raise ProblemError("read", str(exc)) from exc
    inputs = model.inputs
    if len(inputs) != 1:
        raise ProblemError("shape", f"wanted one input, a picture; found {len(inputs)}")
    spec = tf.TensorSpec(_shape(list(inputs[0].shape), size_wh), inputs[0].dtype, name="images")
    return tf.function(lambda images: model(images, training=False)).get_concrete_function(spec), model


def _saved_model(tf: Any, source: Path, size_wh: tuple[int, int] | None) -> tuple[Any, Any]:
    try:
        model = tf.saved_model.load(str(source))
    except Exception as exc:
        raise ProblemError("read", str(exc)) from exc
    function = model.signatures.get("serving_default") or next(iter(model.signatures.values()), None)
    if function is None:
        raise ProblemError("read", "it has no signature; save it with one (`model.export(folder)`)")
    specs = function.structured_input_signature[1]
    if len(specs) != 1:
        raise ProblemError("shape", f"wanted one input, a picture; found {len(specs)}: {', '.join(specs)}")
    ((name, spec),) = specs.items()
    fixed = tf.TensorSpec(_shape(list(spec.shape), size_wh), spec.dtype, name=name)
    # Traced again with every size known, so that no shape is computed at run time.
    return tf.function(lambda images: function(**{name: images})).get_concrete_function(fixed), model


def _shape(shape: list[int | None], size_wh: tuple[int, int] | None) -> list[int]:
    """Return (1, H, W, C) or (1, C, H, W) with every size known."""
    if len(shape) != 4:
        raise ProblemError("shape", f"wanted an input of 4 dimensions, a picture; found {shape}")
    height_axis = 2 if shape[1] in (1, 3) and shape[3] not in (1, 3) else 1
    if size_wh is not None:
        for axis, length in ((height_axis, size_wh[1]), (height_axis + 1, size_wh[0])):
            if shape[axis] not in (None, length):
                raise ProblemError("shape", f"the input is fixed to {shape}; build the model for another size")
            shape[axis] = length
    if shape[height_axis] is None or shape[height_axis + 1] is None:
        raise ProblemError("shape", f"the size of the input {shape} is not fixed; choose one with --size N or WxH")
    channels = 1 if height_axis == 2 else 3
    shape[0] = 1
    shape[channels] = shape[channels] or 3
    return [int(n or 1) for n in shape]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
