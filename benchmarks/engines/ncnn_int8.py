"""Writes an ncnn network in int8: `python -m benchmarks.engines.ncnn_int8 IN OUT TENSORS.npy`; IN and OUT less .param and .bin.

ncnn reads int8 networks, but its wheel brings no tool that writes them. The convolutions get int8 weights, a scale an output channel
and one for their input, each by the largest value seen on TENSORS (N, 1, 3, H, W); what follows them stays float, as with
ncnn's own tool. The form of the files: https://github.com/Tencent/ncnn/blob/master/docs/developer-guide/param-and-model-file-structure.md
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

INT8_TAG = (0x000D4B38).to_bytes(4, "little")
"""Before weights that are stored in bytes."""
WITH_WEIGHTS = ("Convolution", "ConvolutionDepthWise")
NO_WEIGHTS = ("BinaryOp", "Concat", "Input", "Interp", "Padding", "Permute", "Pooling", "ReLU", "Reshape", "ShuffleChannel", "Sigmoid")
NO_WEIGHTS += ("Slice", "Softmax", "Split", "Swish")


def largest(source: str, blobs: list[str], tensors: Any) -> dict[str, float]:
    """Return the largest absolute value of each blob over the pictures."""
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.lightmode = False  # keeps every blob until it is asked for
    net.load_param(f"{source}.param")
    net.load_model(f"{source}.bin")
    found = dict.fromkeys(blobs, 0.0)
    for tensor in tensors:
        extractor = net.create_extractor()
        extractor.set_light_mode(False)
        extractor.input(net.input_names()[0], ncnn.Mat(np.ascontiguousarray(tensor[0])))
        for blob in blobs:
            found[blob] = max(found[blob], float(np.abs(np.array(extractor.extract(blob)[1])).max()))
    return found


def main() -> None:
    """Write OUT.param and OUT.bin."""
    source, out, tensors = sys.argv[1:4]
    head, size, *lines = Path(f"{source}.param").read_text().splitlines()
    layers = [line.split() for line in lines if line.strip()]
    seen = largest(source, [layer[4] for layer in layers if layer[0] in WITH_WEIGHTS], np.load(tensors))
    weights, at, written = Path(f"{source}.bin").read_bytes(), 0, bytearray()
    for layer in layers:
        if layer[0] in NO_WEIGHTS:
            continue
        if layer[0] not in WITH_WEIGHTS:
            raise SystemExit(f"ncnn_int8 does not know the layer {layer[0]}")
        given, made = int(layer[2]), int(layer[3])
        facts = {int(key): value for key, value in (each.split("=") for each in layer[4 + given + made :])}
        outputs, count = int(facts[0]), int(facts[6])
        if weights[at : at + 4] != bytes(4):
            raise SystemExit("the weights are not stored in 32 bits: pnnx wants fp16=0")
        kernel = np.frombuffer(weights, np.float32, count, at + 4)
        at += 4 + 4 * count
        bias = b""
        if int(facts.get(5, "0")):
            bias = weights[at : at + 4 * outputs]
            at += len(bias)
        groups = int(facts.get(7, "1")) if layer[0] == "ConvolutionDepthWise" else outputs
        rows = kernel.reshape(groups, -1)
        scales = (127 / np.maximum(np.abs(rows).max(1), 1e-9)).astype(np.float32)
        stored = np.clip(np.rint(rows * scales[:, None]), -127, 127).astype(np.int8).tobytes()
        written += INT8_TAG + stored + bytes(-len(stored) % 4) + bias
        written += scales.tobytes() + np.float32(127 / max(seen[layer[4]], 1e-9)).tobytes()
        layer.append("8=1")
    if at != len(weights):
        raise SystemExit(f"{len(weights) - at} bytes of {source}.bin belong to no layer that is known")
    Path(f"{out}.param").write_text("\n".join([head, size, *(" ".join(layer) for layer in layers)]) + "\n")
    Path(f"{out}.bin").write_bytes(written)


if __name__ == "__main__":
    main()
