"""Every model of the catalogue whose files are in the test data: pulled from a web server, then run on photos beside its reference."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edgeannot.library.catalogue import read_catalogue
from edgeannot.library.obtain import PullOptions
from edgeannot.library.pull import installed, pull
from edgeannot.vision.data import Frame
from edgeannot.vision.decode import read_picture
from edgeannot.vision.geometry import iou_matrix
from edgeannot.vision.pipeline import Limits, load_engine, load_pipeline, to_tensor
from tests.conftest import find_data
from tests.web import web_site

pytestmark = pytest.mark.runtime_long


def files_at_hand() -> dict[str, Path]:
    """sha256 -> file of the test data."""
    data = find_data()
    if data is None:
        return {}
    rows = [line.split("\t") for line in (data / "MANIFEST.tsv").read_text().splitlines()[1:]]
    return {row[1]: data / row[0] for row in rows if row[0].startswith("models/")}


HERE = files_at_hand()
NONE = "no-model-here"
"""Where the test data is absent: the fixture for it says so, and no test is without a reason."""
ENTRIES = {name: entry for name, entry in read_catalogue().items() if all(file.sha256 in HERE for file in entry.files)}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with all of them, each pulled from the web server as `--from` does."""
    folder = tmp_path_factory.mktemp("data")
    with web_site() as site:
        for entry in ENTRIES.values():
            for file in entry.files:
                site.put(f"/{file.name}", HERE[file.sha256].read_bytes())
            options = PullOptions(folder / "models", folder / "downloads", mirror=site.url("/"))
            assert pull(entry, options).fresh
            assert installed(entry, options.models) is not None
    assert not (folder / "downloads").exists()
    return folder / "models"


def annotated(name, models, photo, min_score):
    card = installed(ENTRIES[name], models)
    frame = Frame(read_picture(photo).image, "test", 0, datetime.now(UTC), photo.name, photo)
    return load_pipeline(card, limits=Limits(min_score=min_score))(frame)


def reference(name, data_dir):
    """What an independent decoder found with the entry's file, photo by photo."""
    path = HERE[ENTRIES[name].main.sha256]
    prefix = {"classify": "cls_", "detect": "darknet_" if path.suffix == ".weights" else ""}[ENTRIES[name].task]
    return json.loads((data_dir / "reference" / f"{prefix}{path.stem}.json").read_text())["images"]


def of_task(task):
    return [name for name, entry in ENTRIES.items() if entry.task == task]


def test_the_catalogue_covers_the_test_data(data_dir):
    assert len(of_task("detect")) >= 4
    assert len(of_task("classify")) >= 2
    assert len(of_task("embed")) >= 1


@pytest.mark.parametrize("name", of_task("detect") or [NONE])
def test_a_pulled_detector_finds_what_its_reference_found(name, models, data_dir, request):
    # tflite-runtime's integer kernels round differently: there only what is sure must be found.
    firm = 0.8 if request.config.getoption("runtime_name") == "tflite-runtime" else 0.45
    firm_ones = 0
    for photo, facts in reference(name, data_dir).items():
        found = annotated(name, models, data_dir / photo, 0.2)
        boxes, labels = found.detections.boxes, np.array(found.labels)
        for item in facts["detections"]:
            if item["score"] < firm:
                continue
            firm_ones += 1
            overlaps = iou_matrix(np.array([item["box_xyxy_px"]], np.float32), boxes)[0]
            assert ((overlaps >= 0.75) & (labels == item["label"])).any(), f"{photo}: {item}"
    assert firm_ones >= 2


@pytest.mark.parametrize("name", of_task("classify") or [NONE])
def test_a_pulled_classifier_says_what_its_reference_said(name, models, data_dir):
    firm_ones = 0
    for photo, ranking in reference(name, data_dir).items():
        if ranking[0]["score"] < 0.35:
            continue
        firm_ones += 1
        best = annotated(name, models, data_dir / photo, 0.1).labels[0]
        assert best.split(" (")[0] in [synonym.strip() for synonym in ranking[0]["label"].split(",")]
    assert firm_ones >= 1


@pytest.mark.parametrize("name", of_task("embed") or [NONE])
def test_a_pulled_embedding_tells_like_from_unlike(name, models, data_dir):
    card = installed(ENTRIES[name], models)
    engine = load_engine(card)
    see = to_tensor(card, engine)

    def vector(photo):
        numbers = card.head.vector(engine.run(see(read_picture(data_dir / "photos" / photo).image)[0]))
        return numbers / np.linalg.norm(numbers)

    dog, pets, scream = map(vector, ("dog.jpg", "pets.jpg", "scream.jpg"))
    assert dog.shape == (1024,)
    assert dog @ pets > dog @ scream
