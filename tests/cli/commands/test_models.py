"""`edgeannot models list`: what is installed."""

from __future__ import annotations

import shutil

from edgeannot.base.places import bundled_folder
from tests.e2e.daemons import edgeannot

NAME = "nanodet-g"


def listed(tmp_path, name):
    done = edgeannot("models", "list", "--data-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith(f"{name} "))


def test_a_model_without_measured_accuracy_has_none(tmp_path):
    """Its card is one of a version without margins, and without figures."""
    folder = tmp_path / "models"
    folder.mkdir()
    for path in bundled_folder().glob(f"{NAME}.*"):
        shutil.copy(path, folder / path.name.replace(NAME, "mine", 1))
    card = folder / "mine.toml"
    card.write_text(
        card.read_text().partition("[[measured]]")[0].replace(f'name = "{NAME}"', 'name = "mine"').replace(f'"{NAME}.', '"mine.')
    )

    assert listed(tmp_path, "mine").endswith("  added    -")


def test_the_best_accuracy_is_listed_with_its_margin_and_data_set(tmp_path):
    assert listed(tmp_path, NAME).endswith(".762 \u00b1.09 mAP50 at 256 (Pascal VOC, 50 pictures, int8)")
