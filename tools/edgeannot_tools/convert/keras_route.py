"""`edgeannot convert` for Keras models and SavedModels, through TensorFlow in a process of its own, here or in another environment."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeannot.base.errors import ConfigError, InputError, ModelError, install
from edgeannot_tools.convert import keras_worker
from edgeannot_tools.convert.files import Converted, Request, last_line, with_card
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.output import waiting

__all__ = ["convert_keras", "find_python"]

INSTALL = (
    f"{install('tools,keras')}, or make an environment for it "
    "(`python3 -m venv tf-env && tf-env/bin/pip install tensorflow-cpu`, about 1.5 GB) and give --tensorflow tf-env/bin/python"
)
NOT_IN_TFLITE = re.compile(r"Flex ops:\s*([^\n]*)|'tf\.(\w+)' op is neither|Op type not registered '(\w+)'")
"""What TensorFlow's converter says of operators that TFLite alone does not have."""


def convert_keras(sources: Sequence[Path], request: Request) -> Converted:
    """Return the network of a .keras or .h5 file or of a SavedModel folder, with one picture as its input.

    Raises ConfigError where TensorFlow has to be installed, InputError for a file that it cannot read, ModelError for what TFLite lacks.
    """
    (path,) = sources
    python = find_python(request.tensorflow)
    with tempfile.TemporaryDirectory(prefix="edgeannot-keras-") as folder:
        out, report = Path(folder) / "model.tflite", Path(folder) / "report.json"
        words = [str(python), str(Path(keras_worker.__file__)), str(path), str(out), str(report), *map(str, request.size_wh or ())]
        with waiting(f"TensorFlow converts {path.name}"):
            try:
                done = subprocess.run(words, capture_output=True, text=True, errors="replace", env=_environment(), check=False)
            except OSError as exc:
                raise ConfigError(f"--tensorflow: {python} cannot be started ({exc.strerror}); {INSTALL}") from exc
        if not report.is_file():
            raise ModelError(f"TensorFlow died over {path} (exit code {done.returncode}): {last_line(done.stderr)}")
        found = json.loads(report.read_text(encoding="utf-8"))
        if "error" in found:
            raise _error(found["kind"], found["error"], path, python)
        graph = Graph.from_bytes(out.read_bytes(), str(path))
    return with_card(graph, path, request).noting(f"converted by TensorFlow {found['version']}")


def find_python(given: Path | None) -> Path:
    """Return the Python that has TensorFlow: as given, else this one. Raises ConfigError that says what to install, before anything is
    started."""
    if given is not None:
        found = shutil.which(str(given.expanduser()))
        if found is None:
            raise ConfigError(f"--tensorflow: {given} is no program that can be run; give the path of a Python that has TensorFlow")
        return Path(found)
    if importlib.util.find_spec("tensorflow") is None:
        raise ConfigError(f"converting Keras models and SavedModels needs TensorFlow: {INSTALL}")
    return Path(sys.executable)


def _environment() -> dict[str, str]:
    """Without this environment's own packages, which may be for another Python."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def _error(kind: str, message: str, path: Path, python: Path) -> Exception:
    if kind == "install":
        return ConfigError(f"TensorFlow cannot be imported by {python} ({message}): {INSTALL}")
    if kind == "shape":
        return InputError(f"{path}: {message}")
    first = next((line.strip() for line in message.splitlines() if line.strip()), "no reason given")
    if kind == "read":
        return InputError(f"TensorFlow cannot read {path}: {first[:300]}")
    missing = [part for match in NOT_IN_TFLITE.finditer(message) for part in match.groups() if part]
    if missing:
        names = ", ".join(dict.fromkeys(missing))
        return ModelError(f"{path}: TFLite alone has no operator for {names}; build the model without, or cut it off before there")
    return ModelError(f"TensorFlow cannot convert {path}: {first[:300]}")
