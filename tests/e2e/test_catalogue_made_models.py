"""The entries of the catalogue that are converted and quantized on the spot: pulled from a web server on the loopback.

Their ONNX files are on the makers' pages only. Small networks of the same form stand in for them, made by our own writer after the
published export code, and a program in the place of onnx2tf hands them over; `make converters-test` pulls a published YOLOX-nano with
the real one.
"""

from __future__ import annotations

import hashlib
import os
import stat

import pytest

from edgeannot.library.catalogue import Source, find_entry, read_catalogue
from edgeannot.library.obtain import PullOptions
from edgeannot.library.pull import installed, pull
from edgeannot.tflite.file import parse_tflite
from tests.made_networks import SIDE, nanodet_plus_network, yolox_network
from tests.tools.convert import onnx_maker
from tests.tools.convert.test_onnx_route import needs_onnx2tf, onnx2tf_command
from tests.web import web_site

ONNX = onnx_maker.model([onnx_maker.node("Relu", ["data"], ["y"])], {"data": [1, 3, SIDE, SIDE]}, {"y": [1, 3, SIDE, SIDE]}, {})
"""What is read of a file before onnx2tf is started: one input, a picture of a fixed size."""
CASES = {
    "yolox-nano": (
        lambda: yolox_network(80),
        {"kind": "yolox", "strides": (8, 16, 32)},
        {"color": "BGR", "resize": "letterbox-top-left", "mean": (0.0,), "std": (1.0,)},
    ),
    "yolox-tiny": (
        lambda: yolox_network(80),
        {"kind": "yolox", "strides": (8, 16, 32)},
        {"color": "BGR", "resize": "letterbox-top-left", "mean": (0.0,), "std": (1.0,)},
    ),
    "nanodet-plus-m-416": (
        lambda: nanodet_plus_network(80),
        {"kind": "dfl", "bins": 8, "center": 0.0, "strides": (8, 16, 32, 64)},
        {"color": "BGR", "resize": "stretch", "mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)},
    ),
}


def pulled(name, content, tmp_path):
    """The entry's model, with these bytes as its file at the end of its address, and what was said."""
    entry = find_entry(name, read_catalogue())
    (file,) = entry.files
    with web_site() as site:
        source = Source(url=site.put(f"/release/{file.name}", content))
        facts = {"sources": (source,), "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        entry = entry.model_copy(update={"files": (file.model_copy(update=facts),)})
        result = pull(entry, PullOptions(tmp_path / "models", tmp_path / "downloads"))
    assert installed(entry, tmp_path / "models") is not None
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "bin") == ["models"]
    return result


@pytest.mark.parametrize("name", CASES)
def test_an_onnx_file_becomes_an_int8_model_with_the_facts_of_its_entry(name, tmp_path, monkeypatch):
    make, head, facts = CASES[name]
    entry = find_entry(name, read_catalogue())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "made.tflite").write_bytes(make().to_bytes())
    fake = tmp_path / "bin" / "onnx2tf"
    fake.write_text(
        '#!/bin/sh\ntest "$1" = -V && echo 2.6.9 && exit\nmkdir -p "$4" && cp "$(dirname "$0")/made.tflite" "$4/m_float32.tflite"\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    result = pulled(name, ONNX, tmp_path)

    card = result.card
    assert (card.family, card.task, card.input_wh, len(card.label_names())) == (entry.family, "detect", (SIDE, SIDE), 80)
    assert {key: getattr(card.head, key) for key in head} == head
    assert {key: getattr(card.input, key) for key in facts} == facts
    assert (card.provenance.license, card.provenance.source_sha256) == ("Apache-2.0", hashlib.sha256(ONNX).hexdigest())
    assert card.provenance.calibration
    assert "assumed" not in " ".join(result.said), "the entry states what the file does not"
    model = parse_tflite(card.model_path.read_bytes(), name)
    assert [tensor.dtype for tensor in model.inputs] == ["uint8"]


@pytest.mark.converters
@needs_onnx2tf
def test_a_published_yolox_nano_is_converted_and_quantized(data_dir, tmp_path, monkeypatch):
    """Simplified by another project, so that its bytes are not those of the release; its layers are."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{os.path.dirname(onnx2tf_command())}")  # noqa: PTH120
    card = pulled("yolox-nano", (data_dir / "models" / "onnx" / "yolox_nano_coco416.onnx").read_bytes(), tmp_path).card

    assert (card.family, card.input_wh, card.input.color, card.input.resize) == ("yolo", (416, 416), "BGR", "letterbox-top-left")
    assert card.model_path.stat().st_size < 1_500_000
