"""`edgeannot convert` for TensorFlow.js graph models, as a person types it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import InputError, MissingError
from edgeannot.vision.cards import read_card
from edgeannot.vision.engine import Engine
from edgeannot_tools.convert.command import convert_app
from edgeannot_tools.convert.files import kind_of
from tests.tools.convert.tfjs_maker import GraphMaker

KERNEL = np.random.default_rng(3).normal(0, 0.5, (3, 3, 3, 4)).astype(np.float32)


def classifier(folder, *outputs):
    """A network that scales bytes itself, and names four classes."""
    maker = GraphMaker()
    maker.node("Mul", "scaled", maker.picture(-1, 16, 16, 3), maker.constant("factor", 1 / 127.5))
    maker.node("Sub", "picture", "scaled", maker.constant("one", 1.0))
    maker.conv("conv", "picture", KERNEL)
    maker.node("Relu", "relu", "conv")
    maker.node("Mean", "mean", "relu", maker.integers("axes", [1, 2]), keep_dims=False)
    maker.node("Softmax", "probabilities", "mean")
    return maker.write(folder, *outputs)


def convert(*words):
    return CliRunner().invoke(convert_app, [str(word) for word in words])


def test_a_folder_without_a_model_is_none(tmp_path):
    with pytest.raises(InputError, match=r"without saved_model\.pb or model\.json"):
        kind_of(tmp_path)


@pytest.mark.runtime
@pytest.mark.parametrize("by_folder", [True, False])
def test_a_model_becomes_a_file_with_a_card_named_after_its_folder(tmp_path, monkeypatch, by_folder):
    path = classifier(tmp_path / "Flower Net")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    monkeypatch.chdir(tmp_path)
    done = convert(path.parent if by_folder else path, "--labels", "names.txt")

    assert done.exit_code == 0, done.output
    assert "the picture's scaling was taken out of the graph; the card says it" in done.output
    card = read_card(tmp_path / "Flower Net.toml")
    card.verify_file()
    assert (card.name, card.head.kind, card.label_names()) == ("flower-net", "classify", ("a", "b", "c", "d"))
    assert (card.input.mean, card.input.std) == ((127.5,), (127.5,))
    assert card.provenance.source == "model.json"


@pytest.mark.runtime
def test_what_the_user_says_of_the_input_counts_more(tmp_path):
    done = convert(classifier(tmp_path), "-o", tmp_path / "net.tflite", "--input-range", "0..1")

    assert done.exit_code == 0, done.output
    assert read_card(tmp_path / "net.toml").input.std == (255,)


@pytest.mark.runtime
def test_the_network_ends_where_the_user_says(tmp_path):
    done = convert(classifier(tmp_path), "-o", tmp_path / "net.tflite", "--outputs", "relu, conv", "--no-card")

    assert done.exit_code == 0, done.output
    engine = Engine(tmp_path / "net.tflite")
    assert [(spec.name, spec.shape) for spec in engine.outputs] == [("relu", (1, 16, 16, 4)), ("conv", (1, 16, 16, 4))]


@pytest.mark.runtime
def test_outputs_of_a_tflite_file_can_be_chosen_too(tmp_path):
    convert(classifier(tmp_path), "-o", tmp_path / "net.tflite", "--no-card")
    done = convert(tmp_path / "net.tflite", "-o", tmp_path / "cut.tflite", "--outputs", "relu", "--no-card")

    assert done.exit_code == 0, done.output
    assert [spec.name for spec in Engine(tmp_path / "cut.tflite").outputs] == ["relu"]


@pytest.mark.runtime
def test_another_size_is_made_of_a_network_that_allows_it(tmp_path):
    path = classifier(tmp_path, "probabilities")
    done = convert(path, "-o", tmp_path / "net.tflite", "--size", "24")

    assert done.exit_code == 0, done.output
    assert "the input size was changed to 24x24" in done.output
    assert Engine(tmp_path / "net.tflite").input.shape == (1, 24, 24, 3)
    wide = convert(path, "-o", tmp_path / "wide.tflite", "--size", "24x16")
    assert isinstance(wide.exception, InputError)
    assert "another square only" in str(wide.exception)


def test_missing_weights_leave_nothing_behind(tmp_path):
    path = classifier(tmp_path / "net")
    shutil.copy(path, tmp_path / "alone.json")
    done = convert(tmp_path / "alone.json", "-o", tmp_path / "net.tflite")

    assert isinstance(done.exception, MissingError)
    assert "group1-shard1of1.bin is not there" in str(done.exception)
    assert not (tmp_path / "net.tflite").exists()


def test_a_json_of_another_kind_is_no_model(tmp_path):
    (tmp_path / "labels.json").write_text('["a", "b"]')
    done = convert(tmp_path / "labels.json", "-o", tmp_path / "net.tflite")

    assert isinstance(done.exception, InputError)
    assert "is no TensorFlow.js model" in str(done.exception)


def test_outputs_of_a_darknet_network_are_not_for_choosing(tmp_path):
    (tmp_path / "net.cfg").write_text("[net]\n")
    (tmp_path / "net.weights").write_bytes(b"")
    done = convert(tmp_path / "net.cfg", "-o", tmp_path / "net.tflite", "--outputs", "conv")

    assert isinstance(done.exception, InputError)
    assert "--outputs: a model of this kind ends in the heads" in str(done.exception)


def test_help_names_the_route_and_the_option():
    said = convert("--help").output

    assert "TF.js" in said
    assert "--outputs" in said
