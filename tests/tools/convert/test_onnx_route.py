"""`edgeannot convert` for ONNX: what the file says is read first, onnx2tf is found or asked for, and the model finds what it found."""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import ConfigError, InputError, MissingError, ModelError
from edgeannot.vision.cards import read_card
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot_tools.convert.command import convert_app
from edgeannot_tools.convert.onnx_route import find_onnx2tf, read_onnx
from tests.surroundings import asked
from tests.tools.agreement import disagreements
from tests.tools.convert import onnx_maker

CLASSES = "{0: 'cat', 1: 'dog', 2: 'it\\'s'}"


def onnx2tf_command() -> str | None:
    """The command for tests: EDGEANNOT_ONNX2TF names one of another environment."""
    named = asked("ONNX2TF") or "onnx2tf"
    beside = Path(sys.executable).parent / named
    return str(beside) if beside.is_file() else shutil.which(named)


needs_onnx2tf = pytest.mark.skipif(onnx2tf_command() is None, reason="onnx2tf is not here; set EDGEANNOT_ONNX2TF to its command")


def convert(source, out, *words):
    result = CliRunner().invoke(convert_app, [str(source), "-o", str(out), *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def write(path, data):
    path.write_bytes(data)
    return path


def fake(folder, script):
    """A program in the place of onnx2tf, for what the real one does only when something is wrong with it."""
    path = write(folder / "onnx2tf", f"#!/bin/sh\n{script}\n".encode())
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


CHAINED_ERRORS = """test "$1" = -V && echo 2.6.9 && exit
printf 'OSError: cause\\n\\nDuring handling of the above exception, another exception occurred:\\n\\nKeyError: x\\n'
exit 1"""


def test_a_file_says_its_inputs_operators_and_class_names(tmp_path):
    facts = read_onnx(write(tmp_path / "m.onnx", onnx_maker.columns_detector(metadata={"names": CLASSES, "license": "MIT"})))

    assert [(found.name, found.shape) for found in facts.inputs] == [("images", (1, 3, 64, 64))]
    assert {"Conv", "Concat", "Sigmoid"} <= facts.operators
    assert facts.class_names() == ("cat", "dog", "it's")
    assert facts.metadata["license"] == "MIT"
    assert facts.producer == "tests"


def test_sizes_that_are_not_fixed_are_unknown(tmp_path):
    facts = read_onnx(write(tmp_path / "m.onnx", onnx_maker.columns_detector(fixed=False)))

    assert facts.inputs[0].shape == (None, 3, None, None)
    assert facts.class_names() == ()


def test_weights_among_the_inputs_are_no_inputs(tmp_path):
    data = onnx_maker.model(
        [onnx_maker.node("Add", ["x", "w"], ["y"])], {"x": [1, 3, 8, 8], "w": [1]}, {"y": [1, 3, 8, 8]}, {"w": np.ones(1, np.float32)}
    )
    assert [found.name for found in read_onnx(write(tmp_path / "m.onnx", data)).inputs] == ["x"]


@pytest.mark.parametrize(
    "data", [b"", b"hello, this is no protobuf", onnx_maker.columns_detector()[:500], onnx_maker.columns_detector()[:-3]]
)
def test_what_is_no_whole_onnx_file_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="is not an ONNX model"):
        read_onnx(write(tmp_path / "m.onnx", data))


def test_any_cut_or_changed_byte_is_read_or_refused_but_never_breaks(tmp_path):
    data = onnx_maker.model([onnx_maker.node("Relu", ["x"], ["y"])], {"x": [1, 3, 8, 8]}, {"y": [1, 3, 8, 8]}, {})
    refused = 0
    for i in range(len(data)):
        for spoilt in (data[:i], data[:i] + bytes([data[i] ^ 0xFF]) + data[i + 1 :]):
            try:
                read_onnx(write(tmp_path / "m.onnx", spoilt))
            except InputError:
                refused += 1
    assert refused > len(data)


def test_without_onnx2tf_the_first_thing_said_is_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    source = write(tmp_path / "m.onnx", onnx_maker.columns_detector())
    with pytest.raises(ConfigError, match=r"needs onnx2tf 2\.6 or later.*pip install 'onnx2tf>=2\.6'.*--onnx2tf"):
        convert(source, tmp_path / "out" / "m.tflite")
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    with pytest.raises(ConfigError, match=r"needs Python 3\.12 or later \(this is 3\.11\.7\)"):
        find_onnx2tf(None)


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("echo 1.29.24", ConfigError, r"is version 1\.29\.24, wanted 2\.6 or later"),
        ("echo nonsense; exit 1", ConfigError, r"does not state its version \(nonsense\)"),
        ('test "$1" = -V && echo 2.6.9', ModelError, "onnx2tf cannot convert .*it said nothing"),
        ('test "$1" = -V && echo 2.6.9 || { echo "KeyError: here"; exit 1; }', ModelError, "onnx2tf cannot convert .*KeyError: here"),
        (
            CHAINED_ERRORS,
            ModelError,
            "cannot convert .*OSError: cause$",
        ),
        ('test "$1" = -V && echo 2.6.9 || exit 0', ModelError, r"onnx2tf 2\.6\.9 wrote no float32 model"),
    ],
)
def test_an_onnx2tf_that_does_not_do_its_work_is_reported(script, error, message, tmp_path):
    source = write(tmp_path / "m.onnx", onnx_maker.columns_detector())
    with pytest.raises(error, match=message):
        convert(source, tmp_path / "out" / "m.tflite", "--onnx2tf", fake(tmp_path, script))
    assert not (tmp_path / "out").exists()


def test_an_onnx2tf_that_is_not_there_is_named(tmp_path):
    source = write(tmp_path / "m.onnx", onnx_maker.columns_detector())
    with pytest.raises(ConfigError, match=r"--onnx2tf: .*gone is no program"):
        convert(source, tmp_path / "m.tflite", "--onnx2tf", tmp_path / "gone")


TWO_INPUTS = onnx_maker.model([onnx_maker.node("Add", ["a", "b"], ["y"])], {"a": [1, 3, 8, 8], "b": [1, 3, 8, 8]}, {"y": [1, 3, 8, 8]}, {})
FLAT = onnx_maker.model([onnx_maker.node("Relu", ["a"], ["y"])], {"a": [1, 10]}, {"y": [1, 10]}, {})
BATCH = onnx_maker.model([onnx_maker.node("Relu", ["a"], ["y"])], {"a": [4, 3, 8, 8]}, {"y": [4, 3, 8, 8]}, {})


@pytest.mark.parametrize(
    ("data", "words", "message"),
    [
        (TWO_INPUTS, [], r"wanted one input, a picture; found 2: a \(1, 3, 8, 8\), b"),
        (FLAT, [], "wanted an input of 4 dimensions"),
        (BATCH, [], "wanted a batch of 1"),
        (onnx_maker.columns_detector(fixed=False), [], r"is not fixed; choose one with --size"),
        (onnx_maker.columns_detector(), ["--size", "96"], "is fixed to an input of 64x64"),
    ],
)
def test_an_input_that_is_no_picture_of_a_known_size_is_refused_before_onnx2tf_starts(data, words, message, tmp_path):
    with pytest.raises(InputError, match=message):
        convert(write(tmp_path / "m.onnx", data), tmp_path / "m.tflite", "--onnx2tf", fake(tmp_path, "exit 1"), *words)


@pytest.mark.parametrize(
    ("location", "error"), [("weights.bin", MissingError), ("../weights.bin", InputError), ("/etc/hostname", InputError)]
)
def test_weights_that_are_not_beside_the_model_are_refused(location, error, tmp_path):
    extra = onnx_maker.field(5, onnx_maker.external_tensor("w", [1], location))
    data = onnx_maker.model([onnx_maker.node("Add", ["x", "w"], ["y"])], {"x": [1, 3, 8, 8]}, {"y": [1, 3, 8, 8]}, {}, extra=extra)
    with pytest.raises(error, match="weights"):
        convert(write(tmp_path / "m.onnx", data), tmp_path / "m.tflite", "--onnx2tf", fake(tmp_path, "echo 2.6.9"))


@pytest.mark.converters
@needs_onnx2tf
def test_a_detector_leaves_boxes_and_scores_apart_with_the_exporters_names(tmp_path):
    source = write(tmp_path / "m.onnx", onnx_maker.columns_detector(metadata={"names": CLASSES}))
    before = source.read_bytes()
    convert(source, tmp_path / "m.tflite", "--onnx2tf", onnx2tf_command())
    card = read_card(tmp_path / "m.toml")

    assert isinstance(card.head, Split)
    assert card.label_names() == ("cat", "dog", "it's")
    assert card.provenance.source == "m.onnx"
    assert source.read_bytes() == before, "onnx2tf changes its input in place; it must be given a copy"


@pytest.mark.converters
@needs_onnx2tf
def test_an_operator_that_tflite_lacks_is_named(tmp_path):
    node = onnx_maker.node("Frobnicate", ["images"], ["y"], domain="my.own")
    source = write(tmp_path / "m.onnx", onnx_maker.model([node], {"images": [1, 3, 8, 8]}, {"y": [1, 3, 8, 8]}, {}))
    with pytest.raises(ModelError, match=r"TFLite has no operator for FROBNICATE|cannot convert .*Frobnicate"):
        convert(source, tmp_path / "out" / "m.tflite", "--onnx2tf", onnx2tf_command())
    assert not (tmp_path / "out").exists()


@pytest.mark.converters
@needs_onnx2tf
def test_a_published_network_finds_through_the_pipeline_what_opencv_finds(data_dir, tmp_path):
    # A copy, whatever the code under test does: the test data stays as it is.
    source = write(tmp_path / "v2.onnx", (data_dir / "models" / "onnx" / "yolo-fastestv2.onnx").read_bytes())
    labels = data_dir / "models" / "labels_coco80.txt"
    convert(source, tmp_path / "v2.tflite", "--anchors", "yolo-fastestv2", "--labels", labels, "--onnx2tf", onnx2tf_command())
    card = read_card(tmp_path / "v2.toml")

    assert isinstance(card.head, YoloFastestV2)
    assert len(card.head.outputs) == 6, "box numbers, objectness and classes for each of two strides"
    assert disagreements(card, data_dir, "onnx_yolo-fastestv2") == []
