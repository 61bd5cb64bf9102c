"""`edgeannot quantize` as it is called: what it writes, what it says, what it refuses, and that a refusal leaves nothing behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import InputError, MissingError
from edgeannot.vision.cards import read_card
from edgeannot.vision.engine import Engine
from edgeannot.vision.heads.split import Split
from edgeannot.vision.pipeline import Limits, load_pipeline
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.calibration_set import read_set
from edgeannot_tools.quantize.command import quantize_app

SIZE = 32
CLASSES = ("cat", "dog", "cow")


def weights(rng: np.random.Generator, out: int, channels: int, kernel: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(0, 0.4, (out, channels, kernel, kernel)).astype(np.float32), rng.normal(0, 0.3, out).astype(np.float32)


def backbone(net: Net, rng: np.random.Generator, activations: tuple[str, str] = ("swish", "relu6")) -> int:
    x = net.input("picture", (1, SIZE, SIZE, 3))
    x = net.conv("a", x, *weights(rng, 8, 3), stride=2, activation=activations[0])
    return net.conv("b", x, *weights(rng, 32, 8), stride=2, activation=activations[1])


def uneven(activation: str = "swish") -> Graph:
    """A detector whose first layer has channels a thousandfold apart, which one int8 step cannot hold, as YOLOX-nano's."""
    rng, net = np.random.default_rng(6), Net()
    sizes = np.geomspace(0.05, 50, 8).astype(np.float32)
    x = net.input("picture", (1, SIZE, SIZE, 3))
    first, bias = weights(rng, 8, 3)
    x = net.conv("a", x, first * sizes[:, None, None, None], bias * sizes, stride=2, activation=activation)
    second, bias = weights(rng, 32, 8)
    # Each channel counts as much as the others.
    x = net.conv("b", x, second / sizes[:, None, None] / 4, bias, stride=2, activation=activation)
    x = net.conv("c", x, *weights(rng, 16, 32, 1), activation="relu")
    for name in "defghijklmnopqrs":
        x = net.conv(name, x, *(w / 2 for w in weights(rng, 16, 16)), activation="relu")
    return net.outputs([net.conv("head", x, *weights(rng, 5 + len(CLASSES), 16, 1))])


def classifier(activations: tuple[str, str] = ("swish", "relu6")) -> Graph:
    rng, net = np.random.default_rng(3), Net()
    pooled = net.mean_hw("pooled", backbone(net, rng, activations), keep_dims=False)
    dense = rng.normal(0, 1, (len(CLASSES), 32)).astype(np.float32), rng.normal(0, 0.2, len(CLASSES)).astype(np.float32)
    return net.outputs([net.softmax("scores", net.fully_connected("dense", pooled, *dense))])


def rows() -> Graph:
    """A detector as exporters of YOLO write it: boxes in pixels and scores in one output (1, 64, 4 + 1 + 3)."""
    rng, net = np.random.default_rng(5), Net()
    features = backbone(net, rng)
    box, score = (net.conv(name, features, *weights(rng, out, 32, 1)) for name, out in (("box", 4), ("score", 1 + len(CLASSES))))
    sizes = net.mul("pixels", net.activation("sizes", net.reshape("boxes", box, (1, 64, 4)), "logistic"), pixels(net))
    return net.outputs([net.concat("rows", [sizes, net.activation("all", net.reshape("flat", score, (1, 64, 4)), "logistic")], axis=2)])


def grid() -> Graph:
    """A detector whose output is a map, so that it runs at other input sizes too."""
    rng, net = np.random.default_rng(6), Net()
    return net.outputs([net.conv("head", backbone(net, rng), *weights(rng, 5 + len(CLASSES), 32, 1))])


def unsure() -> Graph:
    """A detector with distances in bins, as NanoDet's, which is at most half sure of anything in noise: logits of -1..0.5."""
    rng, net = np.random.default_rng(6), Net()
    features = backbone(net, rng, ("relu", "relu"))
    kernel, bias = weights(rng, len(CLASSES), 32, 1)
    parts = net.conv("boxes", features, *weights(rng, 32, 32, 1)), net.conv("scores", features, kernel * 0.01, bias * 0.1 - 0.2)
    return net.outputs(list(parts))


def pixels(net: Net) -> int:
    return net.constant("stride", np.array(float(SIZE)), np.float32)


HEADS = {
    "grid": 'task = "detect"\nfamily = "yolo"\n[head]\nkind = "yolo-grid"\ngrids = [{ output = "head", anchors = [[9, 9]] }]\n'
    f"[labels]\nnames = {list(CLASSES)}\n",
    "bins": 'task = "detect"\nfamily = "nanodet"\n[head]\nkind = "dfl"\nstrides = [4]\nboxes = ["boxes"]\nscores = ["scores"]\nbins = 8\n'
    f'activation = "sigmoid"\n[labels]\nnames = {list(CLASSES)}\n',
    "classify": 'task = "classify"\nfamily = "mobilenet"\n[head]\nkind = "classify"\noutput = "scores"\n'
    f"[labels]\nnames = {list(CLASSES)}\n",
    "detect": 'task = "detect"\nfamily = "yolo"\n[head]\nkind = "yolo-rows"\noutput = "rows"\nlayout = "rows"\nobjectness = true\n'
    f'box_units = "pixels"\n[labels]\nnames = {list(CLASSES)}\n',
}


def write_source(folder: Path, graph: Graph, task: str, sizes: str = "") -> Path:
    """The float model and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    data = graph.to_bytes()
    (folder / "net.tflite").write_bytes(data)
    (folder / "net.toml").write_text(
        f'schema = 1\nname = "net"\nfile = "net.tflite"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\n'
        f"{HEADS[task].replace('[head]', f'[input]{chr(10)}width = {SIZE}{chr(10)}height = {SIZE}{chr(10)}{sizes}[head]')}"
    )
    return folder / "net.tflite"


@pytest.fixture
def classify(tmp_path) -> Path:
    return write_source(tmp_path / "float", classifier(), "classify")


@pytest.fixture
def detect(tmp_path) -> Path:
    return write_source(tmp_path / "float", rows(), "detect")


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(8)
    for i in range(12):
        image = cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (48, 40), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return folder


def run(*arguments: object) -> str:
    """What the command prints; its own errors come through as they are."""
    result = CliRunner().invoke(quantize_app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_model_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(MissingError, match=r"no model .*none\.tflite"):
        run(tmp_path / "none.tflite", "-o", tmp_path / "out.tflite")


def test_an_empty_folder_of_pictures_is_an_error(classify, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputError, match="has no pictures") as refused:
        run(classify, "-o", tmp_path / "out.tflite", "--images", tmp_path / "empty")

    assert refused.value.exit_code == 65
    assert not list(tmp_path.glob("out*"))


@pytest.mark.runtime
def test_the_int8_model_runs_by_the_card_that_is_written_with_it(classify, photos, tmp_path):
    out = tmp_path / "made" / "Net Int8.tflite"

    said = run(classify, "-o", out, "--images", photos)

    card = read_card(out.with_suffix(".toml"))
    pipeline = load_pipeline(card)
    assert (card.name, card.file, card.label_names()) == ("net-int8", out.name, CLASSES)
    assert pipeline.engine.input.dtype == np.uint8
    assert pipeline.engine.outputs[0].dtype == np.int8
    assert card.provenance.source == "net.tflite"
    assert card.provenance.source_sha256 == hashlib.sha256(classify.read_bytes()).hexdigest()
    assert "12 pictures from" in card.provenance.calibration
    assert "".join(said.split()).endswith(f"next:edgeannotmodelsadd'{out}'--tryPHOTO".replace(" ", ""))
    assert "quantize --input uint8" in card.provenance.made_by
    assert {path.name for path in out.parent.iterdir()} == {out.name, "Net Int8.toml", "Net Int8.labels.txt"}
    assert "accepted: " in said
    assert "signal to noise" in said


def test_without_pictures_the_bundled_ones_serve_and_a_warning_says_so(classify, tmp_path):
    said = run(classify, "-o", tmp_path / "out.tflite", "--no-check")

    assert "photos that ship with edgeannot" in said
    assert "edgeannot's samples" in read_card(tmp_path / "out.toml").provenance.calibration


def test_pictures_may_be_a_glob(classify, photos, tmp_path):
    run(classify, "-o", tmp_path / "out.tflite", "--images", photos / "1*.png", "--no-check")

    assert "3 pictures from" in read_card(tmp_path / "out.toml").provenance.calibration


def test_the_same_pictures_give_the_same_bytes(classify, photos, tmp_path):
    for name in ("a", "b"):
        run(classify, "-o", tmp_path / f"{name}.tflite", "--images", photos, "--no-check")

    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


def test_a_card_of_several_sizes_is_calibrated_with_them_and_keeps_them(photos, tmp_path):
    source = write_source(tmp_path / "float", grid(), "grid", "sizes = [32, 64]\n")

    run(source, "-o", tmp_path / "out.tflite", "--images", photos, "--no-check")

    card = read_card(tmp_path / "out.toml")
    outputs = [load_pipeline(card.at_size(size)).engine.outputs[0] for size in (32, 64)]
    assert [spec.shape for spec in outputs] == [(1, 8, 8, 8), (1, 16, 16, 8)]
    assert outputs[0].scale == outputs[1].scale


@pytest.mark.parametrize(
    ("flags", "input_type", "output_type"),
    [((), "uint8", "int8"), (("--input", "int8"), "int8", "int8"), (("--input", "float", "--output", "float"), "float32", "float32")],
)
def test_types_of_input_and_output_are_as_asked(classify, photos, tmp_path, flags, input_type, output_type):
    run(classify, "-o", tmp_path / "out.tflite", "--images", photos, "--no-check", *flags)

    engine = Engine(tmp_path / "out.tflite")
    assert (engine.input.dtype, engine.outputs[0].dtype) == (input_type, output_type)


@pytest.mark.runtime
def test_boxes_and_scores_in_one_output_leave_it_apart(detect, photos, tmp_path):
    """In one int8 tensor, steps fit for pixels would leave nothing of scores of 0..1."""
    run(detect, "-o", tmp_path / "out.tflite", "--images", photos, "--max-drop", "0.2")

    card = read_card(tmp_path / "out.toml")
    types = {spec.name: spec.dtype for spec in load_pipeline(card).engine.outputs}
    assert isinstance(card.head, Split)
    assert types == {"rows/boxes": np.float32, "rows/scores": np.int8, "rows/objectness": np.int8}


def test_a_surer_object_than_any_in_the_pictures_keeps_its_score(photos, tmp_path):
    source = write_source(tmp_path / "float", unsure(), "bins")

    run(source, "-o", tmp_path / "out.tflite", "--images", photos, "--no-check", "--no-refine")

    scores = next(spec for spec in Engine(tmp_path / "out.tflite").outputs if spec.name == "scores")
    assert (127 - scores.zero_point) * scores.scale >= 3.9


def test_with_int8_output_the_boxes_are_int8_too(detect, photos, tmp_path):
    run(detect, "-o", tmp_path / "out.tflite", "--images", photos, "--output", "int8", "--no-check")

    assert {spec.dtype for spec in Engine(tmp_path / "out.tflite").outputs} == {np.dtype(np.int8)}


def operators_of(file: Path) -> dict[str, str]:
    """What each layer of a file computes in, by the name of its result."""
    graph = Graph.read(file)
    return {graph.name(o.outputs[0]).removesuffix("/int8"): str(graph.dtype(o.outputs[0])) for o in graph.operators}


def test_without_a_check_too_the_beginning_stays_in_float_where_int8_loses_the_signal(photos, tmp_path):
    source = write_source(tmp_path / "float", uneven(), "grid")
    flags = ("--images", photos, "--no-check")

    said = run(source, "-o", tmp_path / "saved.tflite", *flags)
    run(source, "-o", tmp_path / "lost.tflite", *flags, "--rescue", "none")

    assert "a layer lost its signal; again, with the first " in said
    assert "operators in float" in read_card(tmp_path / "saved.toml").provenance.made_by
    assert "operators in float" not in read_card(tmp_path / "lost.toml").provenance.made_by
    assert operators_of(tmp_path / "saved.tflite")["a_swish"] == "float32"
    assert operators_of(tmp_path / "saved.tflite")["head"] == "int8"
    assert operators_of(tmp_path / "lost.tflite")["a_swish"] == "int8"


def test_between_rectifiers_channels_are_scaled_and_nothing_stays_in_float(photos, tmp_path):
    source = write_source(tmp_path / "float", uneven("relu"), "grid")

    run(source, "-o", tmp_path / "out.tflite", "--images", photos, "--no-check")

    assert "the channels of " in read_card(tmp_path / "out.toml").provenance.made_by
    assert set(operators_of(tmp_path / "out.tflite").values()) == {"int8"}


def test_where_the_verdict_is_not_sure_scaled_channels_are_tried_too_as_they_cost_nothing(photos, tmp_path):
    source = write_source(tmp_path / "float", classifier(("relu", "relu")), "classify")

    said = run(source, "-o", tmp_path / "out.tflite", "--images", photos)

    assert "not sure: " in said
    assert "; again, with the channels of " in said


@pytest.mark.runtime
def test_with_gates_all_stays_int8(photos, tmp_path):
    source = write_source(tmp_path / "float", uneven(), "grid")

    run(source, "-o", tmp_path / "out.tflite", "--images", photos, "--no-check", "--rescue", "gates")

    card, kinds = read_card(tmp_path / "out.toml"), operators_of(tmp_path / "out.tflite")
    assert " gate" in card.provenance.made_by
    assert set(kinds.values()) == {"int8"}
    assert "a/gate" in kinds
    assert load_pipeline(card).engine.outputs[0].dtype == np.int8


def test_a_hand_written_card_keeps_what_a_run_costs(classify, photos, tmp_path):
    card = classify.with_suffix(".toml")
    card.write_text(card.read_text().replace("[head]", "[head]", 1).replace('task = "classify"', 'task = "classify"\nmacs = 123456'))

    run(classify, "-o", tmp_path / "out.tflite", "--images", photos, "--no-check")

    assert read_card(tmp_path / "out.toml").macs == 123456


def test_a_card_that_does_not_say_what_a_run_costs_gets_it(classify, photos, tmp_path):
    run(classify, "-o", tmp_path / "out.tflite", "--images", photos, "--no-check")

    first, second, dense = 16 * 16 * 8 * 27, 8 * 8 * 32 * 8 * 9, 32 * len(CLASSES)
    assert read_card(tmp_path / "out.toml").macs == first + second + dense


def test_a_model_that_lost_too_much_is_refused_and_leaves_nothing(detect, photos, tmp_path):
    """Logits clipped to almost nothing make all scores a half."""
    flags = ("-o", tmp_path / "out.tflite", "--images", photos, "--clip-heads", "0.001")

    with pytest.raises(InputError, match=r"lost too much: .* sure boxes .* nothing was written") as refused:
        run(detect, *flags)

    assert refused.value.exit_code == 65
    assert not list(tmp_path.glob("*out*"))
    run(detect, *flags, "--no-check")
    assert (tmp_path / "out.toml").is_file()


def test_a_refusal_leaves_an_older_model_as_it_is(detect, photos, tmp_path):
    out = tmp_path / "out.tflite"
    run(detect, "-o", out, "--images", photos, "--no-check")
    before = out.read_bytes(), out.with_suffix(".toml").read_bytes()

    with pytest.raises(InputError):
        run(detect, "-o", out, "--images", photos, "--clip-heads", "0.001")

    assert (out.read_bytes(), out.with_suffix(".toml").read_bytes()) == before


def test_labelled_pictures_judge_by_map50_and_the_card_records_it(detect, photos, tmp_path):
    """Labels are what the float model itself finds, so that there is something to lose."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "classes.txt").write_text("\n".join(CLASSES))
    pipeline = load_pipeline(read_card(detect.with_suffix(".toml")))
    for frame in read_set(str(photos), 12).frames:
        found = pipeline(frame).detections
        width, height = frame.size_wh
        (tmp_path / "set" / frame.name).write_bytes(frame.path.read_bytes())
        lines = [
            f"{c} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
            for (x1, y1, x2, y2), c in zip(found.boxes.tolist(), found.classes.tolist(), strict=True)
        ]
        (tmp_path / "set" / f"{Path(frame.name).stem}.txt").write_text("\n".join(lines))

    said = run(detect, "-o", tmp_path / "out.tflite", "--images", photos, "--data", tmp_path / "set", "--max-drop", "0.3")

    measured = {row.numbers: row for row in read_card(tmp_path / "out.toml").measured}
    assert measured["float32"].map50 > 0.9
    assert measured["int8"].map50 > 0.6
    assert measured["int8"].dataset == "set"
    assert 0 <= measured["int8"].map50_margin < 0.5
    assert "mAP50" in said


def test_a_classifier_is_judged_by_pictures_in_a_folder_a_class(classify, photos, tmp_path):
    """Each picture lies in the folder of what the float model takes it for, so that float is always right."""
    pipeline = load_pipeline(read_card(classify.with_suffix(".toml")), limits=Limits(min_score=0.0))
    for frame in read_set(str(photos), 12).frames:
        folder = tmp_path / "set" / pipeline(frame).labels[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / frame.name).write_bytes(frame.path.read_bytes())

    run(classify, "-o", tmp_path / "out.tflite", "--images", photos, "--data", tmp_path / "set", "--max-drop", "0.3")

    measured = {row.numbers: row.top1 for row in read_card(tmp_path / "out.toml").measured}
    assert measured["float32"] == 1
    assert 0.7 <= measured["int8"] <= 1


def test_a_labelled_set_that_is_not_there_is_missing(classify, photos, tmp_path):
    with pytest.raises(MissingError, match="no labelled set at"):
        run(classify, "-o", tmp_path / "out.tflite", "--images", photos, "--data", tmp_path / "none")


def test_dynamic_range_needs_no_pictures_and_says_nothing_of_them(classify, tmp_path):
    said = run(classify, "-o", tmp_path / "out.tflite", "--dynamic-range")

    card = read_card(tmp_path / "out.toml")
    assert Engine(tmp_path / "out.tflite").input.dtype == np.float32
    assert card.provenance.calibration == ""
    assert "--dynamic-range" in card.provenance.made_by
    assert "photos that ship" not in said


def with_divided(graph: Graph) -> Graph:
    """The features divided by computed numbers, amid the network: an operator without int8 kernel."""
    dense = next(o for o in graph.operators if graph.code(o) == Op.MEAN)
    x = dense.inputs[0]
    divided = graph.add_tensor("divided", graph.shape(x))
    below = graph.add_tensor("below", graph.shape(x))
    position = graph.operators.index(dense)
    one = graph.add_constant("one", np.array(1, np.float32))
    graph.add_operator(Op.ADD, [x, one], [below], schema.AddOptionsT(), position=position)
    graph.add_operator(Op.DIV, [x, below], [divided], schema.DivOptionsT(), position=position + 1)
    dense.inputs[0] = divided
    return graph


def test_an_operator_without_int8_kernel_is_named_with_its_place(photos, tmp_path):
    source = write_source(tmp_path / "float", with_divided(classifier()), "classify")

    with pytest.raises(InputError, match=r"no int8 kernel for DIV, operator \d+ of \d+, which gives 'divided'"):
        run(source, "-o", tmp_path / "out.tflite", "--images", photos)

    run(source, "-o", tmp_path / "out.tflite", "--images", photos, "--float-ops")
    graph = Graph.read(tmp_path / "out.tflite")
    kinds = [graph.code_name(operator) for operator in graph.operators]
    assert kinds[kinds.index("DIV") - 2 :][:4].count("DEQUANTIZE") >= 1
    assert "QUANTIZE" in kinds[kinds.index("DIV") :]


def test_an_int8_model_is_not_quantized_again(classify, photos, tmp_path):
    run(classify, "-o", tmp_path / "out.tflite", "--images", photos, "--no-check")

    with pytest.raises(InputError, match="quantized already"):
        run(tmp_path / "out.tflite", "-o", tmp_path / "again.tflite", "--images", photos)


def test_a_picture_that_cannot_be_read_is_named(classify, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")

    with pytest.raises(InputError, match=r"broken\.jpg"):
        run(classify, "-o", tmp_path / "out.tflite", "--images", photos)

    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-o", "net.tflite"), "is the float model itself"),
        (("-o", "out.bin"), "ends in .tflite"),
        (("-o", "out.tflite", "--input", "int4"), "'int4' is not one of"),
        (("-o", "out.tflite", "--runtime", "onnx"), "'onnx' is not one of"),
    ],
)
def test_wrong_flags_are_refused_before_any_work(classify, monkeypatch, flags, message):
    monkeypatch.chdir(classify.parent)

    result = CliRunner().invoke(quantize_app, ["net.tflite", *flags])

    assert result.exit_code == 2, "the usage error that the program ends with 64 for"
    assert message in " ".join(result.output.replace("│", " ").split())
    assert {path.name for path in classify.parent.iterdir()} == {"net.tflite", "net.toml"}


def test_a_place_that_cannot_be_written_is_told_before_any_work(classify, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; choose another path"):
        run(classify, "-o", tmp_path / "file" / "out.tflite")
