"""Taking joined boxes and scores apart: the numbers stay, and what was never joined is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.vision.heads.yolo_rows import YoloRows
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.interpreter import open_interpreter
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.split_outputs import separate_slices, split_rows

RNG = np.random.default_rng(2)
PICTURE = RNG.random((1, 8, 8, 3)).astype(np.float32)
CELLS, CLASSES = 64, 5


def conv(net: Net, name: str, x: int, out: int) -> int:
    channels = net.shape(x)[3]
    return net.conv(name, x, RNG.normal(0, 1, (out, channels, 1, 1)).astype(np.float32), RNG.normal(0, 1, out).astype(np.float32))


def run(graph: Graph) -> dict[str, np.ndarray]:
    interpreter = open_interpreter(graph.to_bytes())
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], PICTURE)
    interpreter.invoke()
    return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()}


def rows_of_v5() -> Graph:
    """Two scales; in each, centres, sizes and the rest are joined, then the scales."""
    net = Net()
    picture, tables = net.input("picture", (1, 8, 8, 3)), []
    for scale in ("fine", "coarse"):
        parts = [
            net.reshape(f"{scale}{i}_r", conv(net, f"{scale}{i}", picture, n), (1, CELLS, 1, n)) for i, n in enumerate((2, 2, 1 + CLASSES))
        ]
        tables.append(net.reshape(f"{scale}_table", net.concat(f"{scale}_joined", parts), (1, CELLS, 5 + CLASSES)))
    return net.outputs([net.concat("rows", tables, axis=1)])


def columns_of_v8() -> Graph:
    net = Net()
    picture = net.input("picture", (1, 8, 8, 3))
    boxes, scores = (net.reshape(f"{name}_r", conv(net, name, picture, n), (1, CELLS, n)) for name, n in (("box", 4), ("class", CLASSES)))
    return net.outputs([net.transpose("columns", net.concat("joined", [boxes, scores], axis=2), (0, 2, 1))])


@pytest.mark.parametrize(
    ("graph", "layout", "objectness", "axis"), [(rows_of_v5(), "rows", True, 2), (columns_of_v8(), "columns", False, 1)], ids=["v5", "v8"]
)
def test_the_parts_hold_what_the_table_held(graph, layout, objectness, axis):
    (table,) = run(graph).values()

    head = split_rows(graph, YoloRows(output=0, layout=layout, objectness=objectness, box_units="pixels"))

    found = run(graph)
    order = [head.boxes, *([head.objectness] if objectness else []), head.scores]
    assert list(found) != []
    assert np.array_equal(np.concatenate([found[name] for name in order], axis=axis), table)
    assert (head.box_layout, head.score_layout, head.box_units) == (layout, layout, "pixels")


def test_a_table_that_comes_out_of_one_layer_stays():
    net = Net()
    graph = net.outputs([net.reshape("rows", conv(net, "all", net.input("picture", (1, 8, 8, 3)), 4 + CLASSES), (1, CELLS, 4 + CLASSES))])
    before = graph.to_bytes()

    assert split_rows(graph, YoloRows(output=0, layout="rows", objectness=False, box_units="pixels")) is None
    assert graph.to_bytes() == before


def test_a_table_that_was_multiplied_as_a_whole_stays():
    graph = columns_of_v8()
    net = Net()
    net.graph = graph
    graph.sub.outputs = [net.mul("scaled", graph.outputs[0], net.constant("two", np.array(2.0), np.float32))]

    assert split_rows(graph, YoloRows(output=0, layout="columns", objectness=False, box_units="pixels")) is None


def test_slices_of_a_join_become_what_was_joined():
    """As YOLOv8 does it: joined, moved, and taken apart again, once exactly and once across the joint."""
    graph = columns_of_v8()
    joined = graph.outputs[0]
    outputs = []
    for name, start, count in (("boxes", 0, 4), ("scores", 4, CLASSES), ("across", 2, 4)):
        begin, size = (graph.add_constant(f"{name}{i}", np.array(v, np.int32)) for i, v in enumerate(([0, start, 0], [1, count, CELLS])))
        cut = graph.add_tensor(f"{name}_cut", (1, count, CELLS))
        graph.add_operator(Op.SLICE, [joined, begin, size], [cut], schema.SliceOptionsT())
        outputs.append(graph.add_tensor(name, (1, count, CELLS)))
        graph.add_operator(Op.RELU, [cut], [outputs[-1]])
    graph.sub.outputs = outputs
    before = run(graph)

    found = separate_slices(graph)

    after = run(graph)
    assert found == 2
    assert all(np.array_equal(after[name], before[name]) for name in ("boxes", "scores", "across"))
    kinds = [graph.code_name(operator) for operator in graph.operators]
    assert kinds.count("SLICE") == 1
