"""How the files of each engine are made, from one float .onnx a network; they stay in .cache/engines. The tools' versions: TOOLS, RECIPES.

| engine | float | int8 |
|---|---|---|
| LiteRT | `edgeannot convert` (onnx2tf) | `edgeannot quantize` |
| onnxruntime | the .onnx | its `quantize_static` (`onnx_files.py`) |
| ncnn | pnnx, weights in 32 bits | `ncnn_int8.py`, as its wheel brings no quantizer |
| MNN | its converter | its quantizer, MAX_ABS and KL (`mnn_files.py`) |

Whoever changes edgeannot's converter or quantizer removes the folder.
All quantizers see the same 50 photos, but MNN's the first 10 it finds, as it takes seconds for each.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.bundled import yolov3_tiny
from benchmarks.peers.environments import CACHE, ROOT, interpreter

__all__ = ["FILES", "FOLDER", "NETWORKS", "Network", "ncnn_float", "onnx_file", "tensor_of", "tflite_float"]

FOLDER = CACHE.parent / "engines"
DATA = Path(os.environ.get("EDGEANNOT_TEST_DATA", ROOT.parent / "shared" / "data"))
PHOTOS = DATA / "detection" / "voc50_formats" / "images"


@dataclass(frozen=True, slots=True)
class Network:
    """One network, as it is fed: pixels of `color` times `scale`, (1, 3, size, size)."""

    name: str
    size: int
    color: str
    scale: float
    options: tuple[str, ...] = ()
    """What `edgeannot convert` is told."""

    def file(self, end: str) -> Path:
        """Return where a file of it is."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        return FOLDER / f"{self.name}{end}"


COCO = ("--labels", str(DATA / "models" / "labels_coco80.txt"))
NETWORKS = {
    "YOLOX-nano 416": Network("yolox_nano", 416, "BGR", 1.0, COCO),
    "YOLO-FastestV2 352": Network("yolo_fastestv2", 352, "BGR", 1 / 255, (*COCO, "--anchors", "yolo-fastestv2")),
    "yolov3-tiny 416": Network("yolov3_tiny", 416, "RGB", 1 / 255),
}


def tensor_of(network: Network, photo: Path) -> NDArray[np.float32]:
    """Return a photo as the network wants it."""
    image = cv2.resize(cv2.imread(str(photo)), (network.size, network.size))
    image = image[..., ::-1] if network.color == "RGB" else image
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) * np.float32(network.scale)


def onnx_file(network: Network) -> Path:
    """Return the float network that all start from: the published .onnx, or one written from the bundled YOLO's weights."""
    file = network.file(".onnx")
    if not file.exists():
        if network.name == "yolov3_tiny":
            _tool("onnx-tools", "onnx_files", "tiny", tflite_float(network), file)
        elif network.name == "yolox_nano":
            _tool("onnx-tools", "onnx_files", "plain", DATA / "models" / "onnx" / "yolox_nano_coco416.onnx", file)
        else:
            shutil.copyfile(DATA / "models" / "onnx" / "yolo-fastestv2.onnx", file)
    return file


def tflite_float(network: Network) -> Path:
    """Return LiteRT's float file; its card is beside it."""
    file = network.file(".tflite")
    if not file.exists():
        if network.name == "yolov3_tiny":
            yolov3_tiny(CACHE).write(file)
        else:
            onnx2tf = interpreter("onnx2tf").with_name("onnx2tf")
            _edgeannot("convert", onnx_file(network), "-o", file, *network.options, "--onnx2tf", onnx2tf)
    return file


def tflite_int8(network: Network) -> Path:
    """Return LiteRT's int8 file; of yolov3-tiny the one that is bundled."""
    if network.name == "yolov3_tiny":
        return ROOT / "models" / "yolov3-tiny.tflite"
    file = network.file("_int8.tflite")
    if not file.exists():
        _edgeannot("quantize", tflite_float(network), "-o", file, "--images", PHOTOS, "--no-check")
    return file


def onnx_int8(network: Network) -> Path:
    """Return onnxruntime's int8 file."""
    file = network.file("_int8.onnx")
    if not file.exists():
        _tool("onnx-tools", "onnx_files", "int8", onnx_file(network), file, _calibration(network))
    return file


def ncnn_float(network: Network) -> Path:
    """Return ncnn's float files, .param and .bin, less their ends."""
    file = network.file(".ncnn")
    if not file.with_suffix(".ncnn.bin").exists():
        programs = [*(CACHE / "pnnx").glob("lib/python*/site-packages/pnnx/pnnx")]
        if not programs:
            raise RuntimeError("pnnx is not installed (--prepare)")
        _run([programs[0], onnx_file(network), f"inputshape=[1,3,{network.size},{network.size}]", "fp16=0"])
    return file


def ncnn_int8(network: Network) -> Path:
    """Return ncnn's int8 files."""
    file = network.file("_int8.ncnn")
    if not file.with_suffix(".ncnn.bin").exists():
        _tool("engine-ncnn", "ncnn_int8", ncnn_float(network), file, _calibration(network))
    return file


def mnn_float(network: Network) -> Path:
    """Return MNN's float file."""
    file = network.file(".mnn")
    if not file.exists():
        _tool("engine-mnn", "mnn_files", "float", onnx_file(network), file)
    return file


def mnn_int8(network: Network) -> Path:
    """Return MNN's int8 file."""
    file = network.file("_int8.mnn")
    if not file.exists():
        _tool("engine-mnn", "mnn_files", "int8", mnn_float(network), file, PHOTOS, network.size, network.color, network.scale)
    return file


FILES: dict[str, tuple[Callable[[Network], Path], Callable[[Network], Path]]] = {
    "litert": (tflite_float, tflite_int8),
    "onnxruntime": (onnx_file, onnx_int8),
    "ncnn": (ncnn_float, ncnn_int8),
    "mnn": (mnn_float, mnn_int8),
}


def _calibration(network: Network) -> Path:
    """Return the tensors of the photos, (N, 1, 3, H, W)."""
    file = network.file(".npy")
    if not file.exists():
        np.save(file, np.stack([tensor_of(network, photo) for photo in sorted(PHOTOS.glob("*.jpg"))]))
    return file


def _tool(environment: str, module: str, *arguments: object) -> None:
    """Run one of our recipes in an environment."""
    _run([interpreter(environment), "-m", f"benchmarks.engines.{module}", *arguments])


def _edgeannot(*arguments: object) -> None:
    """Run edgeannot's command."""
    _run([sys.executable, "-c", "from edgeannot.cli.start import main; main()", *arguments])


def _run(command: list[object]) -> None:
    """Run it; raises RuntimeError with its last line."""
    path = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=path, cwd=FOLDER)
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()
        raise RuntimeError(said[-1] if said else f"{command[0]} failed")
