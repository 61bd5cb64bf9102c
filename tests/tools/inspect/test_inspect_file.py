"""`edgeannot inspect`: the tables, the JSON, and what it makes of files that are not whole."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import EdgeannotError, MissingError, ModelError
from edgeannot.tflite.file import read_tflite
from edgeannot.vision.engine import installed_runtimes
from edgeannot_tools.inspect.command import inspect_app
from edgeannot_tools.inspect.inspection import inspect_file
from tests.metadata_maker import detector_metadata, tflite_metadata
from tests.tflite_maker import Maker, with_files, write


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(inspect_app, [str(word) for word in words])


def report(run, *words) -> dict:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_a_graph_that_does_nothing_is_shown(run, tmp_path):
    maker = Maker()
    path = write(tmp_path / "m.tflite", maker.outputs(maker.input((1, 4, 4, 3))))

    shown = report(run, path, "--no-run")

    assert (shown["macs"], shown["parameters"], shown["operators"]) == (0, 0, [])
    assert run(path, "--no-run", "--layers").exit_code == 0


@pytest.mark.runtime
def test_the_bundled_model_in_json(run, models_dir):
    path = models_dir / "yolov3-tiny.tflite"
    shown = report(run, path)

    assert (shown["schema"], shown["bytes"], shown["macs"]) == (1, path.stat().st_size, 2_782_480_896)
    assert (shown["numbers"]["kind"], shown["numbers"]["per_channel_layers"]) == ("integer", 13)
    assert [tensor["name"] for tensor in shown["outputs"]] == ["head0", "head1"]
    assert shown["inputs"][0]["quantization"]["scales"] == [pytest.approx(1 / 255)]
    assert len(shown["tensors"]) == len(read_tflite(path).graph.tensors)
    assert len(shown["operators"]) == 33
    assert sum(operator["macs"] for operator in shown["operators"]) == shown["macs"]
    assert 4e6 < shown["memory"]["peak_bytes"] < 10e6
    assert [view["runtime"] for view in shown["runtimes"]] == installed_runtimes()
    for view in shown["runtimes"]:
        taken = {i for part in view["partitions"] for i in part}
        assert taken == {op["index"] for op in shown["operators"] if op["delegated"][view["runtime"]]}
        assert view["planned_bytes"] > 1e6
    assert (shown["suggestion"]["head"], shown["suggestion"]["card"]) == ("yolo-grid", "written")


def test_litert_takes_nearly_all_of_the_bundled_model(run, models_dir):
    if "litert" not in installed_runtimes():
        pytest.skip("LiteRT is not installed, or left out of this run")
    view = next(view for view in report(run, models_dir / "yolov3-tiny.tflite")["runtimes"] if view["runtime"] == "litert")

    assert len(view["partitions"]) == 2
    assert sum(map(len, view["partitions"])) == 31


def test_a_card_beside_another_file_is_not_taken_for_its_own(models_dir, tmp_path):
    for ending in ("toml", "labels.txt"):
        shutil.copy(models_dir / f"ssdlite-mobilenet-v2-coco.{ending}", tmp_path / f"m.{ending}")
    maker = Maker()
    x = maker.input((1, 16, 16, 3))
    path = write(tmp_path / "m.tflite", maker.outputs(maker.softmax(maker.stirred(x, [[0.0, 2.0, 1.0, 0.5, 0.1, 0.2, 0.3]]))))

    suggestion = inspect_file(path).suggestion

    assert suggestion is not None
    assert not suggestion.written
    assert suggestion.card is None or suggestion.card.head.kind == "classify"


def test_the_tables_name_what_matters(run, models_dir):
    shown = run(models_dir / "ssdlite-mobilenet-v2-coco.tflite").output

    for words in (
        "integer, int8 activations",
        "of 88 layers with weights: 3 float32",
        "733.1 M multiply-accumulates",
        "4.30 M parameters",
        "BoxEncodingPredictor",
    ):
        assert words in shown
    for title in ("inputs and outputs", "operators", "runtimes on this machine", "heaviest layers"):
        assert title in shown
    assert "█" in shown
    assert "ssd-anchors, to detect, ssd, input 300x300, 80 labels; as its card" in shown


def test_all_layers_and_tensors_are_shown_when_asked_for(run, models_dir):
    path = models_dir / "yolov3-tiny.tflite"
    short, long = run(path, "--no-run").output, run(path, "--no-run", "--layers", "--tensors").output

    names = [tensor.name for tensor in read_tflite(path).graph.tensors]
    assert all(name in long for name in names)
    assert not all(name in short for name in names)
    assert "operators in their order" in long
    assert "heaviest layers" not in long
    assert "runtimes on this machine" not in short + long


def test_labels_in_the_file_are_shown(run, tmp_path):
    maker = Maker()
    x = maker.input((1, 16, 16, 3))
    raw = maker.outputs(maker.softmax(maker.stirred(x, [[0.0, 2.0, 1.0]])))
    path = write(tmp_path / "m.tflite", with_files(raw, {"labels.txt": "cat\ndog\nowl\n"}))

    assert report(run, path, "--no-run")["metadata"]["labels"] == {"file": "labels.txt", "names": ["cat", "dog", "owl"]}
    assert "labels.txt in the file: 3 lines, cat, dog, owl" in run(path, "--no-run").output


def test_notes_about_a_detector_in_the_file_are_shown(run, tmp_path):
    maker = Maker()
    x = maker.input((1, 16, 16, 3))
    maker.metadata("TFLITE_METADATA", tflite_metadata(detector_metadata([[0.5, 0.5, 0.25, 0.25]], classes=3)))
    path = write(tmp_path / "m.tflite", maker.outputs(maker.softmax(maker.stirred(x, [[0.0, 2.0, 1.0]]))))

    assert report(run, path, "--no-run")["metadata"]["detector"] == {
        "anchors": 1, "classes": 3, "numbers": 4, "scales_yxhw": [1.0, 1.0, 1.0, 1.0], "exponential": True, "sigmoid": False,
    }  # fmt: skip
    assert "MediaPipe's notes: 1 anchor, 3 classes" in run(path, "--no-run").output


def test_names_are_shown_as_they_are(run, tmp_path):
    """rich reads square brackets as its own marks."""
    maker = Maker()
    x = maker.input((1, 2, 2, 3), name="[bold]in[/bold]")
    path = write(tmp_path / "m.tflite", maker.outputs(maker.logistic(x, name="[/]out")))

    shown = run(path, "--no-run", "--layers").output

    assert "[bold]in[/bold]" in shown
    assert "[/]out" in shown


def test_what_no_runtime_loads_is_still_shown(run, tmp_path):
    maker = Maker()
    x = maker.input((1, 4, 4, 3), "uint8", 1 / 255)
    path = write(tmp_path / "m.tflite", maker.outputs(*maker.custom("edgetpu-custom-op", [x], [(1, 3)])))

    shown = report(run, path)

    assert all("edgetpu-custom-op" in view["refused"] for view in shown["runtimes"])
    assert shown["suggestion"]["head"] is None
    assert "Edge TPU" in shown["suggestion"]["refused"]
    assert shown["findings"][0]["severity"] == "error"
    assert "does not load it" in run(path).output


@pytest.mark.parametrize("size", [0, 4, 30, 3000])
def test_a_file_that_is_cut_off_is_one_sentence(run, models_dir, tmp_path, size):
    path = write(tmp_path / "m.tflite", (models_dir / "yolov3-tiny.tflite").read_bytes()[:size])
    result = run(path)

    assert isinstance(result.exception, ModelError)
    assert result.exception.exit_code == 78
    assert str(path) in str(result.exception)
    assert "\n" not in str(result.exception)


def test_other_things_than_models_are_named(run, tmp_path):
    result = run(tmp_path / "none.tflite")
    assert isinstance(result.exception, MissingError)
    assert result.exception.exit_code == 66
    for content, what in ((b"PK\x03\x04" + bytes(20), "zip"), (b"<html><body>", "web page")):
        result = run(write(tmp_path / "m.tflite", content))
        assert isinstance(result.exception, ModelError)
        assert what in str(result.exception)
    assert isinstance(run(tmp_path).exception, ModelError)


def test_a_layer_without_its_weights_is_damage(tmp_path):
    maker = Maker()
    x = maker.input((1, 4, 4, 3))
    for name, inputs in (("CONV_2D", [x]), ("FULLY_CONNECTED", [x, x]), ("DEPTHWISE_CONV_2D", [x, -1]), ("BATCH_MATMUL", [x])):
        other = Maker()
        assert other.input((1, 4, 4, 3)) == x
        path = write(tmp_path / "m.tflite", other.outputs(other.op(name, inputs, (1, 2))))
        with pytest.raises(ModelError, match=rf"operator 0 \({name}\) lacks"):
            inspect_file(path)


def test_damage_anywhere_is_an_answer_or_a_sentence(tmp_path):
    """One byte at a time, of those that are no weights; only reading, since each run costs a process."""
    maker = Maker()
    x = maker.input((1, 4, 4, 3), "uint8", 1 / 255)
    weights = maker.constant([[1.0] * 48] * 3)
    y = maker.op("FULLY_CONNECTED", [maker.op("RESHAPE", [x], (1, 48)), weights], (1, 3))
    raw = with_files(maker.outputs(maker.logistic(y)), {"labels.txt": "cat\ndog\nowl\n"})
    first_weight = raw.index(np.ones(48, np.float32).tobytes())
    answers = 0
    for at in (*range(8, first_weight, 3), *range(first_weight + 4 * 48 * 3, len(raw), 3)):
        damaged = bytearray(raw)
        damaged[at] ^= 0xFF
        try:
            answers += inspect_file(write(tmp_path / "m.tflite", bytes(damaged)), run=False).macs >= 0
        except EdgeannotError:
            continue
    assert answers


def test_every_real_file_has_an_answer(data_dir):
    for path in sorted((data_dir / "models").glob("*.tflite")):
        found = inspect_file(path, run=False)

        assert found.costs, path
        assert found.peak.bytes > 0, path
        assert found.macs > 1e6 or path.name.startswith("NEG_"), path
