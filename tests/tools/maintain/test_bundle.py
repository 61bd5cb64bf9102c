"""The models that ship: their files are the ones their cards describe, they run, and they find what is on the sample photos."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgeannot
from edgeannot.base.errors import InputError, MissingError
from edgeannot.tflite.file import at_size
from edgeannot.vision.cards import read_card, read_cards
from edgeannot.vision.data import Frame
from edgeannot.vision.engine import Engine
from edgeannot.vision.pipeline import Pipeline
from edgeannot_maintain.bundle import MODELS, Built, write_model
from edgeannot_maintain.sources import PHOTOS, SCENE_NAME, Package, Part, coco_labels, read_part
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.interpreter import open_interpreter
from edgeannot_tools.quantize.calibration_set import calibration_views

SAMPLES = Path(edgeannot.__file__).parent / "samples"
LARGEST_TOTAL = 23_500_000
"""Bytes of the files as a wheel packs them; a wheel has to stay below 25 MB."""


def test_every_bundled_model_is_there_with_its_card_labels_and_sha256(models_dir):
    cards = {card.name: card for card in read_cards([models_dir])}
    assert set(cards) >= set(MODELS)
    for card in cards.values():
        card.verify_file()
        assert len(set(card.label_names())) == len(card.label_names()) > 1
        assert card.macs > 0
        assert card.provenance.license
        assert len(card.provenance.source_sha256) == 64
        assert {measured.numbers for measured in card.measured} <= {"float32", "int8"}
    assert sum(len(zlib.compress(card.model_path.read_bytes())) for card in cards.values()) < LARGEST_TOTAL


def test_the_samples_are_named_in_their_licences():
    licences = (SAMPLES / "LICENSES.md").read_text()
    names = {path.name for path in SAMPLES.glob("*.jpg")}
    assert names == {f"{photo.name}.jpg" for photo in PHOTOS if photo.sample} | {SCENE_NAME}
    assert all(name in licences for name in names)
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 1_500_000


@pytest.mark.runtime
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_bundled_model_takes_camera_bytes_and_runs(name, models_dir):
    card = read_card(models_dir / f"{name}.toml")
    graph = Graph.read(card.model_path)
    (image,) = graph.inputs
    scheme = graph.quantization(image)
    assert scheme is not None
    assert graph.dtype(image) == np.uint8
    # byte = real / scale + zero point with real = (byte - mean) / std: nothing is left to compute.
    assert scheme.zero_point[0] == card.input.mean[0]
    assert scheme.scale[0] == pytest.approx(1 / card.input.std[0], rel=1e-6)
    photo = cv2.resize(cv2.imread(str(SAMPLES / "cat.jpg")), card.input_wh)[None]
    interpreter = open_interpreter(card.model_path.read_bytes())
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], photo)
    interpreter.invoke()
    for detail in interpreter.get_output_details():
        assert detail["dtype"] == np.int8
        assert interpreter.get_tensor(detail["index"]).std() > 2


@pytest.mark.runtime
@pytest.mark.parametrize(
    ("name", "photo", "label"),
    [("nanodet-g", "cat", "cat"), ("ssdlite-mobilenet-v2-coco", "cat", "cat"), ("yolov3-tiny", "cameraman", "person")],
)
def test_a_bundled_detector_finds_what_is_there_at_every_size_of_its_card(name, photo, label, models_dir):
    card = read_card(models_dir / f"{name}.toml")
    frame = Frame(cv2.imread(str(SAMPLES / f"{photo}.jpg")), "test", 0, datetime.now(UTC), photo)

    assert len(card.input.sizes) > 2
    for size in card.input.sizes:
        found = Pipeline(card.at_size(size), Engine(at_size(card.model_path.read_bytes(), size)))(frame)  # its head checks all shapes
        assert label in found.labels


def test_a_large_package_is_announced_before_it_is_fetched(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError):
        read_part(Part(Package("npm", "toy", "1.0", "toy.tgz", megabytes=144), "file", "0" * 64), tmp_path)
    assert capsys.readouterr().out == f"fetching npm toy 1.0, 144 MB, which stay in {tmp_path}\n"


@pytest.mark.runtime
def test_the_classifier_knows_the_cat_and_the_coffee(models_dir):
    card = read_card(models_dir / "efficientnet-lite0.toml")
    interpreter = open_interpreter(card.model_path.read_bytes())
    labels = card.label_names()
    best = {}
    for name in ("cat", "coffee", "cameraman"):
        photo = cv2.cvtColor(cv2.resize(cv2.imread(str(SAMPLES / f"{name}.jpg")), card.input_wh), cv2.COLOR_BGR2RGB)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], photo[None])
        interpreter.invoke()
        best[name] = labels[int(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).argmax())]
    assert best == {"cat": "Egyptian cat", "coffee": "espresso", "cameraman": "tripod"}


def test_coco_has_eighty_labels():
    assert len(set(coco_labels())) == 80
    assert coco_labels()[0] == "person"
    assert coco_labels()[79] == "toothbrush"


@pytest.mark.parametrize("size_wh", [(64, 64), (75, 33)])
def test_calibration_views_have_the_asked_size_and_are_the_same_each_time(size_wh):
    photos = [cv2.imread(str(SAMPLES / "cat.jpg")), cv2.imread(str(SAMPLES / "coffee.jpg"))]
    first, second = (list(calibration_views(photos, size_wh)) for _ in range(2))
    assert len(first) == 8
    assert {view.shape for view in first} == {(size_wh[1], size_wh[0], 3)}
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


BUILT = Built(
    "toy",
    b"a model",
    {
        "task": "classify",
        "family": "other",
        "input": {"width": 8, "height": 8, "mean": [127.5], "std": [127.5]},
        "head": {"kind": "classify"},
        "provenance": {"license": 'so-called "free"'},
    },
    ("cat", "dog"),
)


def test_a_written_card_is_read_back(tmp_path):
    line = write_model(BUILT, tmp_path)
    card = read_card(tmp_path / "toy.toml")
    card.verify_file()
    assert card.label_names() == ("cat", "dog")
    assert card.input.mean == (127.5,)
    assert card.provenance.license == 'so-called "free"'
    assert "new" in line


def test_measured_figures_stay_with_the_model_they_were_measured_on(tmp_path):
    write_model(BUILT, tmp_path)
    path = tmp_path / "toy.toml"
    path.write_text(path.read_text() + '\n[[measured]]\ndataset = "set"\nsize = 8\nnumbers = "int8"\npictures = 5\ntop1 = 0.5\n')
    assert "as before" in write_model(BUILT, tmp_path)
    assert read_card(path).measured[0].top1 == 0.5
    other = Built("toy", b"another model", BUILT.card, BUILT.labels)
    assert "CHANGED" in write_model(other, tmp_path)
    assert read_card(path).measured == ()


def toy_part(cache: Path, *, tar: bool, sha256: str | None = None) -> Part:
    """A part of a package that is in the cache already: bytes 2 to 4 of a file."""
    name = "toy.tar.gz" if tar else "toy.whl"
    if tar:
        (cache / "file").write_bytes(b"0123456")
        with tarfile.open(cache / name, "w:gz") as archive:
            archive.add(cache / "file", "inner/file")
    else:
        with zipfile.ZipFile(cache / name, "w") as archive:
            archive.writestr("inner/file", b"0123456")
    return Part(Package("pip", "toy", "1.0", name), "inner/file", sha256 or hashlib.sha256(b"23").hexdigest(), 2, 4)


@pytest.mark.parametrize("tar", [True, False])
def test_a_part_is_read_from_the_cache(tar, tmp_path):
    assert read_part(toy_part(tmp_path, tar=tar), tmp_path) == b"23"


def test_a_part_with_another_sha256_is_refused(tmp_path):
    with pytest.raises(InputError, match="wanted 0000"):
        read_part(toy_part(tmp_path, tar=False, sha256="0" * 64), tmp_path)


def test_a_part_that_is_not_in_the_package_is_named(tmp_path):
    part = toy_part(tmp_path, tar=True)
    with pytest.raises(InputError, match="no readable file other"):
        read_part(Part(part.package, "other", part.sha256), tmp_path)


def test_a_client_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="install npm"):
        read_part(Part(Package("npm", "toy", "1.0", "toy.tgz"), "file", "0" * 64), tmp_path)
