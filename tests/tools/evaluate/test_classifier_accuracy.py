"""Top-1 and top-5: small sets whose answers are known, the bundled classifier on the sample photos, and a second way to count."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import edgeannot
from edgeannot.base.errors import InputError, MissingError
from edgeannot.card_inference import Hints, propose
from edgeannot.vision.cards import read_card
from edgeannot.vision.engine import load_runtime
from edgeannot_tools.datasets.pictures import ClassFolders, read_class_folders
from edgeannot_tools.evaluate.classifier_accuracy import (
    TOP,
    Answer,
    Ranking,
    class_rows,
    classifier_pipeline,
    measure_classifier,
    rank_classifiers,
)
from edgeannot_tools.evaluate.command import evaluate_app, find_model
from edgeannot_tools.evaluate.drawings import save_wrong_answers
from edgeannot_tools.evaluate.measure import Timing, match_classes, with_synonyms

MODEL = "efficientnet-lite0"
SAMPLES = sorted((Path(edgeannot.__file__).parent / "samples").glob("*.jpg"))


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(evaluate_app, [str(word) for word in words])


@pytest.fixture(scope="module")
def card(models_dir):
    return find_model(str(models_dir / f"{MODEL}.toml"))


@pytest.fixture(scope="module")
def labelled(card, tmp_path_factory) -> Path:
    """The sample photos in folders that are called what the model takes them for: it must agree with itself wholly."""
    folder = tmp_path_factory.mktemp("set")
    pipeline = classifier_pipeline(card)
    names = card.label_names()
    for path in SAMPLES:
        everything = ClassFolders(names, ((path, 0),))
        (answer,) = measure_classifier(pipeline, everything, match_classes(names, names)).answers
        place = folder / answer.labels[0].replace(" ", "_")
        place.mkdir(exist_ok=True)
        shutil.copy(path, place)
    assert len(list(folder.iterdir())) >= 3
    return folder


def test_a_folder_without_classes_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")

    with pytest.raises(InputError, match="no subfolder with pictures"):
        read_class_folders(tmp_path)
    with pytest.raises(MissingError, match="no labelled set at"):
        read_class_folders(tmp_path / "none")


def test_class_folders_are_read_at_any_depth(tmp_path, small):
    for name in ("dog/b.png", "cat/deep/a.PNG", "cat/c.png", "cat/.thumb/t.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small.png((8, 8)))
    (tmp_path / "cat" / "notes.txt").write_text("x")

    found = read_class_folders(tmp_path)

    assert found.class_names == ("cat", "dog")
    assert [(path.name, class_id) for path, class_id in found.pictures] == [("c.png", 0), ("a.PNG", 0), ("b.png", 1)]


def test_a_part_of_the_set_is_a_folder_above_the_classes(tmp_path, small):
    for name in ("train/cat/a.png", "val/dog/b.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(small.png((8, 8)))

    assert read_class_folders(tmp_path, "val").class_names == ("dog",)
    with pytest.raises(MissingError, match="test"):
        read_class_folders(tmp_path, "test")


def test_a_label_that_is_a_list_of_synonyms_is_met_by_any_of_them():
    labels = ["killer whale, killer, orca", "tiger, Panthera tigris", "tiger cat", "cat"]

    assert with_synonyms([], ["orca"], {}) == {}
    assert with_synonyms(labels, ["Orca", "tiger", "cat"], {}) == {labels[0]: "Orca", labels[1]: "tiger"}
    assert with_synonyms(labels, ["tiger"], {labels[1]: ""}) == {labels[1]: ""}


def ranking(*answers: Answer) -> Ranking:
    match = match_classes(["cat", "dog"], ["cat", "dog"])
    facts = {"model": "m", "input_wh": (8, 8), "numbers": "int8", "runtime": "litert", "threads": 1, "timing": Timing(1, 1, 1)}
    return Ranking(**facts, match=match, answers=answers, left_out=0)


def answer(class_id: int, rank: int, best: str, rank_in_set: int = 0, path: Path = Path("p.png")) -> Answer:
    return Answer(path, class_id, (best,), 0.5, rank, rank_in_set)


def test_no_answers_have_no_figures():
    empty = ranking()

    assert np.isnan([empty.top1, empty.top5, empty.top1_in_set]).all()
    assert class_rows(empty) == []


def test_figures_by_hand():
    found = ranking(answer(0, 0, "cat"), answer(0, 1, "fox"), answer(0, 5, "owl", 1), answer(1, 4, "fox"), answer(1, 99, "fox", 99))

    assert found.top1 == pytest.approx(1 / 5)
    assert found.top5 == pytest.approx(3 / 5)
    assert found.top1_in_set == pytest.approx(3 / 5)
    cat, dog = class_rows(found)
    assert (cat.pictures, cat.top1, cat.top5, cat.mistaken_for) == (3, pytest.approx(1 / 3), pytest.approx(2 / 3), "fox")
    assert (dog.pictures, dog.top1, dog.top5, dog.mistaken_for) == (2, 0.0, 0.5, "fox")


@pytest.mark.runtime
def test_a_classifier_agrees_with_itself(card, labelled):
    (found,) = rank_classifiers([card], read_class_folders(labelled))

    assert (found.top1, found.top5, found.top1_in_set) == (1.0, 1.0, 1.0)
    assert (len(found.answers), found.left_out) == (len(SAMPLES), 0)
    assert (found.numbers, found.input_wh) == ("int8", (224, 224))
    assert all(len(answer.labels) == TOP for answer in found.answers)
    assert save_wrong_answers(found, read_class_folders(labelled).class_names, labelled.parent / "none.png") == 0


def test_the_command_prints_records_and_draws(run, card, labelled, models_dir, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    for file in models_dir.glob(f"{MODEL}.*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / f"{MODEL}.toml"

    result = run(
        *(path, "--data", labelled, "--json", tmp_path / "r.json", "--plot", tmp_path / "p.png", "--sheet", tmp_path / "s.png"),
        *("--write-card", "--set-name", "samples"),
    )

    assert result.exit_code == 0, result.output
    assert "top-1" in result.output
    (report,) = json.loads((tmp_path / "r.json").read_text())["models"]
    assert (report["model"], report["task"], report["top1"], report["top5"]) == (MODEL, "classify", 1.0, 1.0)
    assert sum(row["pictures"] for row in report["classes"]) == report["pictures"] == len(SAMPLES)
    assert report["ms"]["total"] > 0
    assert cv2.imread(str(tmp_path / "p.png")).shape == (600, 960, 3)
    assert cv2.imread(str(tmp_path / "s.png")) is not None
    row = next(row for row in read_card(path).measured if row.dataset == "samples")
    assert (row.top1, row.pictures, row.size, row.map50) == (1.0, len(SAMPLES), 224, None)


def test_a_table_of_pictures_and_classes_is_measured_like_folders(run, labelled, models_dir, tmp_path):
    rows = [f"{path},{path.parent.name}" for path in sorted(labelled.rglob("*.jpg"))]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *rows]))
    model = models_dir / f"{MODEL}.toml"

    result = run(model, "--data", table, "--json", tmp_path / "r.json")

    assert result.exit_code == 0, result.output
    (report,) = json.loads((tmp_path / "r.json").read_text())["models"]
    assert (report["top1"], report["pictures"]) == (1.0, len(SAMPLES))
    with pytest.raises(InputError, match=r"labels\.csv is a CSV file, which has no split 'val'"):
        raise run(model, "--data", table, "--split", "val").exception


def test_wrong_answers_are_counted_and_drawn(card, labelled, tmp_path):
    """Every picture under the name of another class."""
    names = sorted(folder.name for folder in labelled.iterdir())
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        shutil.copytree(labelled / name, tmp_path / "set" / other)
    folders = read_class_folders(tmp_path / "set")

    (found,) = rank_classifiers([card], folders)

    assert found.top1 == 0.0
    assert {row.mistaken_for.replace(" ", "_") for row in class_rows(found)} <= set(names)
    assert save_wrong_answers(found, folders.class_names, tmp_path / "s.png", limit=2) == 2
    assert cv2.imread(str(tmp_path / "s.png")).shape == (282, 1256, 3)


def test_classes_that_the_model_does_not_know_are_left_out_and_said(run, card, labelled, models_dir, tmp_path):
    shutil.copytree(labelled, tmp_path / "set")
    known = sorted(folder.name for folder in labelled.iterdir())[0]
    (tmp_path / "set" / known).rename(tmp_path / "set" / "Wolpertinger")
    (tmp_path / "map.toml").write_text(f'[classes]\n"{known.replace("_", " ")}" = "wolpertinger"\n')
    model = models_dir / f"{MODEL}.toml"

    without = run(model, "--data", tmp_path / "set", "--json", tmp_path / "without.json")
    mapped = run(model, "--data", tmp_path / "set", "--json", tmp_path / "mapped.json", "--class-map", tmp_path / "map.toml")

    assert without.exit_code == mapped.exit_code == 0
    left = [json.loads((tmp_path / f"{name}.json").read_text())["models"][0]["left_out"] for name in ("without", "mapped")]
    assert left[0]["set_classes"] == ["Wolpertinger"]
    assert left[0]["pictures"] >= 1
    assert (left[1]["set_classes"], left[1]["pictures"]) == ([], 0)
    assert " left out, of classes" in without.output
    assert " left out, of classes" not in mapped.output


def test_what_cannot_be_measured_is_said(run, labelled, models_dir, tmp_path, small):
    model = models_dir / f"{MODEL}.toml"
    (tmp_path / "broken" / "tench").mkdir(parents=True)
    (tmp_path / "broken" / "tench" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "other" / "unicorn").mkdir(parents=True)
    (tmp_path / "other" / "unicorn" / "a.png").write_bytes(small.png((8, 8)))
    for words, message in (
        ((model, "--data", tmp_path / "broken"), r"a\.jpg.*remove or replace"),
        ((model, "--data", tmp_path / "other"), "called like one of the set"),
        ((model, "--data", labelled, "--format", "coco"), "--format is for labels with boxes"),
        ((model, "--data", labelled, "--coco"), "--coco is for labels with boxes"),
        ((model, models_dir / "yolov3-tiny.toml", "--data", labelled), "cannot be compared with the others"),
    ):
        result = run(*words)
        assert isinstance(result.exception, InputError), words
        assert result.exception.exit_code == 65
        with pytest.raises(InputError, match=message):
            raise result.exception


@pytest.mark.runtime_long
def test_a_plain_loop_counts_the_same(data_dir):
    """MobileNetV2 with ImageNet's lists of synonyms as labels, against resizing, running and sorting by hand."""
    model, labels = data_dir / "models" / "mobilenet_v2_1.0_224_quant.tflite", data_dir / "models" / "labels_imagenet1001.txt"
    card = propose(model, Hints(labels=labels)).card
    lines = labels.read_text().splitlines()
    folders = read_class_folders(data_dir / "classification" / "animals10_dev")
    folders = ClassFolders(folders.class_names, folders.pictures[::10])

    (found,) = rank_classifiers([card], folders)

    interpreter = load_runtime()[1].Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    places = []
    for path, class_id in folders.pictures:
        name = folders.class_names[class_id].replace("_", " ")
        rows = [i for i, line in enumerate(lines) if name in [part.strip().lower() for part in line.split(",")]]
        if rows:
            image = cv2.resize(cv2.imread(str(path)), (224, 224), interpolation=cv2.INTER_LINEAR)[..., ::-1]
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
            interpreter.invoke()
            scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
            places.append(min(list(np.argsort(-scores.astype(int), kind="stable")).index(row) for row in rows))
    assert len(found.answers) == len(places) >= 25
    assert found.top1 == pytest.approx(np.mean([place < 1 for place in places]), abs=0.041)
    assert found.top5 == pytest.approx(np.mean([place < 5 for place in places]), abs=0.041)
    assert found.top1 > 0.6
