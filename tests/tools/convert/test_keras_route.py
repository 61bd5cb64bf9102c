"""`edgeannot convert` for Keras and SavedModel: TensorFlow is asked for early, and its complaints become one sentence."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import ConfigError, InputError, ModelError
from edgeannot.vision.cards import read_card
from edgeannot.vision.engine import Engine
from edgeannot_tools.convert import keras_route
from edgeannot_tools.convert.command import convert_app
from tests.surroundings import asked

TENSORFLOW = asked("TENSORFLOW")
needs_tensorflow = pytest.mark.skipif(
    TENSORFLOW is None or shutil.which(TENSORFLOW) is None,
    reason="TensorFlow is not here; set EDGEANNOT_TENSORFLOW to a Python that has it",
)
MAKE = """
import sys
import numpy as np
import tensorflow as tf
folder = sys.argv[1]
tf.keras.utils.set_random_seed(0)
layers = tf.keras.layers
images = tf.keras.Input((16, 16, 3))
x = layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(images))
x = layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3, padding="same")(layers.ReLU(6.0)(x)))
model = tf.keras.Model(images, layers.Softmax()(layers.Dense(5)(x)))
model.save(f"{folder}/m.keras")
model.save(f"{folder}/m.h5")
model.export(f"{folder}/saved")
x = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
np.save(f"{folder}/x.npy", x)
np.save(f"{folder}/y.npy", model(x, training=False).numpy())
"""


def convert(source, out, *words):
    result = CliRunner().invoke(convert_app, [str(source), "-o", str(out), *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(b"never read here")
    return path


def reporting(folder, report):
    """A program in the place of Python with TensorFlow, that reports what the worker would."""
    path = folder / "python"
    found = json.dumps(report)
    path.write_text(f"#!/bin/sh\ncat > \"$4\" <<'END'\n{found}\nEND\nexit 1\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_without_tensorflow_the_first_thing_said_is_what_to_install(source, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_route.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs TensorFlow: install `edgeannot\[tools,keras\]`.*--tensorflow"):
        convert(source, tmp_path / "out" / "m.tflite")
    assert not (tmp_path / "out").exists()


def test_a_python_without_tensorflow_is_told_from_one_that_is_not_there(source, tmp_path):
    with pytest.raises(ConfigError, match=r"--tensorflow: .*gone is no program"):
        convert(source, tmp_path / "m.tflite", "--tensorflow", tmp_path / "gone")
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')  # no packages at all
    bare.chmod(0o755)
    with pytest.raises(ConfigError, match=r"TensorFlow cannot be imported by .*No module named 'tensorflow'"):
        convert(source, tmp_path / "m.tflite", "--tensorflow", bare)


@pytest.mark.parametrize(
    ("report", "error", "message"),
    [
        ({"kind": "read", "error": "File not found"}, InputError, r"TensorFlow cannot read .*m\.keras: File not found"),
        ({"kind": "shape", "error": "wanted one input, a picture; found 2"}, InputError, "found 2"),
        ({"kind": "convert", "error": "Flex ops: FlexBetainc\nDetails"}, ModelError, "no operator for FlexBetainc"),
        ({"kind": "convert", "error": "'tf.Betainc' op is neither a custom op"}, ModelError, "no operator for Betainc"),
        ({"kind": "convert", "error": "\n\nsome reason\nmore"}, ModelError, "cannot convert .*some reason$"),
    ],
)
def test_what_tensorflow_complains_of_is_one_sentence(report, error, message, source, tmp_path):
    with pytest.raises(error, match=message):
        convert(source, tmp_path / "out" / "m.tflite", "--tensorflow", reporting(tmp_path, report))
    assert not (tmp_path / "out").exists()


def test_a_process_that_dies_is_reported(source, tmp_path):
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\necho out of memory >&2\nkill -9 $$\n")
    killed.chmod(0o755)
    with pytest.raises(ModelError, match=r"died over .*exit code -9.*out of memory"):
        convert(source, tmp_path / "m.tflite", "--tensorflow", killed)


@pytest.mark.converters
@needs_tensorflow
def test_keras_h5_and_saved_model_give_what_keras_gives(tmp_path):
    subprocess.run([TENSORFLOW, "-c", MAKE, str(tmp_path)], check=True, capture_output=True, timeout=200)
    x, y = np.load(tmp_path / "x.npy"), np.load(tmp_path / "y.npy")
    for name in ("m.keras", "m.h5", "saved"):
        convert(tmp_path / name, tmp_path / f"{name}.tflite", "--tensorflow", TENSORFLOW)
        assert np.abs(Engine(tmp_path / f"{name}.tflite").run(x)[0].real() - y).max() < 1e-5
        assert read_card(tmp_path / f"{name}.toml").task == "classify"
