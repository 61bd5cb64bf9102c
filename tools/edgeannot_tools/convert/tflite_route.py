"""`edgeannot convert` for TFLite files that store their weights in float16 or int8 but compute in float: expanded to float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeannot.base.errors import InputError
from edgeannot_tools.convert.conversion import Converted, Request
from edgeannot_tools.convert.read_card import with_card
from edgeannot_tools.graph.graph import Graph, Op, at_size, fold_dequantize

__all__ = ["convert_tflite"]


def convert_tflite(sources: Sequence[Path], request: Request) -> Converted:
    """The model with float32 weights. Raises MissingError, or InputError for a model that computes in integers."""
    (path,) = sources
    graph = Graph.read(path)
    folded = fold_dequantize(graph)
    for operator in graph.operators:
        if graph.code(operator) in (Op.QUANTIZE, Op.DEQUANTIZE, Op.FAKE_QUANT):
            raise InputError(f"{path} computes in integers already ({graph.place(operator)}); give the float model it was made of")
    integers = [t for t in graph.inputs + graph.outputs if graph.quantization(t) is not None]
    if integers:
        raise InputError(f"{path} computes in integers already (tensor {graph.name(integers[0])!r}); give the float model it was made of")
    sized = None
    if request.size_wh is not None and graph.shape(graph.inputs[0])[1:3] != request.size_wh[::-1]:
        width, height = request.size_wh
        if width != height:
            raise InputError(f"--size: a TFLite model can be changed to another square only, found {width}x{height}")
        at_size(graph, width)
        sized = f"the input size was changed to {width}x{height}"
    what = f"{folded} constants in float16 or int8 were expanded to float32" if folded else "its numbers are float32 already"
    converted = with_card(graph, path, request, model=path if sized is None else None)
    return converted.noting(*([what] if sized is None else [what, sized]))
