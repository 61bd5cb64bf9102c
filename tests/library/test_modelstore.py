"""The folder of added models, and the `edgeannot models` commands over it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.testing

from edgeannot.base.errors import CardError, EdgeannotError, InputError, MissingError, ModelError
from edgeannot.card_inference import Hints, parse_anchors, propose
from edgeannot.cli.commands.models import models_app
from edgeannot.library import modelstore
from edgeannot.vision.cards import ModelCard, find_card, read_card
from tests.tflite_maker import Maker


@pytest.fixture
def sorter(tmp_path: Path) -> Path:
    """A classifier of three classes that always finds the second one."""
    maker = Maker()
    x = maker.input((1, 16, 16, 3), "uint8", 1 / 255, 0)
    path = tmp_path / "sorter.tflite"
    path.write_bytes(maker.outputs(maker.softmax(maker.stirred(x, [[0.0, 4.0, 1.0]]), "probabilities")))
    (tmp_path / "names.txt").write_text('cat\ndog "rex"\nhorse\n')
    return path


def run(*words: str | Path) -> str:
    """The command's output. Raises what the command raises."""
    result = typer.testing.CliRunner().invoke(models_app, [str(word) for word in words])
    if isinstance(result.exception, EdgeannotError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


# -- the folder --------------------------------------------------------------------------------------------------------------


def test_an_added_model_is_found_again_with_its_names_and_passes_its_checks(sorter: Path, tmp_path: Path) -> None:
    store = tmp_path / "data" / "models"
    card = modelstore.add(propose(sorter, Hints(labels=sorter.with_name("names.txt"))), store)

    assert sorted(path.name for path in store.iterdir()) == ["sorter.labels.txt", "sorter.tflite", "sorter.toml"]
    assert card == find_card("sorter", [store])
    assert card.label_names() == ("cat", 'dog "rex"', "horse")
    assert card.model_path.read_bytes() == sorter.read_bytes()
    card.verify_file()


class Stop(BaseException):
    """The end of the program, where a kill would be."""


RENAMES: list[int] = []
"""While it holds a number: how many renames are still let through."""


def stop_at_a_rename(event: str, _: object) -> None:
    if RENAMES and event in ("os.rename", "os.remove"):
        if not RENAMES[0]:
            raise Stop
        RENAMES[0] -= 1


sys.addaudithook(stop_at_a_rename)


def test_a_replacement_that_is_killed_leaves_the_old_model_or_the_new_one(sorter: Path, tmp_path: Path) -> None:
    old, names = tmp_path / "old" / "sorter.tflite", sorter.with_name("names.txt")
    old.parent.mkdir()
    maker = Maker()
    x = maker.input((1, 16, 16, 3), "uint8", 1 / 255, 0)
    old.write_bytes(maker.outputs(maker.softmax(maker.stirred(x, [[4.0, 0.0]]), "probabilities")))
    ends = []
    for allowed in range(100):
        store = tmp_path / f"models{allowed}"
        modelstore.add(propose(old), store)
        proposal = propose(sorter, Hints(labels=names))
        RENAMES[:] = [allowed]
        try:
            modelstore.add(proposal, store, replace=True)
        except Stop:
            ends.append("killed")
        else:
            ends.append("done")
        finally:
            RENAMES.clear()
        card = read_card(store / "sorter.toml")
        card.verify_file()
        assert card.label_names() == (
            ("cat", 'dog "rex"', "horse") if card.sha256 == proposal.card.sha256 else propose(old).card.labels.names
        )
        if ends[-1] == "done":
            break

    assert ends[:3] == ["killed"] * 3
    assert len(list(store.iterdir())) == 3


def test_a_name_is_taken_once_unless_it_is_replaced(sorter: Path, tmp_path: Path) -> None:
    store = tmp_path / "models"
    modelstore.add(propose(sorter), store)

    with pytest.raises(InputError, match=r"sorter in .* already.*--name"):
        modelstore.add(propose(sorter), store)
    assert modelstore.add(propose(sorter, Hints(min_score=0.7)), store, replace=True).defaults.min_score == 0.7


def test_a_file_that_changed_after_it_was_read_is_not_added(sorter: Path, tmp_path: Path) -> None:
    proposal = propose(sorter)
    sorter.write_bytes(sorter.read_bytes() + b"more")

    with pytest.raises(CardError, match="sha256"):
        modelstore.add(proposal, tmp_path / "models")
    assert not (tmp_path / "models" / "sorter.toml").exists()


def test_a_folder_that_cannot_be_written_is_said(sorter: Path, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")

    with pytest.raises(InputError, match="cannot be added"):
        modelstore.add(propose(sorter), tmp_path / "models")


def test_nothing_stands_half_written_when_the_disk_is_full(sorter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card is the last file, so a model that could not be copied does not exist."""
    store = tmp_path / "models"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        modelstore.add(propose(sorter), store)
    assert list(store.iterdir()) == []


def test_removing_takes_the_models_files_and_no_others(sorter: Path, tmp_path: Path) -> None:
    store = tmp_path / "models"
    modelstore.add(propose(sorter, Hints(name="one", labels=sorter.with_name("names.txt"))), store)
    modelstore.add(propose(sorter, Hints(name="two")), store)

    assert [path.name for path in modelstore.remove("one", store)] == ["one.toml", "one.tflite", "one.labels.txt"]
    assert sorted(path.name for path in store.iterdir()) == ["two.tflite", "two.toml"]
    with pytest.raises(ModelError, match=r"'one'.*added are: two"):
        modelstore.remove("one", store)


def test_files_that_another_card_uses_or_that_lie_elsewhere_stay(sorter: Path, tmp_path: Path) -> None:
    store = tmp_path / "models"
    modelstore.add(propose(sorter, Hints(name="one")), store)
    text = (store / "one.toml").read_text()
    (store / "other.toml").write_text(text.replace('name = "one"', 'name = "other"'))
    (store / "far.toml").write_text(text.replace('name = "one"', 'name = "far"').replace('"one.tflite"', '"../sorter.tflite"'))

    assert [path.name for path in modelstore.remove("far", store)] == ["far.toml"]
    assert [path.name for path in modelstore.remove("one", store)] == ["one.toml"]
    assert sorter.exists()
    assert (store / "one.tflite").exists()


def test_a_broken_card_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("schema = ")
    (tmp_path / "bad.tflite").write_bytes(b"x")

    assert [path.name for path in modelstore.remove("bad", tmp_path)] == ["bad.toml", "bad.tflite"]


# -- the card's text ---------------------------------------------------------------------------------------------------------


def card_of(**fields: Any) -> ModelCard:
    table: dict[str, Any] = {
        "schema": 1, "name": "m", "file": "m.tflite", "sha256": "0" * 64, "task": "detect", "family": "yolo",
        "input": {"width": 32, "height": 32}, "head": {"kind": "end-to-end", "output": 0, "box_units": "pixels"},
    }  # fmt: skip
    return ModelCard.model_validate({**table, **fields})


GRIDS = {"kind": "yolo-grid", "grids": [{"output": "a", "anchors": [[1, 2.5], [3, 4]]}, {"output": 1, "anchors": [[5, 6], [7, 8]]}]}
SSD = {
    "kind": "ssd-anchors",
    "boxes": ["b"],
    "scores": ["s"],
    "activation": "sigmoid",
    "scaled": {"strides": [16, 32], "aspect_ratios": [1.0, 1 / 3]},
}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"description": 'quotes " and \\ and\nnew lines, tabs\t, \x07bells, \x7f and ünïcödé'},
        {"head": GRIDS},
        {"head": SSD, "labels": {"names": ["a", "b"], "offset": -1}},
        {
            "measured": [
                {"dataset": "d", "size": 32, "numbers": "int8", "pictures": 5, "map50": 0.25},
                {"dataset": "e", "size": 32, "numbers": "float32", "pictures": 5},
            ]
        },
        {"input": {"width": 32, "height": 32, "sizes": [16, 32], "mean": [1.5, 2, 3], "std": [1e-07, 1, 2]}},
    ],
)
def test_a_card_reads_back_from_its_text_as_it_was(fields: dict[str, Any], tmp_path: Path) -> None:
    card = card_of(**fields)
    path = tmp_path / "m.toml"
    path.write_text(modelstore.card_toml(card, ["found a\nthing"]), encoding="utf-8")

    assert path.read_text(encoding="utf-8").startswith("# found a thing\n")
    assert read_card(path).model_dump() == card.model_dump()


def test_empty_fields_are_left_out_of_the_text() -> None:
    table = tomllib.loads(modelstore.card_toml(card_of()))

    assert "provenance" not in table
    assert "measured" not in table
    assert "sizes" not in table["input"]


# -- the commands ------------------------------------------------------------------------------------------------------------


def test_models_are_added_listed_shown_verified_and_removed(sorter: Path, tmp_path: Path) -> None:
    here = ("--data-dir", tmp_path / "data")
    said = run("add", sorter, "--labels", sorter.with_name("names.txt"), *here)

    assert "classify" in said
    assert "3 class probabilities" in said
    assert "added sorter" in said
    assert "sorter" in run("list", *here)
    assert 'kind = "classify"' in run("show", "sorter", *here)
    assert "sorter: ok" in run("verify", "sorter", *here)
    assert "removed" in run("remove", "sorter", *here)
    assert "sorter" not in run("list", *here)


def test_the_card_that_lies_beside_a_model_is_its_card(sorter: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    modelstore.add(propose(sorter, Hints(labels=sorter.with_name("names.txt"), extra={"macs": 7, "defaults.min_score": 0.9})), made)

    for given, name in ((made / "sorter.tflite", "sorter"), (made / "sorter.toml", "other")):
        said = run("add", given, "--name", name, "--data-dir", tmp_path / "data")
        card = find_card(name, [tmp_path / "data" / "models"])
        assert "from its card sorter.toml" in said
        assert f"edgeannot run --task classify --model {name} --data-dir {tmp_path / 'data'}" in said
        assert (card.macs, card.defaults.min_score, card.label_names()) == (7, 0.9, ("cat", 'dog "rex"', "horse"))


def test_a_card_beside_it_gives_way_to_options_and_to_a_file_that_is_another(sorter: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    modelstore.add(propose(sorter, Hints(extra={"macs": 7})), made)
    run("add", made / "sorter.tflite", "--min-score", "0.5", "--data-dir", tmp_path / "data")
    assert find_card("sorter", [tmp_path / "data" / "models"]).macs == 0
    with pytest.raises(InputError, match=r"sorter\.toml is a card, which states all facts; give the \.tflite"):
        run("add", made / "sorter.toml", "--min-score", "0.5", "--data-dir", tmp_path / "data")

    (made / "sorter.toml").write_text((made / "sorter.toml").read_text().replace("sha256 = ", 'sha256 = "0"  # '))
    assert "the card beside it" not in run("add", made / "sorter.tflite", "--dry-run", "--data-dir", tmp_path / "data")
    with pytest.raises(CardError):
        run("add", made / "sorter.toml", "--data-dir", tmp_path / "data")


def test_the_name_of_a_catalogue_model_is_told_from_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"there is no file yolox-nano; .* fetched with `edgeannot models pull yolox-nano`"):
        run("add", "yolox-nano", "--data-dir", tmp_path)
    with pytest.raises(MissingError, match=r"nobody-has-it\.tflite: there is no such file"):
        run("add", "nobody-has-it.tflite", "--data-dir", tmp_path)


def test_a_dry_run_prints_the_card_and_writes_nothing(sorter: Path, tmp_path: Path) -> None:
    said = run("add", sorter, "--dry-run", "--data-dir", tmp_path / "data")

    assert "schema = 1" in said
    assert not (tmp_path / "data").exists()


def test_a_try_on_a_photo_draws_into_the_current_folder_and_not_into_the_photos(
    sorter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    photo = tmp_path / "watched" / "photo.png"
    photo.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    cv2.imwrite(str(photo), np.full((40, 60, 3), 200, np.uint8))
    said = run("add", sorter, "--labels", sorter.with_name("names.txt"), "--try", photo, "--dry-run", "--data-dir", tmp_path)

    assert 'dog "rex" 0.9' in said
    assert cv2.imread(str(tmp_path / "photo.sorter.jpg")).shape == (40, 60, 3)


def test_fields_of_the_card_can_be_set_by_hand(sorter: Path, tmp_path: Path) -> None:
    run("add", sorter, "--set", "head.top_k=2", "--set", "description=mine", "--name", "mine", "--data-dir", tmp_path)
    card = find_card("mine", [tmp_path / "models"])

    assert card.description == "mine"
    assert getattr(card.head, "top_k", None) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "head.top_k"], "wanted KEY=VALUE"),
        (["--set", "file.name=1"], "file"),
        (["--labels", "nowhere.txt"], "there is no file"),
        (["--name", "yolov3-tiny"], "bundled"),
        (["--head", "yolo-rows"], "does not fit"),
    ],
)
def test_flags_that_cannot_be_used_are_refused_in_one_sentence(sorter: Path, tmp_path: Path, words: list[str], says: str) -> None:
    with pytest.raises(EdgeannotError, match=says):
        run("add", sorter, *words, "--data-dir", tmp_path)


def test_verify_names_every_model_that_is_wrong(sorter: Path, tmp_path: Path) -> None:
    store = tmp_path / "models"
    modelstore.add(propose(sorter, Hints(name="good")), store)
    modelstore.add(propose(sorter, Hints(name="bad", labels=sorter.with_name("names.txt"))), store)
    (store / "bad.labels.txt").write_text("cat\n")

    with pytest.raises(ModelError, match="1 of 2"):
        run("verify", "good", "bad", "--data-dir", tmp_path)
    result = typer.testing.CliRunner().invoke(models_app, ["verify", "good", "bad", "--data-dir", str(tmp_path)])
    assert "good: ok" in result.output
    assert "bad: WRONG" in result.output
    assert "3 classes" in result.output


def test_a_bundled_model_is_not_removed(tmp_path: Path, models_dir: Path) -> None:
    if not (models_dir / "yolov3-tiny.toml").is_file():
        pytest.skip("the bundled models are not made yet")
    with pytest.raises(InputError, match="is bundled with edgeannot"):
        run("remove", "yolov3-tiny", "--data-dir", tmp_path)


def test_a_grid_model_added_with_its_anchors_runs(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "models" / "yolofastest_voc320_2heads_f32io.tflite"
    hints = Hints(labels=data_dir / "models" / "labels_voc20.txt", anchors=parse_anchors("yolo-fastest-voc"))
    modelstore.add(propose(source, hints), tmp_path / "models")

    assert ": ok" in run("verify", "yolofastest_voc320_2heads_f32io", "--data-dir", tmp_path)


def test_a_broken_card_is_said_and_hides_no_other_model(sorter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeannot.cli.commands.models.bundled_folder", lambda: tmp_path / "none")  # those take seconds to try
    modelstore.add(propose(sorter, Hints(name="good")), tmp_path / "models")
    modelstore.add(propose(sorter, Hints(name="lost", labels=sorter.with_name("names.txt"))), tmp_path / "models")
    (tmp_path / "models" / "lost.labels.txt").unlink()
    (tmp_path / "models" / "broken.toml").write_text("garbage =")

    rows = run("list", "--data-dir", tmp_path).splitlines()
    assert {"good", "lost"} <= {row.split()[0] for row in rows}
    assert [row.split(":")[0] for row in rows[-2:]] == ["WRONG", "WRONG"]
    assert "broken.toml is not valid TOML" in rows[-2] + rows[-1]
    assert "lost.labels.txt is not there" in rows[-2] + rows[-1]
    result = typer.testing.CliRunner().invoke(models_app, ["verify", "--data-dir", str(tmp_path)])
    assert "broken.toml is not valid TOML" in result.output
    assert "good: ok" in result.output
    assert isinstance(result.exception, ModelError)
