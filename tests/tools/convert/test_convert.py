"""`edgeannot convert` as a person types it: what it takes, what it writes, and that mistakes leave nothing behind."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import InputError, MissingError
from edgeannot.cli.start import main
from edgeannot.vision.cards import read_card
from edgeannot_tools.convert.command import convert_app
from edgeannot_tools.convert.files import kind_of
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.output import write_together


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def edgeannot(monkeypatch, capsys):
    """The whole command in this process, with its exit code."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["edgeannot", "convert", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as exc:
            code = exc.code or 0
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def classifier(size=8, classes=3):
    """A float classifier that is nothing but a convolution, a mean and a softmax."""
    net = Net()
    random = np.random.default_rng(0)
    x = net.input("images", (1, size, size, 3))
    x = net.conv("conv", x, random.normal(0, 1, (classes, 3, 3, 3)).astype(np.float32), np.zeros(classes, np.float32))
    return net.outputs([net.softmax("probabilities", net.mean_hw("mean", x, keep_dims=False))])


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in" / "My Model.tflite"
    path.parent.mkdir()
    path.write_bytes(classifier().to_bytes())
    return path


def test_help_says_what_each_kind_of_source_needs(edgeannot):
    done = edgeannot("--help")

    assert done.returncode == 0
    for word in ("SOURCE", "Darknet", "onnx2tf 2.6", "TensorFlow", "SavedModel", "--mask", "--size", "--labels"):
        assert word in done.stdout


def test_model_labels_and_card_are_written_and_the_next_commands_named(edgeannot, source, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    done = edgeannot(source, "-o", tmp_path / "out" / "small.tflite", "--labels", tmp_path / "names.txt", "--name", "mine")

    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["small.labels.txt", "small.tflite", "small.toml"]
    card = read_card(tmp_path / "out" / "small.toml")
    card.verify_file()
    assert (card.name, card.task, card.label_names()) == ("mine", "classify", ("a", "b", "c"))
    assert card.provenance.made_by == "edgeannot convert 'My Model.tflite'"
    assert "edgeannot quantize" in done.stdout
    assert f"edgeannot run --model {tmp_path / 'out' / 'small.toml'}" in done.stdout
    assert "assumed" in done.stderr  # the input's range is known by convention only


def test_without_out_the_file_is_named_after_the_source_in_this_folder(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(convert_app, [str(source)], catch_exceptions=False).exit_code == 0

    assert read_card(tmp_path / "My Model-float.toml").name == "my-model-float"


def test_out_may_be_a_folder(source, tmp_path):
    (tmp_path / "models").mkdir()
    CliRunner().invoke(convert_app, [str(source), "-o", str(tmp_path / "models")], catch_exceptions=False)

    assert (tmp_path / "models" / "My Model-float.tflite").is_file()


def test_no_card_writes_the_model_alone(source, tmp_path):
    result = CliRunner().invoke(convert_app, [str(source), "-o", str(tmp_path / "o" / "m.tflite"), "--no-card"], catch_exceptions=False)

    assert [path.name for path in (tmp_path / "o").iterdir()] == ["m.tflite"]
    assert "no card" not in result.output


def test_converting_again_gives_the_same_bytes(source, tmp_path):
    hashes = []
    for _ in range(2):
        CliRunner().invoke(convert_app, [str(source), "-o", str(tmp_path / "m.tflite")], catch_exceptions=False)
        hashes.append([hashlib.sha256((tmp_path / f"m.{ending}").read_bytes()).hexdigest() for ending in ("tflite", "toml")])

    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("words", [[], ["--size", "big"], ["--size", "0"], ["--mask", "a,b"], ["--color", "red"], ["-o", "m.onnx"]])
def test_a_mistake_in_the_options_is_a_usage_error(words, edgeannot, source):
    done = edgeannot(*([source] if words else []), *words)

    assert done.returncode == 64


MISTAKES = {
    "nothing there": (lambda folder: folder / "gone.cfg", 66),
    "nothing there, ONNX": (lambda folder: folder / "gone.onnx", 66),
    "a folder that is no SavedModel": (lambda folder: folder, 65),
    "no model": (lambda folder: write(folder / "notes.txt", b"hello"), 65),
    "an empty file": (lambda folder: write(folder / "empty.tflite", b""), 65),
    "a truncated TFLite": (lambda folder: write(folder / "short.tflite", classifier().to_bytes()[:200]), 65),
    "garbage called ONNX": (lambda folder: write(folder / "x.onnx", b"hello, this is no protobuf"), 65),
    "a zip without tensors": (lambda folder: empty_zip(folder / "x.pth"), 65),
    "a pickle that calls a function": (lambda folder: write(folder / "x.pt", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."), 65),
}


def write(path, data):
    path.write_bytes(data)
    return path


def empty_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "nothing")
    return path


@pytest.mark.parametrize("name", MISTAKES)
def test_a_source_that_cannot_be_converted_is_one_sentence_and_leaves_nothing(name, edgeannot, tmp_path):
    make, code = MISTAKES[name]
    done = edgeannot(make(tmp_path), "-o", tmp_path / "out" / "m.tflite")

    assert done.returncode == code
    assert done.stderr.startswith("edgeannot: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_no_darknet_pair_is_given_alone(source, tmp_path):
    with pytest.raises(InputError, match="wanted one model, found 2 files"):
        CliRunner().invoke(convert_app, [str(source), str(source), "-o", str(tmp_path / "m.tflite")], catch_exceptions=False)


def test_the_source_is_never_overwritten(source):
    before = source.read_bytes()
    with pytest.raises(InputError, match="is the source itself"):
        CliRunner().invoke(convert_app, [str(source), "-o", str(source)], catch_exceptions=False)
    assert source.read_bytes() == before


def test_an_output_below_a_file_is_refused_before_the_work(source):
    with pytest.raises(InputError, match=r"cannot be written: .*My Model.tflite is a file"):
        CliRunner().invoke(convert_app, [str(source), "-o", str(source / "m.tflite")], catch_exceptions=False)


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(bound_by_permissions, source, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(InputError, match="may not be written"):
        CliRunner().invoke(convert_app, [str(source), "-o", str(tmp_path / "locked" / "m.tflite")], catch_exceptions=False)


def test_files_are_written_all_or_none(tmp_path):
    (tmp_path / "b.toml").mkdir()
    with pytest.raises(InputError, match=r"b\.toml cannot be written"):
        write_together({tmp_path / "a.tflite": b"1", tmp_path / "b.toml": b"2"})
    assert [path.name for path in tmp_path.iterdir()] == ["b.toml"]

    write_together({tmp_path / "a.tflite": b"1", tmp_path / "c.toml": b"2"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == {"a.tflite": b"1", "c.toml": b"2"}


def test_kinds_are_told_by_content_where_names_do_not(tmp_path):
    (tmp_path / "sm").mkdir()
    (tmp_path / "sm" / "saved_model.pb").write_bytes(b"")
    assert kind_of(tmp_path / "sm") == "keras"
    assert kind_of(write(tmp_path / "weights.bin", b"\x89HDF\r\n\x1a\n....")) == "keras"
    assert kind_of(write(tmp_path / "model.bin", classifier().to_bytes())) == "tflite"
    assert kind_of(tmp_path / "any.cfg") == "darknet"
    with pytest.raises(MissingError):
        kind_of(tmp_path / "gone.onnx")


@pytest.mark.converters
def test_the_state_of_an_efficientnet_lite_becomes_a_classifier(tmp_path):
    state = Path(__file__).parents[3] / ".cache" / "models" / "efficientnet-lite0.pth"
    if not state.is_file():
        pytest.skip("the state is not here; `make converters-test` fetches it")
    CliRunner().invoke(convert_app, [str(state), "-o", str(tmp_path / "lite0.tflite")], catch_exceptions=False)
    card = read_card(tmp_path / "lite0.toml")

    assert (card.task, card.input_wh, card.input.mean, card.input.std) == ("classify", (224, 224), (127.0,), (128.0,))
    with pytest.raises(InputError, match="takes 224x224 only"):
        CliRunner().invoke(convert_app, [str(state), "-o", str(tmp_path / "l.tflite"), "--size", "256"], catch_exceptions=False)
