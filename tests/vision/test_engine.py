"""The door to the runtime: what it reads of a model, what it refuses and with which words."""

from pathlib import Path

import numpy as np
import pytest

from edgeannot.base.errors import ConfigError, ModelError
from edgeannot.vision import engine
from edgeannot.vision.engine import Engine, load_runtime

pytestmark = pytest.mark.runtime


@pytest.fixture(scope="module")
def yolo(models_dir):
    return Engine(models_dir / "yolov3-tiny.tflite")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match="no model file at"):
        Engine(tmp_path / "none.tflite")


@pytest.mark.parametrize("content", [b"", b"TFL3", b"not a model at all, but long enough" * 10])
def test_what_is_not_a_model_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "x.tflite"
    path.write_bytes(content)

    with pytest.raises(ModelError, match="refuses this model") as caught:
        Engine(path)
    assert "\n" not in str(caught.value)


def test_bytes_are_called_by_the_name_of_their_file():
    with pytest.raises(ModelError, match=r"^yolo\.tflite at 96x96: the runtime .* refuses this model"):
        Engine(b"not a model", name="yolo.tflite at 96x96")


def test_input_and_outputs_are_described_as_stored(yolo):
    assert yolo.input.shape == (1, 416, 416, 3)
    assert yolo.input.dtype == np.uint8
    assert yolo.input.scale == pytest.approx(1 / 255)
    assert [spec.shape for spec in yolo.outputs] == [(1, 13, 13, 255), (1, 26, 26, 255)]
    assert all(spec.quantized for spec in yolo.outputs)


def test_a_run_gives_every_output_with_its_own_memory(yolo):
    first = yolo.run(np.zeros(yolo.input.shape, np.uint8))
    before = first[0].values.copy()
    yolo.run(np.full(yolo.input.shape, 255, np.uint8))

    assert (first[0].values == before).all()


def test_bytes_and_path_are_the_same_model(yolo, models_dir):
    other = Engine((models_dir / "yolov3-tiny.tflite").read_bytes())
    picture = np.random.default_rng(1).integers(0, 256, yolo.input.shape, dtype=np.uint8)

    assert all((a.values == b.values).all() for a, b in zip(yolo.run(picture), other.run(picture), strict=True))


@pytest.mark.parametrize("wrong", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 416, 416, 3), np.float32)])
def test_a_tensor_of_another_shape_or_type_is_refused(yolo, wrong):
    with pytest.raises(ModelError, match="running the model failed"):
        yolo.run(wrong)


def test_a_model_for_other_hardware_is_refused_by_name(data_dir):
    with pytest.raises(ModelError, match="edgetpu-custom-op"):
        Engine(data_dir / "models" / "NEG_edgetpu_compiled.tflite")


def test_numpy_2_under_tflite_runtime_is_said_at_once(monkeypatch):
    monkeypatch.setattr(engine.np, "__version__", "2.4.6")
    monkeypatch.setattr(engine, "installed_runtimes", lambda: ["tflite-runtime"])

    with pytest.raises(ConfigError, match=r"needs numpy < 2, found numpy 2\.4\.6"):
        load_runtime("tflite-runtime")


def test_a_missing_runtime_says_what_to_install(monkeypatch):
    monkeypatch.setattr(engine, "installed_runtimes", list)

    with pytest.raises(ConfigError, match="install `ai-edge-litert`"):
        load_runtime("auto")


def test_stderr_still_works_after_a_model_was_loaded(yolo, capfd):
    import os

    Engine(Path(yolo._name))
    os.write(2, b"still here")

    assert "still here" in capfd.readouterr().err
