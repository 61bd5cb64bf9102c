"""One kind of fault has one exit code, whichever command meets it (docs/design.md, "Exit codes")."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.places import bundled_folder
from edgeannot.cli.app import app

PHOTO = str(bundled_folder().parent / "edgeannot/samples/astronaut.jpg")
NO_INPUT = """
run none.jpg
run --config none.toml
config --config none.toml
config check none.toml
service install --user --config none.toml
send none.jpg
annotate none.jpg
inspect none.tflite
quantize none.tflite -o out.tflite
convert none.tflite
models add none.tflite
evaluate nanodet-g --data none
datasets check none
datasets stats none
teach detect none --name own
teach classify none --name own
"""
UNKNOWN_MODEL = """
run photo.jpg --model none
run --model none --once
bench none
annotate photo.jpg --model none
evaluate none --data empty
models show none
models verify none
models remove none
models pull none
"""
WRONG_MODEL = """
run photo.jpg --model wrong.toml
inspect broken.tflite
models add broken.tflite
"""
WRONG_WEIGHTS = """
quantize broken.tflite -o out.tflite
convert broken.tflite
convert broken.onnx
"""
WRONG_SETTING = """
run --config wrong.toml
config --config wrong.toml
config check wrong.toml
service install --user --config wrong.toml
run --threads 0
run --profile huge
run --min-score 7
run --labels ,
run --every-n 2
run --mqtt http://here
config --profile huge
listen http://here
send photo.jpg --mqtt http://here
send photo.jpg --topic a/#
"""
WRONG_OPTION = """
run --nosuch
run --threads many
service install --name a/b
bench --threads 0
bench --threads 4096
bench --runtime nosuch
models add broken.tflite --set nosuch
evaluate nanodet-g --data empty --runtime nosuch
quantize broken.tflite -o out.tflite --runtime nosuch
annotate photo.jpg --min-score 7
datasets check empty --format nosuch
"""
NO_PICTURES = """
send empty
annotate empty
datasets check empty
datasets stats empty
evaluate nanodet-g --data empty
teach detect empty --name own
teach classify empty --name own
"""
NO_BROKER = """
listen mqtt://127.0.0.1:1
send photo.jpg --mqtt mqtt://127.0.0.1:1
"""
FAULTS = {
    "no such input: 66": NO_INPUT,
    "no such model: 78": UNKNOWN_MODEL,
    "a wrong model file: 78": WRONG_MODEL,
    "weights that cannot be converted: 65": WRONG_WEIGHTS,
    "a wrong setting, in the file or as an option: 78": WRONG_SETTING,
    "a wrong option: 64": WRONG_OPTION,
    "a folder without pictures: 65": NO_PICTURES,
    "no broker: 69": NO_BROKER,
}


@pytest.mark.parametrize(("fault", "line"), [(fault, line) for fault, lines in FAULTS.items() for line in lines.strip().splitlines()])
def test_a_kind_of_fault_has_one_code(tmp_path, monkeypatch, fault, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "photo.jpg").symlink_to(PHOTO)
    (tmp_path / "empty").mkdir()
    for name in ("broken.tflite", "broken.onnx"):
        (tmp_path / name).write_bytes(b"no model at all")
    (tmp_path / "wrong.toml").write_text('profil = "low"\n')

    result = CliRunner().invoke(app, line.split())

    code = result.exception.exit_code if isinstance(result.exception, EdgeannotError) else result.exit_code
    assert {2: 64}.get(code, code) == int(fault.rpartition(": ")[2]), result.output + str(result.exception)
