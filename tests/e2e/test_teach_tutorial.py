"""The loop in docs/teach.md, command by command: a folder, a taught model, messages, pictures collected and sorted, a better model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeannot.settings import Settings
from edgeannot.vision.cards import read_card
from edgeannot_tools.datasets.pictures import read_class_set
from tests.conftest import find_data
from tests.docs_pages import DOCS
from tests.patience import DEADLINE_S
from tests.tools.teach.color_sets import COLORS, write_set

CLASSES = ("fox", "seal", "wolf")
TAUGHT, SEEN, TESTED = 5, 4, 3
"""Pictures of each class in the set, from the camera, and of another day."""


def loop():
    """The section's blocks: (language, text)."""
    section = (DOCS / "teach.md").read_text(encoding="utf-8").partition("\n### Once around")[2].partition("\n### ")[0]
    return re.findall(r"```(sh|toml)\n(.*?)```", section, re.DOTALL)


def test_the_blocks_are_there_and_the_settings_are_valid():
    languages = [language for language, _ in loop()]
    assert languages == ["sh", "toml", "sh", "sh"]

    settings = Settings(**tomllib.loads(dict(loop())["toml"]))

    assert (settings.sources["gate"].kind, settings.sinks.crops.enabled, settings.sinks.unsure.enabled) == ("directory", True, True)


def photos(folder: Path, data_dir: Path) -> None:
    for name in CLASSES:
        files = sorted((data_dir / "classification" / "animals10_dev" / name).glob("*.jpg"))[: TAUGHT + SEEN + TESTED]
        (folder / name).mkdir(parents=True)
        for number, file in enumerate(files):
            shutil.copy(file, folder / name / f"{number:02}.jpg")


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with park/, park-test/ and camera/: photos where the test data is here, else made pictures."""
    every = tmp_path / "every"
    if (data_dir := find_data()) is not None:
        photos(every, data_dir)
    else:
        write_set(every, TAUGHT + SEEN + TESTED, dict(zip(CLASSES, COLORS.values(), strict=True)))
    (tmp_path / "camera").mkdir()
    for name in CLASSES:
        files = sorted((every / name).iterdir())
        for part, chosen in (("park", files[:TAUGHT]), ("park-test", files[-TESTED:])):
            (tmp_path / part / name).mkdir(parents=True)
            for file in chosen:
                file.rename(tmp_path / part / name / file.name)
        for file in files[TAUGHT:-TESTED]:
            file.rename(tmp_path / "camera" / f"{name}-{file.name}")
    return tmp_path


def shown_in(crop: Path, camera: Path) -> str:
    """The class of the camera's picture of which the whole or the middle is most like this one."""

    def small(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA).astype(int)

    def unlike(file: Path) -> float:
        image = cv2.imread(str(file))
        cut = (image.shape[1] - image.shape[0]) // 2
        middle = image[:, cut:-cut] if cut > 0 else image[-cut : cut or None]
        return min(float(np.abs(small(part) - wanted).mean()) for part in (image, middle))

    wanted = small(cv2.imread(str(crop)))
    return min(camera.iterdir(), key=unlike).stem.partition("-")[0]


def test_the_loop_runs_as_it_is_written(place, broker, make_subscriber):
    first, settings, watch, again = (text for _, text in loop())
    (place / "park.toml").write_text(settings.replace("mqtt://localhost", broker.url))
    subscriber = make_subscriber(broker)
    paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": paths, "EDGEANNOT_DATA_DIR": str(place / "state"), "EDGEANNOT_DEVICE": "pi"}

    def run(commands: str) -> str:
        done = subprocess.run(
            ["sh", "-e", "-c", commands], cwd=place, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = run(first)
    assert "accuracy" in said
    assert "top-1" in said
    assert (place / "park-report" / "confusion.png").is_file()

    run(watch)
    count = SEEN * len(CLASSES)
    topic = "edgeannot/pi/gate/detections"
    subscriber.wait_for(lambda s: len(s.payloads(topic)) == count, "a message a picture")
    results = [json.loads(payload) for payload in subscriber.payloads(topic)]
    assert {result["model"]["name"] for result in results} == {"park"}
    labels = {Path(result["image"]["path"]).stem: [found["label"] for found in result["detections"]] for result in results}
    collected = {name: len(list((place / "collected" / "crops" / name).glob("*.jpg"))) for name in CLASSES}
    assert collected == {name: sum(name in found for found in labels.values()) for name in CLASSES}
    right = sum(found == [stem.partition("-")[0]] for stem, found in labels.items())
    assert right >= count // 2, labels

    for crop in sorted((place / "collected").rglob("*.jpg")):  # a person sorts
        folder = place / "collected" / "crops" / shown_in(crop, place / "camera")
        folder.mkdir(exist_ok=True)
        crop.rename(folder / crop.name)
    assert "top-1" in run(again)
    models = place / "state" / "models"
    taught = read_class_set(models / "park.taught.csv")
    assert taught.class_names == CLASSES
    assert len(taught.pictures) >= (TAUGHT + SEEN) * len(CLASSES)
    assert read_card(models / "park.toml").label_names() == CLASSES
