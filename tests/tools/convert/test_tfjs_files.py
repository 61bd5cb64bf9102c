"""model.json and its weight files: what is whole is read, and anything else is one sentence that says what is wrong with it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeannot.base.errors import EdgeannotError, InputError, MissingError
from edgeannot_tools.convert.tfjs.files import read_model
from tests.tools.convert.tfjs_maker import GraphMaker

WEIGHTS = np.linspace(-1, 1, 3 * 3 * 3 * 4, dtype=np.float32).reshape(3, 3, 3, 4)


def one_convolution() -> GraphMaker:
    maker = GraphMaker()
    maker.conv("conv", maker.picture(1, 8, 8, 3), WEIGHTS)
    maker.integers("axes", [1, 2])
    maker.node("Mean", "mean", "conv", "axes")
    return maker


@pytest.fixture
def model(tmp_path):
    return one_convolution().write(tmp_path / "net")


def changed(path, change):
    """The model with something else in its JSON."""
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))
    return path


def refused(path):
    with pytest.raises(EdgeannotError) as told:
        read_model(path)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 600
    return str(told.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "model.json").write_bytes(b"")
    assert "wanted JSON" in refused(tmp_path / "model.json")


def test_a_graph_without_nodes_is_refused(model):
    assert "wanted a list of nodes" in refused(changed(model, lambda table: table["modelTopology"].update(node=[])))


def test_nodes_weights_and_the_outputs_that_nothing_reads_are_found(model):
    found = read_model(model)

    assert list(found.nodes) == ["input", "conv/weights", "conv", "axes", "mean"]
    assert found.outputs == ("mean",)
    assert found.weights["conv/weights"].dtype == np.float32
    np.testing.assert_array_equal(found.weights["conv/weights"], WEIGHTS)
    np.testing.assert_array_equal(found.weights["axes"], [1, 2])


def test_stated_outputs_come_in_their_order(tmp_path):
    assert read_model(one_convolution().write(tmp_path, "mean", "conv")).outputs == ("mean", "conv")


@pytest.mark.parametrize(("stored", "tolerance"), [("float16", 1e-3), ("uint8", 4e-3), ("uint16", 2e-5)])
def test_small_weights_are_expanded(tmp_path, stored, tolerance):
    found = read_model(one_convolution().write(tmp_path, stored=stored)).weights

    assert found["conv/weights"].dtype == np.float32
    np.testing.assert_allclose(found["conv/weights"], WEIGHTS, atol=tolerance)
    np.testing.assert_array_equal(found["axes"], [1, 2])


def test_weights_go_over_the_edges_of_their_files(tmp_path):
    found = read_model(one_convolution().write(tmp_path, files=7)).weights

    np.testing.assert_array_equal(found["conv/weights"], WEIGHTS)


def test_a_weight_file_that_is_not_there_is_named(tmp_path):
    path = one_convolution().write(tmp_path, files=3)
    (tmp_path / "group1-shard2of3.bin").unlink()

    with pytest.raises(MissingError, match=r"group1-shard2of3\.bin is not there"):
        read_model(path)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_weight_file_of_another_length_is_refused(model, change):
    data = (model.parent / "group1-shard1of1.bin").read_bytes()
    (model.parent / "group1-shard1of1.bin").write_bytes(data[:change] if change < 0 else data + b"x")

    assert "fetch the files again" in refused(model)


@pytest.mark.parametrize(
    "name", ["../weights.bin", "a/../../weights.bin", "/etc/hostname", "", ".", "C:\\weights.bin", "a\\..\\b", None, 7, "\0"]
)
def test_weights_outside_the_models_folder_are_not_read(model, name):
    (model.parent.parent / "weights.bin").write_bytes((model.parent / "group1-shard1of1.bin").read_bytes())

    said = refused(changed(model, lambda table: table["weightsManifest"][0].update(paths=[name])))

    assert "in the model's own folder" in said or "the weight file" in said


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ([1 << 40, 1 << 40], "fetch the files again"),
        ([-1, 3], "wanted a shape"),
        ([1] * 9, "wanted a shape"),
        (["9" * 5000], "wanted a shape"),
        ("3", "wanted a weight"),
        ([1.5], "wanted a shape"),
    ],
)
def test_sizes_that_cannot_be_are_refused(model, shape, words):
    assert words in refused(changed(model, lambda table: table["weightsManifest"][0]["weights"][0].update(shape=shape)))


@pytest.mark.parametrize("dtype", ["string", "complex64", "", None, 3, "9" * 5000])
def test_weights_of_another_type_are_refused(model, dtype):
    assert "wanted numbers of type" in refused(changed(model, lambda table: table["weightsManifest"][0]["weights"][0].update(dtype=dtype)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.update(format="layers-model"), "layers model"),
        (lambda table: table.pop("modelTopology"), "no TensorFlow.js model"),
        (lambda table: table.update(weightsManifest=None), "weightsManifest"),
        (lambda table: table.update(weightsManifest=[{}]), "weightsManifest"),
        (lambda table: table["modelTopology"]["node"].append({"name": "x"}), "wanted a node"),
        (lambda table: table["modelTopology"]["node"].append({"name": "conv", "op": "Relu"}), "two nodes"),
        (lambda table: table["modelTopology"]["node"].append({"name": "\ud800x", "op": "Relu"}), r"half a character, found '\ud800x'"),
        (lambda table: table["modelTopology"]["node"].append({"name": "more", "op": "Const"}), "constant 'more'"),
        (lambda table: table.update(signature={"outputs": {"y": {"name": "nothing:0"}}}), "'nothing'"),
        (lambda table: table.update(signature={"outputs": {"y": 5}}), "signature"),
        (lambda table: table["weightsManifest"][0]["weights"][0].update(quantization={"dtype": "uint8"}), "scale"),
        (lambda table: table["weightsManifest"][0]["weights"].append(5), "wanted a weight"),
    ],
)
def test_a_damaged_table_is_refused_in_one_sentence(model, change, words):
    assert words in refused(changed(model, change))


@pytest.mark.parametrize("content", ["[" * 100_000, "5", "null", '"model"', "[]", "{", b"\xff\xfe", '{"modelTopology": []}'])
def test_what_is_no_such_json_is_refused(tmp_path, content):
    path = tmp_path / "model.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(InputError):
        read_model(path)
