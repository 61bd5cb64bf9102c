"""Writes small TensorFlow.js graph models, as tensorflowjs_converter does: a GraphDef as JSON and the weights in files beside it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np


def text(word: str) -> dict[str, Any]:
    return {"s": base64.b64encode(word.encode()).decode()}


def numbers(*values: int) -> dict[str, Any]:
    return {"list": {"i": [str(value) for value in values]}}


def attribute(value: Any) -> dict[str, Any]:
    """A value as the converter writes it; a dict is written as it is."""
    if isinstance(value, dict):
        return value
    if isinstance(value, bool):
        return {"b": value}
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return {"list": {"s": [text(word)["s"] for word in value]}}
    if isinstance(value, tuple):
        return numbers(*value)
    return {"f": value} if isinstance(value, float) else {"i": str(value)}


class GraphMaker:
    """Nodes in the making; each method gives the name of its node."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.weights: dict[str, np.ndarray] = {}

    def picture(self, *shape: int, name: str = "input", dtype: str = "DT_FLOAT") -> str:
        sizes = {"dim": [{"size": str(size)} for size in shape]}
        self.nodes.append({"name": name, "op": "Placeholder", "attr": {"dtype": {"type": dtype}, "shape": {"shape": sizes}}})
        return name

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        self.weights[name] = np.asarray(values, dtype)
        self.nodes.append({"name": name, "op": "Const", "attr": {}})
        return name

    def integers(self, name: str, values: Any) -> str:
        return self.constant(name, values, np.int32)

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        attr = {key: attribute(value) for key, value in attributes.items()}
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attr})
        return name

    def conv(self, name: str, x: str, weights: np.ndarray, *, op: str = "Conv2D", stride: int = 1, **attributes: Any) -> str:
        """weights: (kh, kw, in, out), as TensorFlow has them."""
        kernel = self.constant(f"{name}/weights", weights)
        attributes = {"padding": "SAME", "strides": (1, stride, stride, 1), "data_format": "NHWC"} | attributes
        return self.node(op, name, x, kernel, **attributes)

    def table(self, *outputs: str) -> dict[str, Any]:
        """What model.json holds, but the weights."""
        found: dict[str, Any] = {"format": "graph-model", "modelTopology": {"node": self.nodes, "versions": {}}}
        if outputs:
            found["signature"] = {"outputs": {f"{name}:0": {"name": f"{name}:0"} for name in outputs}}
        return found

    def write(self, folder: Path, *outputs: str, files: int = 1, stored: str = "") -> Path:
        """Write model.json and its weights, float32, or `stored` as float16 or uint8, in some files; give the path of the first."""
        entries, parts = [], []
        for name, values in self.weights.items():
            entry: dict[str, Any] = {"name": name, "shape": list(values.shape), "dtype": str(values.dtype)}
            if stored and values.dtype == np.float32:
                entry["quantization"] = {"dtype": stored, "original_dtype": "float32"}
                if stored != "float16":
                    low, high = float(values.min()), float(values.max())
                    scale = (high - low) / np.iinfo(stored).max or 1.0
                    entry["quantization"] |= {"min": low, "scale": scale}
                    values = np.round((values - low) / scale)  # noqa: PLW2901 - as it is stored
                values = values.astype(stored)  # noqa: PLW2901 - as above
            entries.append(entry)
            parts.append(values.tobytes())
        data = b"".join(parts)
        length = -(-len(data) // files)
        names = [f"group1-shard{i + 1}of{files}.bin" for i in range(files)]
        folder.mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(names):
            (folder / name).write_bytes(data[i * length : (i + 1) * length])
        table = self.table(*outputs) | {"weightsManifest": [{"paths": names, "weights": entries}]}
        (folder / "model.json").write_text(json.dumps(table))
        return folder / "model.json"
