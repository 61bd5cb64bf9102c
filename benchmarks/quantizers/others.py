"""Two other quantizers behind one call each, for comparison: LiteRT's own, hidden in ai-edge-litert, and the package litert-quantizer.

Both run in a process of their own with a deadline: the first is a private module that ends the process on models it does not know,
the second pins the version of its runtime and so lives in an environment of its own. Run as a script, this file is that process and
needs only what it calls.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["QuantizerError", "litert_own", "litert_quantizer"]

DEADLINE_S = 300


class QuantizerError(Exception):
    """The other quantizer refused the model, died or took too long."""


def litert_own(model: bytes, samples: Iterable[Sequence[Any]], *, input_type: str = "uint8", output_type: str = "int8") -> bytes:
    """The model as the quantizer inside ai-edge-litert makes it. Raises QuantizerError."""
    return _in_process(sys.executable, "litert-own", model, samples, input_type, output_type)


def litert_quantizer(python: str, model: bytes, samples: Iterable[Sequence[Any]]) -> bytes:
    """The model as litert-quantizer makes it, with int8 input and output; `python` is that of its environment. Raises QuantizerError."""
    return _in_process(python, "litert-quantizer", model, samples, "int8", "int8")


def _in_process(python: str, which: str, model: bytes, samples: Iterable[Sequence[Any]], input_type: str, output_type: str) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(model)
        for number, sample in enumerate(samples):
            np.save(folder / f"{number:04}.npy", sample[0])
        command = [python, __file__, which, name, input_type, output_type]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        except subprocess.TimeoutExpired as exc:
            raise QuantizerError(f"took more than {DEADLINE_S} s") from exc
        if done.returncode:
            raise QuantizerError(_last_line(done.stderr) or f"ended with code {done.returncode}")
        return (folder / "out.tflite").read_bytes()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _run_litert_own(folder: Path, input_type: str, output_type: str) -> bytes:
    from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper as wrapper  # noqa: PLC0415 - only this process has it

    model = (folder / "model.tflite").read_bytes()  # named, because the wrapper reads these bytes later and does not own them
    calibration = wrapper.CalibrationWrapper(model, [], [])
    for number, path in enumerate(sorted(folder.glob("*.npy"))):
        sample = np.load(path)
        if number == 0:
            calibration.Prepare([list(sample.shape)])
        calibration.FeedTensor([sample])
    types = [np.dtype(kind).num for kind in (input_type, output_type)]
    allow_float, per_tensor, per_tensor_dense = True, False, False
    int8, int32 = np.dtype(np.int8).num, np.dtype(np.int32).num
    result: bytes = calibration.QuantizeModel(*types, allow_float, int8, int32, per_tensor, per_tensor_dense)
    return result


def _run_litert_quantizer(folder: Path) -> bytes:
    from litert_quantizer import quantizer, recipe  # noqa: PLC0415 - only its own environment has it
    from litert_quantizer.utils import tfl_interpreter_utils  # noqa: PLC0415

    path = str(folder / "model.tflite")
    interpreter = tfl_interpreter_utils.create_tfl_interpreter(path)
    runner = interpreter.get_signature_runner("serving_default")
    (name,) = runner.get_input_details()
    maker = quantizer.Quantizer(path)
    maker.load_quantization_recipe(recipe.static_wi8_ai8())
    data = {"serving_default": [{name: np.load(sample)} for sample in sorted(folder.glob("*.npy"))]}
    maker.quantize(maker.calibrate(data)).export_model(str(folder / "made.tflite"), overwrite=True)
    return (folder / "made.tflite").read_bytes()


def main() -> None:
    """The process: quantizes model.tflite of a folder with its samples into out.tflite."""
    which, name, input_type, output_type = sys.argv[1:]
    folder = Path(name)
    made = _run_litert_own(folder, input_type, output_type) if which == "litert-own" else _run_litert_quantizer(folder)
    (folder / "out.tflite").write_bytes(made)


if __name__ == "__main__":
    main()
