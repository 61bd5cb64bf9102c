"""`edgeannot annotate`: pictures to a labelled set, whatever happens meanwhile."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import edgeannot
from edgeannot.base.errors import InputError, MissingError, UsageError
from edgeannot.vision.data import Detections
from edgeannot_tools.annotate import found as found_module
from edgeannot_tools.annotate.command import Format, annotate_app, as_dataset, save_review_sheet
from edgeannot_tools.annotate.found import Found, find_pictures
from edgeannot_tools.datasets import FORMATS, load_dataset, save_dataset

SAMPLES = Path(edgeannot.__file__).parent / "samples"
MODEL = "yolov3-tiny@224"


@pytest.fixture
def run(tmp_path):
    """Call the command; what is printed, and the exception, if any."""

    def call(*words):
        return CliRunner().invoke(annotate_app, ["--model", MODEL, "--data-dir", str(tmp_path / "data"), *map(str, words)])

    return call


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder with the sample photos, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, path in enumerate(sorted(SAMPLES.glob("*.jpg"))):
        shutil.copy(path, folder / ("more" if number == 0 else "") / path.name)
    return folder


def test_a_folder_without_pictures_is_said_and_makes_nothing(run, tmp_path):
    (tmp_path / "none").mkdir()

    result = run(tmp_path / "none", "-o", tmp_path / "out")

    assert isinstance(result.exception, InputError)
    assert "no picture in" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_not_there_is_named(run, tmp_path):
    assert isinstance(run(tmp_path / "gone", "-o", tmp_path / "out").exception, MissingError)


@pytest.mark.parametrize("form", [each for each in Format if each != Format.JSONL])
def test_every_format_is_read_again_as_it_was_found(form, run, photos, tmp_path):
    result = run(photos, "-o", tmp_path / "out", "--format", form)

    assert result.exit_code == 0, result.output
    dataset = load_dataset(tmp_path / "out")
    assert {picture.name for picture in dataset.pictures} == {path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg")}
    assert f"with {dataset.object_count()} objects written" in result.output
    assert dataset.object_count() >= 3
    assert list(tmp_path.glob(".*")) == []


def test_yolo_labels_have_the_class_file_where_labelimg_looks_for_it(run, photos, tmp_path):
    run(photos, "-o", tmp_path / "out")

    for labels in (tmp_path / "out" / "labels", tmp_path / "out" / "labels" / "more"):
        assert (labels / "classes.txt").read_text().split("\n")[:2] == ["person", "bicycle"]


def test_json_lines_are_the_payload_of_subscribers(run, photos, tmp_path):
    run(photos, "-o", tmp_path / "out", "--format", "jsonl", "--pictures", "none")

    lines = [json.loads(line) for line in (tmp_path / "out" / "annotations.jsonl").read_text().splitlines()]
    assert {line["image"]["path"] for line in lines} == {path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg")}
    assert {"schema", "id", "model", "detections"} <= lines[0].keys()
    assert all(line["image"]["width"] > 1 for line in lines)


def test_label_studio_gets_proposals_with_scores_and_not_answers(run, photos, tmp_path):
    run(photos, "-o", tmp_path / "out", "--format", "labelstudio")

    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert all("annotations" not in task for task in tasks)
    results = [result for task in tasks for result in task["predictions"][0]["result"]]
    assert all(0 < result["score"] <= 1 for result in results)
    assert '<Label value="person" />' in (tmp_path / "out" / "label_config.xml").read_text()


def test_an_interrupted_run_goes_on_and_does_no_picture_twice(run, photos, tmp_path, monkeypatch):
    whole = run(photos, "-o", tmp_path / "whole", "--format", "csv")
    read, seen = found_module.read_picture, []

    def interrupted_at_the_second(path, *words):
        seen.append(path)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return read(path, *words)

    monkeypatch.setattr(found_module, "read_picture", interrupted_at_the_second)
    stopped = run(photos, "-o", tmp_path / "out", "--format", "csv")
    assert "the same command goes on" in stopped.output
    assert not (tmp_path / "out").exists()
    with (tmp_path / ".out.unfinished.jsonl").open("a") as journal:
        journal.write('["half a li')  # as a power cut leaves it

    finished = run(photos, "-o", tmp_path / "out", "--format", "csv")

    assert whole.exit_code == finished.exit_code == 0
    assert "1 picture of" in finished.output
    assert seen.count(seen[0]) == 1
    assert seen.count(seen[1]) == 2
    table = [(tmp_path / folder / "annotations.csv").read_text() for folder in ("whole", "out")]
    assert table[0] == table[1]
    assert list(tmp_path.glob(".*")) == []


def test_another_model_or_a_changed_picture_is_annotated_anew(run, photos, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edgeannot_tools.annotate.command.save_dataset", interrupt)
        run(photos, "-o", tmp_path / "out")
    picture = photos / "more" / min(path.name for path in (photos / "more").iterdir())
    picture.write_bytes(cv2.imencode(".jpg", cv2.imread(str(picture))[::-1])[1].tobytes())
    read, seen = found_module.read_picture, []
    monkeypatch.setattr(found_module, "read_picture", lambda path: (seen.append(path), read(path))[1])

    with monkeypatch.context() as patch:
        patch.setattr("edgeannot_tools.annotate.command.save_dataset", interrupt)
        run(photos, "-o", tmp_path / "out")
    assert seen == [picture]

    seen.clear()
    anew = run(photos, "-o", tmp_path / "out", "--min-score", "0.6")
    assert len(seen) == len(list(photos.rglob("*.jpg")))
    assert "another model or other options is given up" in anew.output


def test_a_broken_picture_is_named_and_the_others_are_written(run, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")

    result = run(photos, "-o", tmp_path / "out")

    assert result.exit_code == 65
    assert "left out:" in result.output
    assert "broken.jpg" in result.output
    assert len(load_dataset(tmp_path / "out").pictures) == len(list(photos.rglob("*.jpg"))) - 1


def test_only_uncertain_leaves_out_what_is_sure_and_takes_what_is_empty(run, photos, tmp_path):
    def least_scores(folder):
        lines = [json.loads(line) for line in (tmp_path / folder / "annotations.jsonl").read_text().splitlines()]
        return {line["image"]["path"]: min((found["score"] for found in line["detections"]), default=0) for line in lines}

    assert run(photos, "-o", tmp_path / "all", "--format", "jsonl", "--labels", "cat").exit_code == 0
    everything = least_scores("all")
    assert 0 in everything.values()  # a photo without a cat
    second, surest = sorted(everything.values())[-2:]
    limit = (second + surest) / 2  # scores are written rounded; the surest picture is left out
    options = ["--labels", "cat", "--only-uncertain", "--uncertain-below", limit]

    assert run(photos, "-o", tmp_path / "out", "--format", "jsonl", *options).exit_code == 0

    assert least_scores("out") == {name: score for name, score in everything.items() if score < limit}
    assert second < limit < surest


def test_nothing_to_write_makes_no_folder(run, tmp_path):
    result = run(SAMPLES / "cat.jpg", "-o", tmp_path / "out", "--only-uncertain", "--uncertain-below", 0.4)

    assert result.exit_code == 0
    assert "none of 1 picture" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--uncertain-below", 0.7], "--uncertain-below is for --only-uncertain"),
        (["--only-uncertain", "--min-score", 0.6], r"wanted more than the smallest score that is reported \(0\.6\), found 0\.5"),
        (["--only-uncertain", "--uncertain-below", 0.3], r"the smallest score that is reported \(0\.3\), found 0\.3"),
        (["--sheet", "sheet.jpg"], r"--sheet: wanted a name that ends in \.png, found sheet\.jpg"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_the_work(options, message, run, photos, tmp_path):
    result = run(photos, "-o", tmp_path / "out", *options)

    assert isinstance(result.exception, UsageError)
    assert re.search(message, str(result.exception))
    assert list(tmp_path.glob("*out*")) == []


def test_a_sheet_shows_every_picture(run, photos, tmp_path):
    result = run(photos, "-o", tmp_path / "out", "--sheet", tmp_path / "sheet.png")

    assert f"sheet.png: {len(list(photos.rglob('*.jpg')))} pictures, the least sure first" in result.output.replace("\n", " ")
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] == 1640


def test_a_sheet_with_room_for_fewer_says_so_and_begins_with_what_is_empty(small, tmp_path):
    sure = Detections(np.float32([[8, 8, 40, 40]]), np.float32([0.9]), np.zeros(1, np.int64))
    path = small.picture(tmp_path, "gray.png").path
    found = [Found(path, f"{number}.png", (64, 48), sure, ("cat",)) for number in range(48)]

    what = save_review_sheet([*found, Found(path, "z.png", (64, 48))], "a-model", tmp_path / "sheet.png")

    assert what == "the 48 least sure of 49 pictures"
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    has_box = [bool(np.ptp(tile, axis=2).max() > 50) for tile in (sheet[30:330, :400], sheet[30:330, 410:800])]
    assert has_box == [False, True]


def test_the_last_line_names_the_model(run, tmp_path):
    assert f"({Format.CSV}) by {MODEL}" in run(SAMPLES / "cat.jpg", "-o", tmp_path / "out", "--format", "csv").output.replace("\n", " ")


def test_a_folder_that_is_not_empty_is_refused_before_the_work(run, photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")

    result = run(photos, "-o", tmp_path / "out")

    assert "is there already" in str(result.exception)
    assert not list(tmp_path.glob(".out*"))


def test_a_classifier_is_refused_with_what_is_wanted(tmp_path, photos):
    result = CliRunner().invoke(
        annotate_app, [str(photos), "-o", str(tmp_path / "out"), "--model", "efficientnet-lite0", "--data-dir", str(tmp_path)]
    )

    assert "wanted a detector" in str(result.exception)


def test_pictures_of_one_name_in_two_folders_keep_apart(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(next(iter(SAMPLES.glob("*.jpg"))), tmp_path / folder / "a.jpg")

    assert list(find_pictures([tmp_path / "one", tmp_path / "two"])) == ["one/a.jpg", "two/a.jpg"]
    with pytest.raises(InputError, match=r"would both be called a\.jpg"):
        find_pictures([tmp_path / "one" / "a.jpg", tmp_path / "two" / "a.jpg"])


def test_a_picture_without_objects_is_a_proposal_too(small, tmp_path):
    picture = small.picture(tmp_path, "a.png")
    dataset = as_dataset([Found(picture.path, "a.png", (64, 48))], ["cat"], "a-model")

    save_dataset(dataset, tmp_path / "out", "labelstudio")

    task = json.loads((tmp_path / "out" / "tasks.json").read_text())[0]
    assert task["predictions"] == [{"model_version": "a-model", "score": 0, "result": []}]


def test_every_format_but_json_lines_is_one_of_labelled_sets():
    assert set(Format) - {"jsonl"} <= set(FORMATS)


def test_two_pictures_of_one_label_file_are_said_before_the_work(run, photos, tmp_path):
    picture = next(photos.glob("*.jpg"))
    shutil.copy(picture, picture.with_suffix(".jpeg"))

    result = run(photos, "-o", tmp_path / "out")

    assert f"label file '{picture.stem}.txt'" in str(result.exception)
    assert f"{picture.with_suffix('.jpeg')} and {picture} would both be" in str(result.exception)
    assert list(tmp_path.glob(".out*")) == []


def test_an_output_folder_that_cannot_be_made_is_one_sentence(run, photos):
    assert isinstance(run(photos, "-o", "/proc/no/such").exception, InputError)
