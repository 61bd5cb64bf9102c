"""Makes .onnx files, in the environment `onnx-tools`: `python -m benchmarks.engines.onnx_files plain|tiny|int8 IN OUT.onnx [TENSORS.npy]`.

plain: YOLOX's slices of every second pixel and the 3x3 convolution after them as one 6x6 convolution of stride 2, the same sums:
ncnn's converter does not know such slices. tiny: the float .tflite of the bundled YOLO, channels first. int8: quantized by onnxruntime's
own tool, as it proposes for x86-64 (QDQ, a scale a channel), calibrated on TENSORS (N, 1, 3, H, W).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from edgeannot_tools.graph.graph import Graph, Op

OPSET = [helper.make_opsetid("", 13)]


def plain(source: Path, out: Path) -> None:
    """Write the model without slices of every second pixel."""
    model = onnx.load(source)
    nodes = model.graph.node
    joined = next(node for node in nodes if node.op_type == "Concat")
    slices = [node for node in nodes if node.op_type == "Slice"]
    conv = next(node for node in nodes if node.input[0] == joined.output[0])
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == conv.input[1])
    small = numpy_helper.to_array(stored)  # (O, 12, 3, 3): upper left, lower left, upper right, lower right pixels of three colours
    large = np.zeros((len(small), 3, 6, 6), np.float32)
    for part, (down, right) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        large[:, :, down::2, right::2] = small[:, 3 * part : 3 * part + 3]
    stored.CopyFrom(numpy_helper.from_array(large, stored.name))
    conv.input[0] = model.graph.input[0].name
    del conv.attribute[:]
    conv.attribute.extend(
        helper.make_attribute(name, value) for name, value in {"kernel_shape": [6, 6], "pads": [2] * 4, "strides": [2, 2]}.items()
    )
    for node in (*slices, joined):
        nodes.remove(node)
    onnx.checker.check_model(model)
    onnx.save(model, out)


def tiny(source: Path, out: Path) -> None:
    """Write the network of a .tflite of convolutions, LEAKY_RELU, MAX_POOL_2D, RESIZE_NEAREST_NEIGHBOR and CONCATENATION."""
    graph = Graph.read(source)
    weights: list[Any] = []

    def constant(name: str, values: Any) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node_of(operator: Any) -> Any:
        code, name = graph.code(operator), str(operator.outputs[0])
        given, to = [str(number) for number in operator.inputs], [name]
        if code == Op.CONV_2D:
            kernel = graph.constant(operator.inputs[1]).transpose(0, 3, 1, 2)
            parts = [given[0], constant(f"w{name}", kernel), constant(f"b{name}", graph.constant(operator.inputs[2]))]
            return helper.make_node("Conv", parts, to, kernel_shape=kernel.shape[2:], pads=[kernel.shape[2] // 2] * 4)
        if code == Op.LEAKY_RELU:
            return helper.make_node("LeakyRelu", given, to, alpha=operator.builtinOptions.alpha)
        if code == Op.MAX_POOL_2D:
            step = operator.builtinOptions.strideH
            return helper.make_node("MaxPool", given, to, kernel_shape=[2, 2], strides=[step] * 2, pads=[0, 0, 2 - step, 2 - step])
        if code == Op.RESIZE_NEAREST_NEIGHBOR:
            by = constant(f"s{name}", np.array([1, 1, 2, 2], np.float32))
            rounding = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return helper.make_node("Resize", [given[0], "", by], to, mode="nearest", **rounding)
        if code == Op.CONCATENATION:
            return helper.make_node("Concat", given, to, axis=1)
        raise ValueError(graph.code_name(operator))

    def value(number: int) -> Any:
        n, h, w, c = graph.shape(number)
        return helper.make_tensor_value_info(str(number), TensorProto.FLOAT, [n, c, h, w])

    nodes = [node_of(operator) for operator in graph.operators]
    made = helper.make_graph(nodes, "yolov3-tiny", [value(n) for n in graph.inputs], [value(n) for n in graph.outputs], weights)
    model = helper.make_model(made, opset_imports=OPSET, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, out)


def int8(source: Path, out: Path, tensors: Path) -> None:
    """Quantize a float model."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static  # noqa: PLC0415 - only here
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415 - only here

    model = version_converter.convert_version(onnx.load(source), OPSET[0].version)  # a scale a channel needs 13
    name = model.graph.input[0].name

    class Reader(CalibrationDataReader):
        """Gives the tensors in turn."""

        def __init__(self) -> None:
            self._left: Iterator[Any] = iter(np.load(tensors))

        def get_next(self) -> dict[str, Any] | None:
            """Return the next one, by the input's name."""
            tensor = next(self._left, None)
            return None if tensor is None else {name: tensor}

    ready = out.with_suffix(".ready.onnx")
    onnx.save(model, ready)
    quant_pre_process(ready, ready, skip_symbolic_shape=True)
    quantize_static(ready, out, Reader(), per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    ready.unlink()


if __name__ == "__main__":
    {"plain": plain, "tiny": tiny, "int8": int8}[sys.argv[1]](*map(Path, sys.argv[2:]))
