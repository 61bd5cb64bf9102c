"""The layers that are taught: of a backbone's vector, and of what its own classes say, one number a new class; and their int8 form.

    vector (D) --+-------------------------------------------------+
                 |                                                 +-- concatenated (D + P) -- convolution -- K logits
                 +-- convolution: known classes -- less a threshold, ReLU (P) --+

The known classes are the ImageNet classes of the bundled network. They need no training pictures, so they help most where there are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray
from edgeannot_tools.graph.edits import collect_garbage
from edgeannot_tools.graph.graph import Graph, Op, Quantization, schema
from edgeannot_tools.teach.classify.backbone import Backbone, KnownClasses

__all__ = ["OUTPUT", "Expansion", "Head", "expansion_for", "taught_file"]

OUTPUT = "taught_logits"
"""Name of the output tensor."""

_RARE = 0.99
"""Share of the numbers of known classes that lie below the threshold: what remains says that the class, or one like it, is there."""
_GAIN = 2.0
_ROOM = 1.25
"""By how much the numbers at run time may exceed those of the pictures that were learned from, before they saturate."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """The known classes beside a vector."""

    known: KnownClasses
    threshold: float
    gain: float
    """Of a known class's number beside the numbers of the vector, as learned from. It decides how much the known classes count."""

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Return (..., D + P): the vectors, and how far each known class exceeds the threshold, times the gain."""
        flat = vectors.reshape(-1, vectors.shape[-1])  # one product of large matrices: numpy makes those of more axes one by one
        above = flat @ self.known.weights
        above += self.known.bias - np.float32(self.threshold)
        wide = np.concatenate([flat, np.float32(self.gain) * np.maximum(above, 0, out=above)], axis=1)
        return wide.reshape(*vectors.shape[:-1], -1)


def expansion_for(backbone: Backbone, vectors: FloatArray) -> Expansion | None:
    """Return the known classes to learn from beside the vectors, None for a network without any. vectors: (N, D), of the pictures that are
    learned from.

    How much they help depends on how near the new classes are to the known ones: for animals, which ImageNet names, they bring 2 to 3
    points of accuracy with 5 to 30 pictures a class; for kinds of flowers, which it does not, they take as much.
    """
    known = backbone.known_classes
    if known is None:
        return None
    sample = vectors[:: max(1, len(vectors) // 256)]
    return Expansion(known, float(np.quantile(sample @ known.weights + known.bias, _RARE)), _GAIN)


@dataclass(frozen=True, slots=True)
class Head:
    """What is put behind a backbone. Call: (..., D) real vectors -> (..., K) logits, whose softmax are the probabilities."""

    expansion: Expansion | None
    weights: FloatArray
    """(D, K), or (D + P, K) with an expansion."""

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Return the logits."""
        wide = vectors if self.expansion is None else self.expansion(vectors)
        return np.asarray(wide @ self.weights, np.float32)


def taught_file(backbone: Backbone, head: Head, vectors: FloatArray) -> bytes:
    """Return the .tflite of backbone and head, with int8 layers behind an int8 or uint8 backbone and float layers behind a float one.

    vectors: (N, D) real vectors, whose numbers set the ranges of the new int8 tensors.
    """
    graph = backbone.graph()
    tensor = _as_map(graph, _as_int8(graph, graph.outputs[0]))
    weights = head.weights
    if head.expansion is not None:
        size = vectors.shape[1]
        above = head.expansion(vectors)[:, size:]
        factor = _gain_in_file(graph.quantization(tensor), float(above.max(initial=0.0)))
        known = head.expansion.known
        gain = np.float32(head.expansion.gain * factor)
        extra = _layer(
            graph, tensor, known.weights * gain, (known.bias - np.float32(head.expansion.threshold)) * gain, "known_classes", relu=True
        )
        tensor = _concatenated(graph, [tensor, extra])
        weights = np.concatenate([weights[:size], weights[size:] / np.float32(factor)])
    logits = head(vectors)
    graph.sub.outputs = [_layer(graph, tensor, weights, np.zeros(weights.shape[1], np.float32), OUTPUT, logits=logits)]
    collect_garbage(graph)
    return graph.to_bytes()


def _gain_in_file(scheme: Quantization | None, largest: float) -> float:
    """Return the factor that brings numbers up to `largest` into the range of the vector's tensor, which the concatenation shares."""
    if scheme is None or largest <= 0:
        return 1.0
    return (127 - int(scheme.zero_point[0])) * float(scheme.scale[0]) / (largest * _ROOM)


def _as_int8(graph: Graph, tensor: int) -> int:
    """Return the tensor with int8 numbers where it has uint8 ones: the new layers are int8."""
    scheme = graph.quantization(tensor)
    if graph.dtype(tensor) != np.uint8 or scheme is None:
        return tensor
    turned = graph.add_tensor("taught_int8", graph.shape(tensor), np.int8)
    graph.set_quantization(turned, scheme.scale, scheme.zero_point - 128)
    graph.add_operator(Op.QUANTIZE, [tensor], [turned], schema.QuantizeOptionsT())
    return turned


def _as_map(graph: Graph, tensor: int) -> int:
    """Return the vector as (1, 1, 1, D), which a convolution reads. Its weights may have a scale a class on every runtime."""
    size = int(np.prod(graph.shape(tensor)))
    if graph.shape(tensor) == (1, 1, 1, size):
        return tensor
    shaped = graph.add_tensor("taught_map", (1, 1, 1, size), graph.dtype(tensor))
    graph.tensors[shaped].quantization = graph.tensors[tensor].quantization
    options = schema.ReshapeOptionsT()
    options.newShape = [1, 1, 1, size]
    graph.add_operator(Op.RESHAPE, [tensor, graph.add_constant("taught_shape", np.array([1, 1, 1, size], np.int32))], [shaped], options)
    return shaped


def _concatenated(graph: Graph, tensors: list[int]) -> int:
    """Return the vectors one behind the other; they share scale and zero point."""
    size = sum(graph.shape(tensor)[-1] for tensor in tensors)
    joined = graph.add_tensor("taught_features", (1, 1, 1, size), graph.dtype(tensors[0]))
    graph.tensors[joined].quantization = graph.tensors[tensors[0]].quantization
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    graph.add_operator(Op.CONCATENATION, tensors, [joined], options, version=2 if graph.dtype(joined) == np.int8 else 1)
    return joined


def _layer(
    graph: Graph, tensor: int, weights: FloatArray, bias: FloatArray, name: str, *, relu: bool = False, logits: NDArray[Any] | None = None
) -> int:
    """Return the output of a 1x1 convolution. weights: (D, K).

    logits: numbers that the output has to hold; without them it gets scale and zero point of the input.
    """
    count = weights.shape[1]
    scheme = graph.quantization(tensor)
    kernel = weights.T.reshape(count, 1, 1, -1)
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    options.padding = schema.Padding.VALID
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU if relu else schema.ActivationFunctionType.NONE
    if scheme is None:
        out = graph.add_tensor(name, (1, 1, 1, count))
        inputs = [tensor, graph.add_constant(f"{name}_weights", kernel.copy()), graph.add_constant(f"{name}_bias", bias)]
        graph.add_operator(Op.CONV_2D, inputs, [out], options)
        return out
    steps = np.maximum(np.abs(weights).max(axis=0), 1e-9) / 127
    stored = np.clip(np.rint(kernel / steps[:, None, None, None]), -127, 127).astype(np.int8)
    scales = steps * scheme.scale[0]
    limit = 2.0**30  # a bias beyond it saturates the output all the same
    numbers = [
        graph.add_constant(f"{name}_weights", stored),
        graph.add_constant(f"{name}_bias", np.clip(np.rint(bias / scales), -limit, limit).astype(np.int32)),
    ]
    for number, scale in zip(numbers, (steps, scales), strict=True):
        graph.set_quantization(number, scale, np.zeros(count, np.int64))
    out = graph.add_tensor(name, (1, 1, 1, count), np.int8)
    graph.set_quantization(out, *((scheme.scale, scheme.zero_point) if logits is None else _range(logits)))
    graph.add_operator(Op.CONV_2D, [tensor, *numbers], [out], options, version=3)
    return out


def _range(logits: NDArray[Any]) -> tuple[float, int]:
    """Return scale and zero point of an int8 tensor for these numbers, with room around them."""
    low, high = min(0.0, float(logits.min()) * _ROOM), max(0.0, float(logits.max()) * _ROOM)
    scale = max(high - low, 1e-6) / 255
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))
