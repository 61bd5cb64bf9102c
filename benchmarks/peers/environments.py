"""The environments of the peers and of the tools that make their files, in .cache/peers: what each is made of, and how it is made."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["CACHE", "ENGINES", "OWN", "RECIPES", "TOOLS", "installed_mb", "interpreter", "prepare"]

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "peers"
OWN = ("bare", "floor", "edgeannot", "scaled")
"""What edgeannot's environment runs."""

RECIPES: dict[str, tuple[str, ...]] = {
    "edgeannot": (str(ROOT),),
    "tutorial": ("ai-edge-litert", "numpy", "opencv-python-headless", "paho-mqtt"),
    "ultralytics": ("ultralytics==8.4.*", "ai-edge-litert"),
    "mediapipe": ("mediapipe==1.*",),
    "opencv-dnn": ("opencv-python-headless<5",),
    "onnxruntime": ("onnxruntime==1.32.*", "opencv-python-headless"),
    "ncnn": ("ncnn==1.0.20261020", "opencv-python-headless"),
    "edgefirst": ("edgefirst-hal==0.28.3", "edgefirst-decoder==0.38.0"),
}
"""What each peer's environment is made of."""

ENGINES: dict[str, tuple[str, ...]] = {
    "engine-litert": ("ai-edge-litert==2.*",),
    "engine-onnxruntime": ("onnxruntime==1.32.*",),
    "engine-ncnn": ("ncnn==1.0.20261020",),
    "engine-mnn": ("MNN==3.6.1",),
}
"""Each engine with what it needs, and nothing else."""

TOOLS: dict[str, tuple[str, ...]] = {
    "mediapipe-writer": ("mediapipe==0.10.21",),  # the wheels of 1.x lack a compiled part of the metadata writer
    "onnx-tools": ("onnx==1.*", "onnxruntime==1.32.*", "flatbuffers", "ai-edge-litert"),
    "onnx2tf": ("onnx2tf==2.6.*",),
    "pnnx": ("--no-deps", "pnnx==20261020"),  # its program alone: the Python beside it would bring PyTorch
}
NEWER = {"onnx2tf": ("python3.13", "python3.12")}
"""Those that need a later Python than ours may be."""


def interpreter(name: str) -> Path:
    """Return the Python of an environment; our own where it was not made and ours has what the peer needs."""
    own = "edgeannot" if name in OWN else name
    path = CACHE / own / "bin" / "python"
    return path if path.exists() or name not in (*OWN, "tutorial") else Path(sys.executable)


def installed_mb(name: str) -> int | None:
    """Return the size of an environment; None where it was not made."""
    folder = CACHE / ("edgeannot" if name in OWN else name)
    return round(sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6) if folder.exists() else None


def prepare(names: list[str]) -> dict[str, str]:
    """Make the environments that are not as their recipe says; return why one could not be made, by name."""
    refused = {}
    for name in names:
        folder, recipe = CACHE / name, (RECIPES | ENGINES | TOOLS)[name]
        made_of = hashlib.sha256("\n".join((*recipe, (ROOT / "pyproject.toml").read_text() if name == "edgeannot" else "")).encode())
        stamp = folder / "recipe"
        if stamp.exists() and stamp.read_text() == made_of.hexdigest():
            continue
        subprocess.run([_python(name), "-m", "venv", "--clear", str(folder)], check=True)
        done = subprocess.run([folder / "bin" / "pip", "install", "-q", *recipe], capture_output=True, text=True, check=False)
        if done.returncode:
            refused[name] = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            shutil.rmtree(folder)
        else:
            stamp.write_text(made_of.hexdigest())
    return refused


def _python(name: str) -> str:
    """Return the Python that an environment is made with: one that runs, not only one that has a name on the PATH."""
    for command in NEWER.get(name, ()):
        if shutil.which(command) and not subprocess.run([command, "-c", ""], capture_output=True, check=False).returncode:
            return command
    return sys.executable
