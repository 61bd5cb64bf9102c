"""Whether a graph sorts its results, so that two runs may give the same rows in another order."""

from __future__ import annotations

from edgeannot.tflite.schema import SubGraph

__all__ = ["sorts_results"]

_SORTING = frozenset(("TOPK_V2", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "TFLite_Detection_PostProcess"))


def sorts_results(graph: SubGraph) -> bool:
    """Whether an operator of it picks or orders rows by their scores."""
    return any((operator.custom_name or operator.name) in _SORTING for operator in graph.operators)
