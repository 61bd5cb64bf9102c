"""The whole way from a model and a labelled set to figures, pictures and a card, with the bundled model on the sample photos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import edgeannot
from edgeannot.base.errors import InputError, MissingError, ModelError, UsageError
from edgeannot.card_inference import propose
from edgeannot.tflite.file import dtype_of
from edgeannot.vision.cards import read_card
from edgeannot.vision.data import Frame
from edgeannot.vision.decode import read_picture
from edgeannot.vision.pipeline import load_pipeline
from edgeannot_tools.datasets import Dataset, LabelledObject, Picture, save_dataset
from edgeannot_tools.evaluate.command import evaluate_app, find_model
from edgeannot_tools.evaluate.drawings import _ticks, save_error_sheet, worst_misses
from edgeannot_tools.evaluate.measure import evaluate_model, match_model
from tests.made_networks import fomo_network

MODEL = "yolov3-tiny"
SIZE = 224
SAMPLES = Path(edgeannot.__file__).parent / "samples"


@pytest.fixture(scope="module")
def card(models_dir):
    """The bundled model at a small input."""
    return find_model(str(models_dir / f"{MODEL}.toml@{SIZE}"))


@pytest.fixture(scope="module")
def labelled(card) -> Dataset:
    """The sample photos, labelled by the model itself: it must agree with itself wholly."""
    return labelled_by(card)


def labelled_by(card) -> Dataset:
    pipeline = load_pipeline(card)
    names = card.label_names()
    pictures = []
    for number, path in enumerate(sorted(SAMPLES.glob("*.jpg"))):
        image = read_picture(path).image
        found = pipeline(Frame(image, "test", number, datetime.now(UTC), path.name, path)).detections
        objects = [LabelledObject(int(c), tuple(map(float, box))) for box, c in zip(found.boxes, found.classes, strict=True)]
        pictures.append(Picture(path.name, (image.shape[1], image.shape[0]), tuple(objects), path))
    assert sum(len(picture.objects) for picture in pictures) >= 3
    return Dataset(names, tuple(pictures))


def test_a_model_agrees_with_itself(card, labelled):
    result = evaluate_model(card, labelled, match_model(card, labelled))

    assert result.accuracy.map50 == pytest.approx(1.0)
    assert result.accuracy.map50_95 == pytest.approx(1.0)
    assert result.accuracy.mean_iou == pytest.approx(1.0, abs=1e-5)
    assert result.accuracy.best_score >= card.defaults.min_score
    assert result.coco.ap == pytest.approx(1.0)
    assert (result.input_wh, result.numbers, result.threads) == ((SIZE, SIZE), "int8", 1)
    assert result.timing.inference > 0
    assert result.timing.total == pytest.approx(result.timing.preprocess + result.timing.inference + result.timing.postprocess)
    assert worst_misses(result, labelled.class_names, 10) == []


def test_numbers_are_what_the_network_calculates_with(data_dir, card):
    """int8 weights behind float inputs are not int8 arithmetic."""
    assert dtype_of(card.model_path) == "int8"
    assert dtype_of(data_dir / "models" / "yolov8n_640_int8w_f32io.tflite") == "float32"
    assert dtype_of(data_dir / "models" / "yolov5n_640_fp16.tflite") == "float32"
    assert dtype_of(data_dir / "models" / "yolov8n_224_int8io.tflite") == "int8"


def test_objects_that_are_not_there_make_the_sheet(card, labelled, tmp_path):
    """A large box that nobody can find comes first, in green; what the model finds beside it is wrong, in red."""
    first = labelled.pictures[0]
    width, height = first.size_wh
    invented = LabelledObject(labelled.class_names.index("toaster"), (2.0, 2.0, width - 2.0, height - 2.0))
    data = Dataset(labelled.class_names, (Picture(first.name, first.size_wh, (invented,), first.path),))
    result = evaluate_model(card, data, match_model(card, data))

    count = save_error_sheet(result, data.class_names, tmp_path / "sheet.png", limit=5)
    misses = worst_misses(result, data.class_names, 5)

    assert misses[0].caption.startswith("overlooked: toaster (")
    assert count == len(misses)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (30 + 265 * -(-count // 4), 1240, 3)
    green = (sheet[..., 1].astype(int) > 180) & (sheet[..., 0] < 120) & (sheet[..., 2] < 120)
    assert green[30:255, :300].sum() > 500


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(evaluate_app, [str(word) for word in words])


@pytest.fixture
def on_disk(labelled, tmp_path) -> Path:
    save_dataset(labelled, tmp_path / "set", "coco")
    return tmp_path / "set"


@pytest.fixture
def own_models(models_dir, tmp_path) -> Path:
    """A copy of the bundled model, whose card may be written to."""
    folder = tmp_path / "models"
    folder.mkdir()
    for file in models_dir.glob(f"{MODEL}.*"):
        shutil.copy(file, folder)
    return folder


def test_the_command_prints_records_and_draws(run, on_disk, own_models, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    path = own_models / f"{MODEL}.toml"
    before = path.read_text()

    result = run(
        *(f"{path}@{SIZE}", f"{path}@192", "--data", on_disk, "--json", tmp_path / "r.json", "--plot", tmp_path / "p.png"),
        *("--sheet", tmp_path / "s.png", "--write-card", "--set-name", "samples"),
    )

    assert result.exit_code == 0, result.output
    assert f"{MODEL}@{SIZE}" in result.output
    for name in ("r.json", "p.png", f"s-{MODEL}-{SIZE}.png", f"s-{MODEL}-192.png"):
        assert f"wrote {tmp_path / name}" in result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["models"][0]["model"], report["models"][0]["map50"]) == (f"{MODEL}@{SIZE}", 1.0)
    assert report["models"][0]["coco"]["ap50"] == 1.0
    assert report["models"][0]["ms"]["total"] > 0
    assert cv2.imread(str(tmp_path / "p.png")).shape == (600, 960, 3)
    assert {file.name for file in tmp_path.glob("s-*.png")} == {f"s-{MODEL}-{SIZE}.png", f"s-{MODEL}-192.png"}
    measured = {row.size: row for row in read_card(path).measured if row.dataset == "samples"}
    assert measured.keys() == {SIZE, 192}
    assert (measured[SIZE].map50, measured[SIZE].numbers) == (1.0, "int8")
    assert (measured[SIZE].map50_margin, measured[SIZE].map50_95_margin) == (0.0, 0.0)
    assert report["models"][0]["map50_margin"] == 0.0
    assert path.read_text().startswith(before.rstrip("\n").partition("[[measured]]")[0].rstrip("\n"))


def test_classes_of_other_names_meet_by_a_mapping(run, labelled, models_dir, tmp_path):
    names = tuple("Mensch" if name == "person" else name for name in labelled.class_names)
    save_dataset(Dataset(names, labelled.pictures), tmp_path / "set", "yolo")
    (tmp_path / "map.toml").write_text('[classes]\n"person" = "Mensch"\n')
    model = f"{models_dir / MODEL}.toml@{SIZE}"

    without = run(model, "--data", tmp_path / "set", "--json", tmp_path / "without.json", "--no-coco")
    with_map = run(model, "--data", tmp_path / "set", "--json", tmp_path / "with.json", "--no-coco", "--class-map", tmp_path / "map.toml")

    assert without.exit_code == with_map.exit_code == 0
    left = [json.loads((tmp_path / f"{name}.json").read_text())["models"][0]["left_out"] for name in ("without", "with")]
    assert left[0]["model_classes"] == ["person"]
    assert left[0]["objects"] > 0
    assert left[1] == {"model_classes": [], "set_classes": [], "objects": 0}
    assert " left out, of classes" in without.output


def test_a_part_of_the_set_can_be_named(run, labelled, models_dir, tmp_path):
    parts = tuple(Picture(p.name, p.size_wh, p.objects, p.path, "val" if n else "train") for n, p in enumerate(labelled.pictures))
    save_dataset(Dataset(labelled.class_names, parts), tmp_path / "set", "yolo")
    model = f"{models_dir / MODEL}.toml@192"

    assert run(model, "--data", tmp_path / "set", "--split", "train", "--no-coco", "--json", tmp_path / "r.json").exit_code == 0
    assert json.loads((tmp_path / "r.json").read_text())["models"][0]["pictures"] == 1
    wrong = run(model, "--data", tmp_path / "set", "--split", "test")
    assert isinstance(wrong.exception, InputError)
    assert "has no split 'test'; it has: train, val" in str(wrong.exception)


def test_what_cannot_be_measured_is_said(run, on_disk, models_dir, tmp_path):
    bundled = models_dir / f"{MODEL}.toml"
    (tmp_path / "x.tflite").write_bytes(b"")
    for words, error, message in (
        (("nonesuch", "--data", on_disk), ModelError, "no model called 'nonesuch'"),
        ((tmp_path / "x.tflite", "--data", on_disk), MissingError, "create one with `edgeannot models add"),
        ((tmp_path / "x.toml", "--data", on_disk), MissingError, "no model card at"),
        ((bundled, "--data", tmp_path / "none"), MissingError, "no labelled set at"),
    ):
        result = run(*words)
        assert isinstance(result.exception, error), result.output
        assert message in str(result.exception)


def test_added_models_are_found_in_the_data_directory_that_is_named(run, on_disk, own_models, tmp_path):
    """`own_models` is the folder models/ of tmp_path."""
    card = (own_models / f"{MODEL}.toml").rename(own_models / "added-one.toml")
    card.write_text(card.read_text().replace(f'name = "{MODEL}"', 'name = "added-one"', 1))

    found = run(f"added-one@{SIZE}", "--data", on_disk, "--data-dir", tmp_path, "--no-coco", "--json", tmp_path / "r.json")

    assert found.exit_code == 0, found.output
    assert json.loads((tmp_path / "r.json").read_text())["models"][0]["model"] == f"added-one@{SIZE}"
    assert "no model called 'added-one'" in str(run("added-one", "--data", on_disk, "--data-dir", tmp_path / "other").exception)


def test_an_embedding_is_named_as_what_cannot_be_measured(run, on_disk, own_models):
    card = own_models / f"{MODEL}.toml"
    head = card.read_text().index("[head]")
    rest = card.read_text().index("[labels]")
    text = card.read_text()[:head] + '[head]\nkind = "embed"\noutput = 0\n\n' + card.read_text()[rest:]
    card.write_text(text.replace('task = "detect"', 'task = "embed"', 1))

    assert "gives an embedding" in str(run(card, "--data", on_disk).exception)


def test_a_picture_that_broke_after_it_was_labelled_stops_the_measurement(card, labelled, tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(labelled.pictures[0].path.read_bytes()[:2000])
    data = Dataset(labelled.class_names, (replace(labelled.pictures[0], name="cut.jpg", path=path),))

    with pytest.raises(InputError, match=r"cut\.jpg.*`edgeannot datasets check` finds all such pictures"):
        evaluate_model(card, data, match_model(card, data))


def test_fomo_is_measured_at_its_own_smallest_score(tmp_path):
    """A lower one would join more cells to each object, so that the model would not even agree with itself."""
    fomo_network().write(tmp_path / "fomo.tflite")
    card = propose(tmp_path / "fomo.tflite").card
    data = labelled_by(card)

    assert evaluate_model(card, data, match_model(card, data)).accuracy.map50_95 == pytest.approx(1.0)
    lower = card.model_copy(update={"defaults": card.defaults.model_copy(update={"min_score": 0.05})})
    assert evaluate_model(lower, data, match_model(lower, data)).accuracy.map50_95 < 0.9


def test_merged_labels_give_one_box_an_object(card, labelled, tmp_path):
    """Where two labels of the model stand for one class, what suppression did for each must be done for both."""
    names = ("thing",)
    mapping = dict.fromkeys(card.label_names(), "thing")
    pictures = tuple(
        Picture(p.name, p.size_wh, tuple(LabelledObject(0, thing.box) for thing in p.objects), p.path) for p in labelled.pictures
    )
    data = Dataset(names, pictures)

    result = evaluate_model(card, data, match_model(card, data, mapping), coco=False)

    assert len(result.accuracy.classes) == 1
    for item in result.compared:
        assert np.all(item.found.classes == 0)
    assert result.accuracy.map50 > 0.8


def test_a_set_in_which_nothing_is_marked_that_the_model_knows_is_refused_before_any_work(run, labelled, own_models, tmp_path):
    empty = Dataset(labelled.class_names, tuple(replace(picture, objects=()) for picture in labelled.pictures))
    save_dataset(empty, tmp_path / "set", "coco")

    result = run(own_models / f"{MODEL}.toml", "--data", tmp_path / "set", "--json", tmp_path / "r.json")

    assert isinstance(result.exception, InputError)
    assert "nothing to measure" in str(result.exception)
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("option", ["--json", "--plot", "--sheet"])
def test_a_place_that_cannot_be_written_is_told_before_any_work(option, run, tmp_path):
    (tmp_path / "file").touch()

    result = run("no-such-model", "--data", tmp_path, option, tmp_path / "file" / "out.png")

    assert isinstance(result.exception, InputError)
    assert "is a file; choose another path" in str(result.exception)


@pytest.mark.parametrize("option", ["--plot", "--sheet"])
def test_a_picture_that_is_no_png_is_refused_before_any_work(option, run, tmp_path):
    result = run("no-such-model", "--data", tmp_path, option, tmp_path / "out.jpg")

    assert isinstance(result.exception, UsageError)
    assert f"{option}: wanted a name that ends in .png" in str(result.exception)


@pytest.mark.parametrize("low", [0.01, 0.4, 1.1, 3.0, 7.2, 99.0])
@pytest.mark.parametrize("ratio", [1.69, 2.0, 30.0, 5000.0])
def test_an_axis_of_times_has_numbers_whatever_it_spans(low, ratio):
    ticks = _ticks(low, low * ratio)

    assert 2 <= len(ticks) <= 20
    assert all(low <= tick <= low * ratio for tick in ticks)
