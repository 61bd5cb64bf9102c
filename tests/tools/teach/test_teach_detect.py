"""`edgeannot teach detect`, with the bundled SSDLite at its smallest size: the file it adds does what the command says of it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import InputError, UsageError
from edgeannot.cli.commands.models import models_app
from edgeannot.vision.cards import read_card
from edgeannot.vision.engine import Engine
from edgeannot_tools.datasets import load_dataset, save_dataset
from edgeannot_tools.evaluate.measure import evaluate_model, match_model
from edgeannot_tools.teach.command import teach_app
from edgeannot_tools.teach.detect.backbone import load_backbone, open_engine, with_finer_map
from edgeannot_tools.teach.detect.bands import stride_bands
from edgeannot_tools.teach.detect.examples import make_examples
from edgeannot_tools.teach.detect.fit import fit_layers
from edgeannot_tools.teach.detect.pictures import read_teaching_set
from edgeannot_tools.teach.detect.stored import OUTPUT_SCALE, store_layers
from edgeannot_tools.teach.detect.teaching import make_graph
from edgeannot_tools.teach.detect.views import whole_view
from tests.e2e.daemons import edgeannot
from tests.tools.teach.made_pictures import made_set, write_picture

BACKBONE = "ssdlite-mobilenet-v2-coco@128"


def run(*words):
    result = CliRunner().invoke(teach_app, ["detect", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A folder with a taught model of two classes, the set, its report and what was printed."""
    folder = tmp_path_factory.mktemp("teach")
    save_dataset(made_set(folder / "in", pictures=8, kinds=2), folder / "set", "voc")
    for number in range(4):
        write_picture(folder / "street" / f"{number}.png", 50 + number, things=0)
    options = ["--backbone", BACKBONE, "--views", "4", "--background", folder / "street", "--made", "6", "--data-dir", folder / "data"]
    said = run(folder / "set", "--name", "shapes", *options, "--json", folder / "report.json", "--sheet", folder / "sheet.png")
    return folder, said


def test_the_taught_model_passes_its_checks(taught):
    folder, said = taught
    result = CliRunner().invoke(models_app, ["verify", "shapes", "--data-dir", str(folder / "data")])

    assert result.exit_code == 0, result.output
    assert "shapes: ok (file, tensors, 2 labels, 2 classes" in result.output
    assert "added shapes" in said


@pytest.mark.runtime
def test_the_file_finds_what_was_taught(taught):
    folder, _ = taught
    card = read_card(folder / "data" / "models" / "shapes.toml")
    dataset = load_dataset(folder / "set")

    result = evaluate_model(card, dataset, match_model(card, dataset), coco=False)

    assert result.numbers == "int8"
    assert result.accuracy.map50 > 0.9
    assert result.accuracy.mean_iou > 0.7


def test_the_report_says_what_the_card_says(taught):
    folder, said = taught
    report = json.loads((folder / "report.json").read_text())
    card = read_card(folder / "data" / "models" / "shapes.toml")

    assert report["map50"] == card.measured[0].map50
    assert report["min_score"] == card.defaults.min_score
    assert report["false_alarms"]["pictures"] == 4
    assert f"false alarms: in {report['false_alarms']['alarmed']} of 4 pictures" in said
    assert [row["name"] for row in report["classes"]] == list(card.label_names())
    assert (folder / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert card.provenance.license == "Apache-2.0"


@pytest.mark.runtime
def test_what_the_daemon_sees_with_it_arrives_at_the_broker(taught, tmp_path, broker, make_subscriber):
    """From the taught file to a message: the installed command, a real broker, a picture that was not taught."""
    folder, _ = taught
    (picture,) = made_set(tmp_path / "in", pictures=1).pictures
    (thing,) = write_picture(picture.path, 31, sides=(50, 56))
    subscriber = make_subscriber(broker, "edgeannot/porch/+/detections")
    run = ("run", "--once", "--model", "shapes", "--data-dir", folder / "data", "--watch", picture.path.parent, "--min-score", 0.05)

    done = edgeannot(*run, "--mqtt", broker.url, "--device", "porch")

    assert done.returncode == 0, done.stderr
    subscriber.wait_for(lambda s: s.payloads(), "the message of the picture")
    (message,) = (json.loads(payload) for payload in subscriber.payloads())
    best = max(message["detections"], key=lambda found: found["score"])
    assert message["model"]["name"] == "shapes"
    assert best["label"] == "disc"
    assert np.allclose([best["box"][side] for side in ("x1", "y1", "x2", "y2")], thing.box, atol=15)


@pytest.mark.runtime
@pytest.mark.parametrize("finer", [False, True])
def test_the_figures_are_those_of_the_file(taught, models_dir, finer):
    """The cross-validation computes the int8 layers in numpy: for the same layers the file gives the same numbers."""
    folder, _ = taught
    to_teach = read_teaching_set(folder / "set")
    backbone = load_backbone(read_card(models_dir / "ssdlite-mobilenet-v2-coco.toml"), 128)
    backbone = with_finer_map(backbone) if finer else backbone
    examples = make_examples(backbone, to_teach.pictures[:4], 1)
    (layers,) = fit_layers(examples, stride_bands(backbone, examples.boxes()), 2, np.full(4, -1))
    engine, (_, to_tensor) = Engine(make_graph(backbone, layers).to_bytes()), open_engine(backbone)
    image, marked = to_teach.pictures[0].load()
    outputs = engine.run(to_tensor(whole_view(image, marked, 128).image)[0])

    assert len(outputs) == len(layers)
    for output, layer in zip(outputs, layers, strict=True):
        tap = backbone.taps[layer.band.tap]
        mine = store_layers([layer], tap).numbers(tap, examples.map(layer.band.tap).cells(slice(0, 1))[0])
        theirs = (output.values[0].astype(np.float32) - output.spec.zero_point) * output.spec.scale
        assert (output.spec.scale, output.spec.zero_point) == OUTPUT_SCALE
        assert np.abs(mine - theirs).max() < 1.5 * output.spec.scale
        assert np.std(theirs) > output.spec.scale


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "Über"], "a model cannot be called 'Über'"),
        (["--name", "yolov3-tiny"], "yolov3-tiny is the name of a bundled model"),
        (["--name", "x", "--backbone", "yolov3-tiny@big"], "wanted NAME@SIZE with a size in pixels, found 'big'"),
        (["--name", "x", "--backbone", "efficientnet-lite0"], "wanted a detector"),
        (["--name", "x", "--sheet", "sheet.jpg"], "--sheet: wanted a name that ends in .png, found sheet.jpg"),
        (["--name", "x", "--backbone", "ssdlite-mobilenet-v2-coco@100"], "give a size that 64 divides"),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(words, said, tmp_path):
    with pytest.raises((InputError, UsageError), match=re.escape(said)):
        run(tmp_path, *words, "--data-dir", tmp_path)


def test_a_name_is_taken_once_unless_it_is_replaced(taught):
    folder, _ = taught

    with pytest.raises(InputError, match="there is a model called shapes"):
        run(folder / "set", "--name", "shapes", "--data-dir", folder / "data")


@pytest.mark.parametrize("name", ["nanodet-g", "yolov3-tiny", "ssdlite-mobilenet-v2-coco"])
def test_every_bundled_detector_can_be_a_backbone(name, models_dir):
    backbone = load_backbone(read_card(models_dir / f"{name}.toml"), 128)

    strides = {"nanodet-g": [8, 16, 32], "yolov3-tiny": [16, 32], "ssdlite-mobilenet-v2-coco": [16, 32, 64]}[name]
    assert [tap.stride for tap in backbone.taps] == strides
