"""The one door to the TFLite runtime: load a model, feed its input tensor, run it, read its outputs as they are stored.

Two runtimes serve: `litert` (the ai-edge-litert package, default where it has wheels) and `tflite-runtime` (its predecessor,
for 32-bit Arm and on request). Both are the same interpreter at different ages and behave alike but for speed: on x86 only
LiteRT runs int8 through XNNPACK.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ConfigError, ModelError
from edgeannot.base.runtimes import RUNTIMES, Runtime, RuntimeName, installed_runtimes
from edgeannot.vision.data import Outputs, RawTensor, TensorSpec

__all__ = ["RUNTIMES", "Engine", "Runtime", "RuntimeName", "checked_runtime", "installed_runtimes", "load_runtime"]


def checked_runtime(runtime: Runtime = "auto") -> RuntimeName:
    """Return a runtime by its own name. It is not imported, which may end the process where it was built for another processor.

    Raises ConfigError, saying what to install, when it is not here or does not go with numpy or this Python.
    """
    installed = installed_runtimes()
    if runtime == "auto":
        if not installed:
            raise ConfigError(
                "no TFLite runtime is installed: install `ai-edge-litert` (64-bit x86 or Arm) or `tflite-runtime` (32-bit Arm)"
            )
        runtime = installed[0]
    if runtime not in installed:
        raise ConfigError(
            f"the runtime {runtime!r} is not installed: install `{RUNTIMES[runtime][1]}`, "
            f"or choose one of: {', '.join(installed) or 'none'}"
        )
    if runtime == "tflite-runtime":
        _check_tflite_runtime()
    return runtime


def load_runtime(runtime: Runtime = "auto") -> tuple[RuntimeName, ModuleType]:
    """Return the interpreter module of a runtime and its name. Raises ConfigError, saying what to install, when it cannot be used."""
    runtime = checked_runtime(runtime)
    package, distribution = RUNTIMES[runtime]
    try:
        with _quiet_stderr():
            return runtime, importlib.import_module(f"{package}.interpreter")
    except ImportError as exc:
        raise ConfigError(
            f"the runtime {runtime!r} is installed but cannot be loaded here ({exc}); reinstall `{distribution}` for this Python"
        ) from exc


def _check_tflite_runtime() -> None:
    # tflite-runtime 2.14 imports under numpy 2 and fails only when an interpreter is made, with a SystemError that names neither.
    numpy_version = np.__version__
    if int(numpy_version.split(".")[0]) >= 2:
        raise ConfigError(
            f"tflite-runtime needs numpy < 2, found numpy {numpy_version}: install `numpy<2`, "
            "or choose the runtime `litert` (package ai-edge-litert)"
        )
    if sys.version_info >= (3, 12):
        found = ".".join(map(str, sys.version_info[:2]))
        raise ConfigError(
            f"tflite-runtime needs Python 3.11 or older, found {found}: use Python 3.11, or the runtime `litert` (package ai-edge-litert)"
        )


class Engine:
    """A model, loaded and ready. Not for use by two threads at once.

    model: path of a .tflite file (mapped, not read), or its bytes. threads: for one run. name: what errors call it, by default its path.
    Raises ModelError when the runtime refuses the model, ConfigError when the runtime itself cannot be used.
    """

    def __init__(self, model: Path | bytes, threads: int = 1, runtime: Runtime = "auto", *, name: str = "") -> None:
        self.runtime, module = load_runtime(runtime)
        self.threads = threads
        self._name = name or (str(model) if isinstance(model, Path) else "model in memory")
        if isinstance(model, Path) and not model.is_file():
            raise ModelError(f"no model file at {model}")
        source = {"model_path": str(model)} if isinstance(model, Path) else {"model_content": model}
        try:
            with _quiet_stderr():  # XNNPACK announces itself on stderr from C++
                self._interpreter: Any = module.Interpreter(**source, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, SystemError) as exc:
            raise ModelError(f"{self._name}: the runtime {self.runtime} refuses this model: {_first_line(exc)}") from exc
        try:
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except UnicodeDecodeError as exc:
            raise ModelError(f"{self._name}: the name of a tensor is no UTF-8 text ({exc}); export the model anew") from exc
        if len(inputs) != 1:
            raise ModelError(f"{self._name}: wanted one input, a picture; found {len(inputs)}: {', '.join(i['name'] for i in inputs)}")
        self._input_index: int = inputs[0]["index"]
        self._output_indices: list[int] = [detail["index"] for detail in outputs]
        self.input: TensorSpec = _spec(inputs[0], 0)
        self.outputs: tuple[TensorSpec, ...] = tuple(_spec(detail, i) for i, detail in enumerate(outputs))

    def run(self, tensor: NDArray[Any]) -> Outputs:
        """Return the outputs, as copies, for an input of exactly the shape and type of `self.input`."""
        try:
            self._interpreter.set_tensor(self._input_index, tensor)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as exc:
            raise ModelError(f"{self._name}: running the model failed: {_first_line(exc)}") from exc
        get = self._interpreter.get_tensor
        values = [get(index) for index in self._output_indices]
        # Shapes known only after a run (the SSD post-process op on some exports) are taken from the values.
        return Outputs([RawTensor(value, spec) for value, spec in zip(values, self.outputs, strict=True)])


def _spec(detail: dict[str, Any], position: int) -> TensorSpec:
    scale, zero_point = detail["quantization"]  # (0.0, 0) means not quantized, or quantized per channel, which no input or output is
    return TensorSpec(
        name=detail["name"],
        index=position,
        shape=tuple(int(n) for n in detail["shape"]),
        dtype=np.dtype(detail["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def _first_line(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 to /dev/null for a moment: the runtime's C++ writes there past Python's sys.stderr."""
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed: nothing to keep quiet
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
