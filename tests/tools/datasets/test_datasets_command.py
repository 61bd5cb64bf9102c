"""`edgeannot datasets` as a person types it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import InputError
from edgeannot_tools.datasets import Dataset, LabelledObject, load_dataset, save_dataset
from edgeannot_tools.datasets.command import datasets_app


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(datasets_app, [str(word) for word in words])


@pytest.fixture
def yolo(small, tmp_path):
    save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "set", "yolo")
    return tmp_path / "set"


def test_convert_writes_and_says_how_much(run, yolo, tmp_path):
    result = run("convert", yolo, tmp_path / "out", "--to", "coco")

    assert result.exit_code == 0
    assert "3 pictures with 3 objects of 2 classes" in result.output
    assert load_dataset(tmp_path / "out") == load_dataset(yolo) or load_dataset(tmp_path / "out").object_count() == 3


def test_convert_says_what_is_lost(run, small, tmp_path):
    data = Dataset(("cat",), (small.picture(tmp_path / "in", "a.png", LabelledObject(0, (1, 1, 9, 9), difficult=True)),))
    save_dataset(data, tmp_path / "voc", "voc")

    result = run("convert", tmp_path / "voc", tmp_path / "out", "--to", "yolo")

    assert result.exit_code == 0
    assert "1 object marked difficult" in result.output


def test_errors_reach_the_command_that_turns_them_into_exit_codes(run, tmp_path):
    result = run("convert", tmp_path, tmp_path / "out", "--to", "coco")

    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 65
    assert not (tmp_path / "out").exists()


def test_check_is_content_with_a_sound_set(run, yolo):
    result = run("check", yolo)

    assert result.exit_code == 0
    assert "3 pictures, 3 objects: 0 errors, 0 warnings" in result.output


def test_check_fails_with_65_and_names_the_line(run, yolo):
    (yolo / "labels" / "c.txt").write_text("7 0.5 0.5 0.1 0.1\n")

    result = run("check", yolo)
    as_json = run("check", yolo, "--json", "--quick")

    assert result.exit_code == as_json.exit_code == 65
    assert "c.txt:1" in result.output.replace("\n", "")
    assert [problem["kind"] for problem in json.loads(as_json.output)] == ["unknown-class"]


def test_split_writes_the_format_it_read(run, yolo, tmp_path):
    result = run("split", yolo, tmp_path / "out", "--train", "0.67", "--val", "0.33", "--seed", "3")

    assert result.exit_code == 0, result.output
    assert set(load_dataset(tmp_path / "out").splits()) == {"train", "val"}
    assert (tmp_path / "out" / "data.yaml").is_file()


def test_stats_count(run, yolo):
    counted = json.loads(run("stats", yolo, "--json").output)

    assert (counted["pictures"], counted["objects"], counted["without_objects"]) == (3, 3, 1)
    assert [(row["name"], row["objects"], row["pictures"]) for row in counted["classes"]] == [("cat", 1, 1), ("dog", 2, 2)]
    assert "3 pictures, 1 of them without objects" in run("stats", yolo).output
