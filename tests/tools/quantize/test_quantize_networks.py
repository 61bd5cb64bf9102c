"""Real networks end to end: float file in, int8 file out that finds the same things, at least as well as other quantizers make it."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
from pathlib import Path

import pytest

from benchmarks.networks import in_float
from benchmarks.quantizers.others import litert_own, litert_quantizer
from edgeannot.card_inference import Hints, parse_anchors
from edgeannot.vision.engine import Engine
from edgeannot.vision.pipeline import Limits, Pipeline
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.quantize.acceptance import BoxAgreement, check_agreement, compare_models
from edgeannot_tools.quantize.calibration_set import read_set
from edgeannot_tools.quantize.layer_sqnr import measure_sqnr
from edgeannot_tools.quantize.model import (
    FloatModel,
    PreparedModel,
    QuantizedModel,
    QuantizeOptions,
    float_beginning,
    input_tensors,
    load_float_model,
    make_card,
    prepare_model,
    quantize_model,
)
from tests.surroundings import asked

COCO, VOC = "labels_coco80.txt", "labels_voc20.txt"
NETWORKS: dict[str, dict] = {
    # file -> what `edgeannot quantize` is told besides; what each has that others have not
    "yolofastest_voc320_2heads_f32io": {"labels": VOC, "anchors": parse_anchors("yolo-fastest-voc")},  # LEAKY_RELU, raw grids
    "nanodet_m320_6outs_int8w": {"labels": COCO},  # PRELU, channel shuffle, weights stored as int8
    "yolo26n_320_e2e_f32io": {"labels": COCO},  # BATCH_MATMUL, TOPK_V2, GATHER_ND, end to end
    "ssd_mnv2_fpnlite320_coco_tf2_f32io": {"labels": "labels_coco90_zero_based.txt"},  # PACK, a custom operator
    "blazeface_front_f32": {},  # PAD of channels
    "yolov5n_640_fp16": {"labels": COCO},  # float16 constants, SiLU, rows of unlike units
    "yolov8n_640_int8w_f32io": {"labels": COCO},  # SUB, SOFTMAX over bins, columns of unlike units
}
ALLOWED = {"yolofastest_voc320_2heads_f32io": 0.25}
"""Share of sure boxes that may change on so few pictures; a network of 1.2 MB has little to spare, and its mAP50 hardly changes."""
LONG = {
    "yolofastest_voc320_2heads_f32io", "ssd_mnv2_fpnlite320_coco_tf2_f32io", "yolo26n_320_e2e_f32io",
    "yolov5n_640_fp16", "yolov8n_640_int8w_f32io",
}  # fmt: skip
"""Half a minute of processor time and more each; test_graph_quantizer has their operators one by one."""
FEW, SOME = 16, 10
MORE = {"yolofastest_voc320_2heads_f32io": 40}
"""Its boxes near the threshold come and go, and in ten pictures it finds only 28."""


def source_of(data_dir: Path, name: str) -> FloatModel:
    hints = dict(NETWORKS.get(name, {}))
    if "labels" in hints:
        hints["labels"] = data_dir / "models" / hints["labels"]
    return load_float_model(data_dir / "models" / f"{name}.tflite", Hints(**hints), (), "auto")


def prepared_of(data_dir: Path, source: FloatModel, pictures: int = FEW) -> PreparedModel:
    return prepare_model(source, read_set(str(data_dir / "detection" / "voc50_formats" / "images"), pictures))


def agreement(
    source: FloatModel, made: QuantizedModel, data_dir: Path, where: str = "detection/coco_val50/images", pictures: int = SOME
) -> BoxAgreement:
    """On pictures that were not calibrated with."""
    card = make_card(source, None, made, "int8", "int8.tflite", "")
    limits = Limits() if card.task == "detect" else Limits(min_score=0.0)
    card = card.model_copy(update={"labels": card.labels.model_copy(update={"file": None, "names": source.card.label_names()})})
    int8 = Pipeline(card, Engine(made.data, 2), limits=limits)
    return compare_models(source.pipeline("auto", limits), int8, read_set(str(data_dir / where), pictures).frames)


@pytest.mark.runtime_long
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in NETWORKS])
def test_int8_finds_what_float_finds(name, data_dir):
    source = source_of(data_dir, name)

    made = quantize_model(prepared_of(data_dir, source), QuantizeOptions())

    found = agreement(source, made, data_dir, pictures=MORE.get(name, SOME))
    assert len(made.data) < 0.5 * 4 * sum(n for _, n in sizes_of(source.graph))
    assert check_agreement(found, ALLOWED.get(name, 0.06)).accepted, found
    if found.reference >= 10:
        assert found.mean_iou > 0.88
        assert found.matched > 0.8 * found.reference


def sizes_of(graph: Graph) -> list[tuple[str, int]]:
    """How many numbers each float constant has."""
    constants = [t for t in range(len(graph.tensors)) if graph.is_constant(t) and graph.dtype(t).kind == "f"]
    return [(graph.name(t), graph.constant(t).size) for t in constants]


@pytest.mark.long
def test_yolox_nano_is_saved_by_a_beginning_in_float(data_dir):
    """Its first layers differ a hundredfold between channels, of which int8 with one step for all loses most; the rest does not mind."""
    source = source_of(data_dir, "yolox_nano_mask3_nchw_fp16")
    pictures = read_set(str(data_dir / "detection" / "voc50_formats" / "images"), FEW)
    prepared = prepare_model(source, pictures)
    made = quantize_model(prepared, QuantizeOptions())
    lost = agreement(source, made, data_dir, "photos")

    layers = measure_sqnr(prepared.graph, made.graph, itertools.islice(input_tensors(prepared.card, prepared.graph, pictures), 2))
    last, names = float_beginning(prepared.graph, layers)
    saved = agreement(source, quantize_model(prepared, QuantizeOptions(), names), data_dir, "photos")

    assert not check_agreement(lost, 0.02).accepted
    assert last < 0.1 * len(prepared.graph.operators)
    assert check_agreement(saved, 0.1).accepted, saved
    assert saved.matched >= 0.8 * saved.reference


@pytest.mark.long
def test_mobilenet_v2_keeps_its_classes(data_dir, tmp_path):
    """Its weights are those of the published uint8 file, as float."""
    file = tmp_path / "mobilenet_v2.tflite"
    file.write_bytes(in_float(Graph.read(data_dir / "models" / "mobilenet_v2_1.0_224_quant.tflite")).to_bytes())
    source = load_float_model(
        file, Hints(labels=data_dir / "models" / "labels_imagenet1001.txt", input_range=((128.0,), (128.0,))), (), "auto"
    )

    made = quantize_model(prepared_of(data_dir, source, SOME), QuantizeOptions())

    found = agreement(source, made, data_dir)
    assert source.card.task == "classify"
    assert found.same >= 0.8 * found.pictures
    assert found.sure_same >= found.sure - 1


@pytest.mark.older
@pytest.mark.parametrize("name", ["blazeface_front_f32", pytest.param("nanodet_m320_6outs_int8w", marks=pytest.mark.long)])
def test_both_runtimes_lead_to_the_same_bytes(name, data_dir):
    if importlib.util.find_spec("tflite_runtime") is None or importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("needs both runtimes in one environment")
    source = source_of(data_dir, name)
    pictures = read_set(str(data_dir / "photos"), 3)

    digests = {
        hashlib.sha256(quantize_model(prepare_model(source, pictures, runtime), QuantizeOptions()).data).hexdigest()
        for runtime in ("litert", "tflite-runtime")
    }

    assert len(digests) == 1


CROSS_CHECKED = ("nanodet_m320_6outs_int8w", "yolofastest_voc320_2heads_f32io")
MARGIN = 0.03
"""Of matched boxes and of IoU: what a dozen pictures cannot tell from chance."""


def at_least_as_good(ours: BoxAgreement, theirs: BoxAgreement) -> None:
    assert ours.matched >= theirs.matched - MARGIN * ours.reference, (ours, theirs)
    assert ours.mean_iou >= theirs.mean_iou - MARGIN, (ours, theirs)
    assert ours.drop <= theirs.drop + MARGIN, (ours, theirs)


@pytest.mark.long
@pytest.mark.parametrize("name", CROSS_CHECKED)
def test_litert_s_own_quantizer_does_no_better(name, data_dir):
    if importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("needs ai-edge-litert, which carries it")
    source = source_of(data_dir, name)
    prepared = prepared_of(data_dir, source)
    pictures = read_set(str(data_dir / "detection" / "voc50_formats" / "images"), FEW)
    made = quantize_model(prepared, QuantizeOptions())

    theirs = litert_own(prepared.graph.to_bytes(), input_tensors(prepared.card, prepared.graph, pictures))

    at_least_as_good(agreement(source, made, data_dir), agreement(source, with_data(made, theirs), data_dir))


@pytest.mark.converters
@pytest.mark.parametrize("name", CROSS_CHECKED)
def test_litert_quantizer_does_no_better(name, data_dir):
    python = asked("LITERT_QUANTIZER")
    if python is None:
        pytest.skip("set EDGEANNOT_LITERT_QUANTIZER to the Python of an environment with litert-quantizer, which pins its runtime")
    source = source_of(data_dir, name)
    prepared = prepared_of(data_dir, source)
    pictures = read_set(str(data_dir / "detection" / "voc50_formats" / "images"), FEW)
    made = quantize_model(prepared, QuantizeOptions())

    theirs = litert_quantizer(python, prepared.graph.to_bytes(), input_tensors(prepared.card, prepared.graph, pictures))

    at_least_as_good(agreement(source, made, data_dir), agreement(source, with_data(made, theirs), data_dir))


def with_data(made: QuantizedModel, data: bytes) -> QuantizedModel:
    """The same card over another's file."""
    return QuantizedModel(data, made.card, made.prepared, made.graph, made.notes)
