"""`edgeannot teach classify`: sets that cannot be learned from, the way from folder to answer, the cache, and the files it leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.runtimes import RUNTIMES
from edgeannot.vision.cards import read_card
from edgeannot.vision.pipeline import load_pipeline
from edgeannot_tools.datasets.pictures import read_class_set
from edgeannot_tools.evaluate.classifier_accuracy import rank_classifiers
from edgeannot_tools.teach.classify.examples import FeatureCache
from tests.tools.teach.color_sets import COLORS, picture, write_set


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda folder: folder.mkdir(), InputError, "no subfolder with pictures"),
        (lambda folder: None, MissingError, "no labelled set at"),
        (lambda folder: write_set(folder, 3, {"red": COLORS["red"]}), InputError, "one class, 'red', and there is nothing to tell it from"),
        (lambda folder: write_set(folder, 1), InputError, "the class 'blue' has one picture, wanted at least 2"),
        (lambda folder: (write_set(folder, 2) / "owl").mkdir(), InputError, "the folder of the class 'owl' has no pictures"),
    ],
    ids=["empty", "missing", "one class", "one picture", "class without pictures"],
)
def test_a_set_that_cannot_be_learned_from_is_refused_in_one_sentence(tmp_path, teach, data_dir, make, error, words):
    make(tmp_path / "set")

    result = teach(tmp_path / "set", "--name", "mine")

    assert isinstance(result.exception, error)
    assert words in str(result.exception)
    assert not (data_dir / "models" / "mine.toml").exists()


def test_an_unreadable_picture_is_named(tmp_path, teach):
    folder = write_set(tmp_path / "set", 2)
    (folder / "red" / "broken.jpg").write_bytes(b"no picture")

    result = teach(folder, "--name", "mine")

    assert isinstance(result.exception, InputError)
    assert "broken.jpg cannot be learned from" in str(result.exception)


def test_one_picture_in_two_classes_is_refused(tmp_path, teach):
    folder = write_set(tmp_path / "set", 2)
    shutil.copy(folder / "red" / "0.png", folder / "blue" / "also.png")

    result = teach(folder, "--name", "mine")

    assert "the same picture is in the classes 'blue' and 'red'" in str(result.exception)


def test_one_subcommand_does_not_import_the_other():
    call = "teach_app(['classify', '--help'], standalone_mode=False)"
    code = f"import sys; from edgeannot_tools.teach.command import teach_app; {call}; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "edgeannot_tools.teach.classify.command" in done.stdout
    assert "edgeannot_tools.teach.detect" not in done.stdout
    assert "edgeannot.settings" not in done.stdout


@pytest.mark.parametrize("name", ["efficientnet-lite0", "Not A Name", "colors"])
def test_a_name_that_is_taken_or_none_is_refused_before_any_work(tmp_path, teach, name):
    result = teach(tmp_path / "no such set", "--name", name)

    assert isinstance(result.exception, InputError)


def test_what_was_taught_names_new_pictures(tmp_path, teach, data_dir):
    result = teach(write_set(tmp_path / "set", 6), "--name", "mine", "--report", tmp_path / "report", trial=True)

    assert result.exception is None, result.output
    assert "accuracy 1.000" in result.output
    assert ": pictures that were not learned from\n" in result.output  # a table that is narrower than its title
    card = read_card(data_dir / "models" / "mine.toml")
    assert card.label_names() == ("blue", "green", "red")
    assert card.measured[0].top1 == 1.0
    new = read_class_set(write_set(tmp_path / "new", 5, seed=77))
    (ranking,) = rank_classifiers([card], new)
    assert ranking.top1 == 1.0
    for name in ("confusion.png", "unsure.png", "suspicious.png"):
        assert cv2.imread(str(tmp_path / "report" / name)) is not None


@pytest.mark.runtime
def test_the_bundled_network_is_taught_in_int8(tmp_path, teach, data_dir):
    folder = write_set(tmp_path / "set", 3)

    result = teach(folder, "--name", "mine", "--size", 96, "--views", 2, backbone="efficientnet-lite0")

    assert result.exception is None, result.output
    card = read_card(data_dir / "models" / "mine.toml")
    assert (card.input_wh, card.input.views) == ((96, 96), 2)
    pipeline = load_pipeline(card)
    assert pipeline.engine.outputs[0].dtype == np.int8
    (ranking,) = rank_classifiers([card], read_class_set(folder))
    assert ranking.top1 == 1.0


def test_a_wrong_label_is_the_first_suspicious_one(tmp_path, teach):
    folder = write_set(tmp_path / "set", 8)
    shutil.move(folder / "red" / "3.png", folder / "green" / "from-red.png")

    teach(folder, "--name", "mine", "--report", tmp_path / "report")

    rows = (tmp_path / "report" / "suspicious.csv").read_text().splitlines()
    assert "from-red.png,green,red" in rows[1]


def test_classes_come_and_go_and_a_label_is_corrected_without_the_first_folder_being_named(tmp_path, teach, data_dir):
    folder = write_set(tmp_path / "set", 4)
    more = write_set(tmp_path / "more", 3, {"yellow": (40, 220, 230)}, seed=500) / "yellow"
    teach(folder, "--name", "mine", "--views", 2)

    def taught(*words):
        result = teach(*words, "--name", "mine")
        assert result.exception is None, result.output
        card = read_card(data_dir / "models" / "mine.toml")
        assert card.input.views == 2
        return card.label_names(), len(read_class_set(data_dir / "models" / "mine.taught.csv").pictures)

    assert taught(more, "--add", "yellow") == (("blue", "green", "red", "yellow"), 15)
    assert taught(more / "0.png", "--add", "yellow") == (("blue", "green", "red", "yellow"), 15)
    assert taught(folder / "red" / "0.png", folder / "red" / "1.png", "--relabel", "crimson") == (
        ("blue", "crimson", "green", "red", "yellow"),
        15,
    )
    assert taught("--forget", "crimson") == (("blue", "green", "red", "yellow"), 13)
    (folder / "green" / "0.png").unlink()
    assert taught("--drop", more / "0.png", folder / "green" / "0.png") == (("blue", "green", "red", "yellow"), 11)
    shutil.rmtree(folder / "blue")
    assert taught("--forget", "blue") == (("green", "red", "yellow"), 7)
    (folder / "green" / "1.png").unlink()
    assert taught("--drop") == (("green", "red", "yellow"), 6)
    assert taught() == (("green", "red", "yellow"), 6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--add", "red"], "found none"),
        (["--add", "red", "gone.png"], "no picture at gone.png"),
        (["--add", "green", "set/red/0.png"], "in the class 'red' already; --relabel green moves it"),
        (["--relabel", "red", "new.png"], "is not among the pictures of mine"),
        (["--forget", "grey"], "has no class 'grey' to forget; it has: green, red"),
        (["--forget", "red"], "the set of mine has one class, 'green'"),
        (["--forget", "red", "--add", "green"], "one of --add, --relabel, --forget and --drop at a time"),
        (["--drop"], "all pictures of mine are where they were"),
        (["--drop", "new.png"], "is not among the pictures of mine"),
        (["--forget", "red", "set"], "takes a whole class and no pictures"),
        (["set", "set"], "wanted one folder or CSV file, found 2"),
        (["--name", "other", "--forget", "red"], "no pictures of a model other are remembered"),
        (["--name", "colors", "--forget", "red"], "no pictures of a model colors are remembered"),
    ],
)
def test_a_change_that_cannot_be_made_is_one_sentence_and_changes_nothing(tmp_path, teach, data_dir, monkeypatch, words, said):
    write_set(tmp_path / "set", 2, {name: COLORS[name] for name in ("green", "red")})
    monkeypatch.chdir(tmp_path)
    teach("set", "--name", "mine")
    # What a classifier left whose name another kind of model has now.
    shutil.copy(data_dir / "models" / "mine.taught.csv", data_dir / "models" / "colors.taught.csv")
    before = {path.name: path.read_bytes() for path in (data_dir / "models").iterdir()}

    result = teach("--name", "mine", *words)

    assert said in str(result.exception)
    assert {path.name: path.read_bytes() for path in (data_dir / "models").iterdir()} == before


def test_a_model_that_cannot_be_added_leaves_nothing(tmp_path, teach, data_dir):
    (data_dir / "models" / "mine.tflite" / "in the way").mkdir(parents=True)
    before = sorted(data_dir.glob("models/*"))

    result = teach(write_set(tmp_path / "set", 2), "--name", "mine")

    assert isinstance(result.exception, InputError), result.output
    assert sorted(data_dir.glob("models/*")) == before


def test_near_duplicates_are_named_and_copies_left_out(tmp_path, teach):
    folder = write_set(tmp_path / "set", 3)
    shutil.copy(folder / "red" / "0.png", folder / "red" / "again.png")
    bright = cv2.imread(str(folder / "blue" / "1.png"))
    cv2.imwrite(str(folder / "green" / "brighter.jpg"), np.clip(bright.astype(int) + 4, 0, 255).astype(np.uint8))

    result = teach(folder, "--name", "mine")

    said = result.output.replace("\n", " ")
    assert "1 copy left out" in said
    assert "nearly the same picture: is one label wrong?" in said
    assert "has 3 different pictures: wanted 5 or more" in said


def test_a_set_of_which_nothing_can_be_tested_is_taught_without_a_figure(tmp_path, teach, data_dir):
    """All pictures of a class are nearly the same, as where there is one and its copies that were saved again."""
    folder = write_set(tmp_path / "set", 1)
    for path in sorted(folder.glob("*/0.png")):
        cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))

    result = teach(folder, "--name", "mine", "--report", tmp_path / "report")

    assert result.exception is None, result.output
    assert "cannot be tested: all of its pictures are nearly the same" in result.output.replace("\n", " ")
    assert "accuracy" not in result.output
    assert read_card(data_dir / "models" / "mine.toml").measured == ()


def test_a_second_run_takes_the_features_from_the_cache(tmp_path, teach, data_dir, monkeypatch):
    folder = write_set(tmp_path / "set", 2)
    teach(folder, "--name", "one")
    one = (data_dir / "models" / "one.tflite").read_bytes()
    monkeypatch.setattr("edgeannot_tools.teach.classify.examples.view_tensors", None)

    result = teach(folder, "--name", "two")

    assert result.exception is None
    assert (data_dir / "models" / "two.tflite").read_bytes() == one


def test_a_damaged_entry_of_the_cache_is_made_anew(tmp_path):
    cache = FeatureCache(tmp_path, "maker")
    assert cache.get("a") is None

    cache.put("a", {"x": np.arange(5)})

    found = cache.get("a")
    assert found is not None
    assert found["x"].tolist() == [0, 1, 2, 3, 4]
    (entry,) = (path for path in tmp_path.rglob("*") if path.is_file())
    data = entry.read_bytes()
    for spoiled in (b"", data[:40], data[:-1], data[:50] + b"\xff" + data[51:]):
        entry.write_bytes(spoiled)
        assert cache.get("a") is None


def test_a_table_of_pictures_and_classes_is_read(tmp_path):
    folder = write_set(tmp_path / "set", 2)
    table = tmp_path / "set" / "labels.csv"
    rows = [f"{name}/{k}.png;{name}" for name in ("red", "green") for k in range(2)]

    table.write_text("")
    with pytest.raises(InputError, match="no row with a picture"):
        read_class_set(table)
    table.write_text("\n".join(["file;class", *rows]))
    assert read_class_set(table).class_names == ("green", "red")
    table.write_text("\n".join(rows))
    assert len(read_class_set(table).pictures) == 4
    table.write_text("red/0.png")
    with pytest.raises(InputError, match="wanted a picture and its class"):
        read_class_set(table)
    table.write_text("gone.png,red")
    with pytest.raises(MissingError, match=r"gone\.png"):
        read_class_set(table)
    assert read_class_set(folder).class_names == ("blue", "green", "red")


@pytest.mark.parametrize(("place", "resize"), [(0, "stretch"), (1, "crop")], ids=["at the side", "in the middle"])
def test_the_model_looks_at_what_shows_the_classes(tmp_path, teach, data_dir, place, resize):
    """Long pictures in which a third shows the class and the rest anything."""
    rng = np.random.default_rng(5)
    for number, (name, color) in enumerate(COLORS.items()):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(8):
            thirds = [picture(tuple(int(value) for value in rng.integers(0, 255, 3)), 9000 + 100 * number + 10 * k + i) for i in range(3)]
            thirds[place] = picture(color, 1000 * number + k)
            cv2.imwrite(str(tmp_path / "set" / name / f"{k}.png"), np.concatenate(thirds, axis=1))

    result = teach(tmp_path / "set", "--name", "mine")

    assert result.exception is None, result.output
    assert read_card(data_dir / "models" / "mine.toml").input.resize == resize


@pytest.mark.older
@pytest.mark.parametrize("views", [1, pytest.param(4, marks=pytest.mark.long)])
def test_both_runtimes_give_the_same_answers(tmp_path, teach, data_dir, monkeypatch, views):
    for module in ("tflite_runtime", "ai_edge_litert"):
        pytest.importorskip(f"{module}.interpreter", reason="needs both runtimes in one environment")
    monkeypatch.setitem(RUNTIMES, "litert", ("ai_edge_litert", "ai-edge-litert"))  # conftest takes it out for the run on the older one
    result = teach(write_set(tmp_path / "set", 5), "--name", "mine", "--size", 96, "--views", views, backbone="efficientnet-lite0")
    assert result.exception is None, result.output
    card = read_card(data_dir / "models" / "mine.toml")
    colors = list(COLORS.values())
    between = {  # not sure of one class
        name: tuple(round(0.52 * a + 0.48 * b) for a, b in zip(color, colors[number - 1], strict=True))
        for number, (name, color) in enumerate(COLORS.items())
    }
    clear, mixed = (read_class_set(write_set(tmp_path / f"new{k}", 6, set_, seed=77)) for k, set_ in enumerate((COLORS, between)))

    def answers(pictures):
        return [rank_classifiers([card], pictures, runtime=runtime)[0].answers for runtime in ("litert", "tflite-runtime")]

    for one, other in zip(*answers(clear), strict=True):
        assert one.labels[0] == other.labels[0]
        assert one.score == pytest.approx(other.score, abs=0.02)
    # Their kernels round differently, which moves scores between two classes.
    pairs = list(zip(*answers(mixed), strict=True))
    assert min(one.score for one, _ in pairs) < 0.9, "answers that are all sure would say little"
    assert all(one.labels[0] == other.labels[0] for one, other in pairs if max(one.score, other.score) >= 0.9)
    assert np.mean([abs(one.score - other.score) for one, other in pairs]) < 0.1
