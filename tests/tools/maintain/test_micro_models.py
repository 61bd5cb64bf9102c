"""The networks of the micro-benchmark can be made again, byte for byte, and are what their operation count says."""

from edgeannot.choice.measure_child import MODELS, OPERATIONS
from edgeannot_maintain.micro import main
from edgeannot_tools.graph.edits import multiply_accumulates
from edgeannot_tools.graph.graph import Graph


def test_making_them_again_gives_the_shipped_bytes(tmp_path):
    assert main([str(tmp_path)]) == 0

    for name in ("int8.tflite", "float.tflite"):
        assert (tmp_path / name).read_bytes() == (MODELS / name).read_bytes()


def test_both_do_the_work_that_the_speed_is_counted_from():
    for name in ("int8.tflite", "float.tflite"):
        graph = Graph.from_bytes((MODELS / name).read_bytes())
        assert 2 * multiply_accumulates(graph) == OPERATIONS
