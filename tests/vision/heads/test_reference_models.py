"""Heads on the outputs of real networks, one export style each, against boxes that an independent decoder found and a person looked at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeannot.vision.data import Detections, Fit, Outputs
from edgeannot.vision.engine import Engine
from edgeannot.vision.geometry import clip, iou_matrix, nms, place
from edgeannot.vision.heads import Head
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.embed import Embed
from edgeannot.vision.heads.end_to_end import EndToEnd
from edgeannot.vision.heads.ssd_anchors import ScaledAnchors, SsdAnchors
from edgeannot.vision.heads.ssd_postprocess import SsdPostprocess
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot.vision.heads.yolo_grid import Grid, YoloGrid
from edgeannot.vision.heads.yolo_rows import YoloRows
from edgeannot.vision.heads.yolox import Yolox
from edgeannot.vision.preprocess import ToTensor
from tests.vision.heads.examples import outputs as from_arrays

pytestmark = pytest.mark.runtime


@dataclass(frozen=True)
class Case:
    """One model with what its card would say, and where the reference is known to differ."""

    head: Head
    classes: int | None
    preprocess: dict[str, Any]
    class_shift: int = 0
    """Added to class ids before they are compared: the reference counts from the first real class."""
    unsure: tuple[tuple[str, int], ...] = ()
    """Photo and class of objects that only one side may have; the reason stands beside each."""
    suppress: bool | None = None
    """Whether to suppress before comparing, where the reference did otherwise than the head asks."""
    score_tolerance: float = 0.05
    litert_only: str = ""
    """Why the older runtime is not asked."""


LETTERBOX = {"resize": "letterbox"}
SIGNED = {"mean": (127.5,), "std": (127.5,)}
FACE_ANCHORS = ScaledAnchors(
    strides=(8, 16, 16, 16), min_scale=0.1484375, max_scale=0.75, aspect_ratios=(1.0,), interpolated_aspect_ratio=1.0, unit_size=True
)
VOC_ANCHORS = ((26, 48), (67, 84), (72, 175), (189, 126), (137, 236), (265, 259))

DETECTORS = {
    "ssd_mnv1_coco_quant_pp": Case(
        SsdPostprocess(boxes=0, classes=1, scores=2, count=3),
        None,
        {"mean": (128.0,), "std": (128.0,)},
        # The operator keeps boxes that overlap by up to 0.6; the reference suppressed its answer once more, at 0.45.
        suppress=True,
    ),
    "ssd_mnv2_fpnlite320_coco_tf2_f32io": Case(
        SsdPostprocess(boxes="StatefulPartitionedCall:3", classes="StatefulPartitionedCall:2", scores="StatefulPartitionedCall:1"),
        None,
        SIGNED,
    ),
    "yolov5n_640_uint8": Case(YoloRows(output=0, layout="rows", objectness=True, box_units="normalized"), 80, LETTERBOX),
    "yolov5n_640_fp16": Case(YoloRows(output=0, layout="rows", objectness=True, box_units="normalized"), 80, LETTERBOX),
    "yolov8n_640_int8w_f32io": Case(YoloRows(output=0, layout="columns", objectness=False, box_units="normalized"), 80, LETTERBOX),
    "yolov8n_224_int8io": Case(YoloRows(output=0, layout="columns", objectness=False, box_units="normalized"), 80, LETTERBOX),
    "yolo26n_320_e2e_f32io": Case(
        EndToEnd(output=0, box_units="normalized"),
        None,
        LETTERBOX,
        # This network gives the car 0.5 or less than 0.25, depending on the resize filter; the reference has none.
        unsure=(("photos/dog.jpg", 2),),
    ),
    "yolofastest_voc320_2heads_f32io": Case(
        YoloGrid(grids=(Grid(output=0, anchors=VOC_ANCHORS[3:]), Grid(output=1, anchors=VOC_ANCHORS[:3]))), 20, {}
    ),
    "nanodet_m320_6outs_int8w": Case(
        head=Dfl(strides=(32, 16, 8), boxes=(0, 2, 4), scores=(1, 3, 5), bins=8, activation="none"),
        classes=80,
        litert_only="tflite-runtime 2.14 computes NaN in this network's weight-quantized layers on x86",
        preprocess={"color": "BGR", "mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)},
    ),
    "yolox_nano_mask3_nchw_fp16": Case(
        Yolox(outputs=(0,)), 3, {"color": "BGR", "layout": "NCHW", "resize": "letterbox-top-left", "mean": (0.0,), "std": (1.0,)}
    ),
    "st_ssd_mnv1_025_person224_raw_anchors": Case(
        SsdAnchors(boxes=(1,), scores=(0,), anchor_tensor=2, activation="none", background=0, code="corners", scales=(1, 1, 1, 1)),
        2,
        {"mean": (127.0,), "std": (127.5,)},
        class_shift=-1,
        # The dog (a "person" to this network) scores 0.68 to 0.74 when all input bytes move by one or the filter changes; 0.77 there.
        score_tolerance=0.06,
    ),
    "blazeface_front_f32": Case(
        SsdAnchors(
            boxes=("regressors",),
            scores=("classificators",),
            scaled=FACE_ANCHORS,
            activation="sigmoid",
            code="xywh",
            scales=(128, 128, 128, 128),
            exponential=False,
            extra_columns=12,
        ),
        1,
        LETTERBOX | SIGNED,
    ),
}

CLASSIFIERS = ("mobilenet_v2_1.0_224_quant", "mobilenet_v1_0.25_128_quant")


def darknet(anchors: tuple[tuple[float, float], ...], xy_scales: tuple[float, ...]) -> YoloGrid:
    """Heads as a .cfg lists them, three anchors each, the coarse map with the large ones first."""
    groups = [anchors[i : i + 3] for i in range(len(anchors) - 3, -1, -3)]
    grids = [Grid(output=i, anchors=group, xy_scale=scale) for i, (group, scale) in enumerate(zip(groups, xy_scales, strict=True))]
    return YoloGrid(grids=tuple(grids), layout="NCHW")


@dataclass(frozen=True)
class Network:
    """A model ready to run on photos, with OpenCV's bilinear filter as the references used, whatever `ToTensor` prefers."""

    engine: Engine
    to_tensor: ToTensor

    def __call__(self, image: np.ndarray) -> tuple[Outputs, Fit]:
        fit, inner_wh = place((image.shape[1], image.shape[0]), self.to_tensor.size_wh, self.to_tensor.resize)
        tensor, _ = self.to_tensor(cv2.resize(image, inner_wh, interpolation=cv2.INTER_LINEAR))
        return self.engine.run(tensor), fit


def load(data_dir: Path, name: str, preprocess: dict[str, Any]) -> Network:
    engine = Engine(data_dir / "models" / f"{name}.tflite", threads=2)
    height, width = engine.input.shape[2:] if preprocess.get("layout") == "NCHW" else engine.input.shape[1:3]
    return Network(engine, ToTensor(engine.input, (width, height), **preprocess))


def reference(data_dir: Path, name: str) -> dict[str, Any]:
    return json.loads((data_dir / "reference" / f"{name}.json").read_text())["images"]


@dataclass(frozen=True)
class Agreement:
    """What counts as the same object on both sides."""

    firm_score: float
    iou: float
    score_tolerance: float

    def missing(self, wanted: Detections, found: Detections) -> list[str]:
        """The firm objects of one side that have no partner on the other: same class, box and score."""
        wanted = wanted[wanted.scores >= self.firm_score]
        same = (iou_matrix(wanted.boxes, found.boxes) >= self.iou) & (wanted.classes[:, None] == found.classes[None])
        same &= abs(wanted.scores[:, None] - found.scores[None]) <= self.score_tolerance
        return [
            f"class {wanted.classes[i]} score {wanted.scores[i]:.3f} box {wanted.boxes[i].round(1)}"
            for i in np.flatnonzero(~same.any(axis=1))
        ]


def agreement(case: Case, network: Network) -> Agreement:
    """The references were made with LiteRT. Its predecessor's integer kernels round differently, so there only clear objects count."""
    return Agreement(0.35, 0.8, case.score_tolerance) if network.engine.runtime == "litert" else Agreement(0.8, 0.7, 0.25)


def compare(case: Case, same: Agreement, outputs: Outputs, fit: Fit, photo: str, entry: dict[str, Any]) -> None:
    """Decodes, suppresses, maps back to the photo and demands agreement both ways."""
    found = case.head.decode(outputs, fit.model_wh, 0.25)
    if case.head.suppress if case.suppress is None else case.suppress:
        found = found[nms(found.boxes, found.scores, found.classes, 0.45)]
    found = Detections(clip(fit.to_frame(found.boxes), fit.frame_wh), found.scores, found.classes + case.class_shift)
    boxes = np.array([d["box_xyxy_px"] for d in entry["detections"]], np.float32).reshape(-1, 4)
    scores = np.array([d["score"] for d in entry["detections"]], np.float32)
    wanted = Detections(clip(boxes, fit.frame_wh), scores, np.array([d["class_index"] for d in entry["detections"]], np.int64))
    unsure = [class_id for where, class_id in case.unsure if where == photo]
    assert len(wanted)
    assert same.missing(wanted, found) == [], photo
    assert same.missing(found[~np.isin(found.classes, unsure)], wanted) == [], photo


@pytest.mark.parametrize("name", DETECTORS)
def test_a_real_detector_finds_what_an_independent_decoder_found(data_dir, name):
    case = DETECTORS[name]
    network = load(data_dir, name, case.preprocess)
    if case.litert_only and network.engine.runtime != "litert":
        pytest.skip(case.litert_only)
    assert case.head.check(network.engine.outputs, network.to_tensor.size_wh) == case.classes
    for photo, entry in reference(data_dir, name).items():
        outputs, fit = network(cv2.imread(str(data_dir / photo)))
        compare(case, agreement(case, network), outputs, fit, photo, entry)


DARKNET = {
    "yolo-fastest-1.1": Case(darknet(((12, 18), (37, 49), (52, 132), (115, 73), (119, 199), (242, 238)), (1.0, 1.0)), 80, {}),
    "MobileNetV2-YOLO-Fastest-voc-v2": Case(darknet(VOC_ANCHORS, (1.1, 1.05)), 20, {}),
    "yoloface-50k": Case(darknet(((9, 14), (12, 17), (22, 21)), (1.0,)), 1, {}),
}


@pytest.mark.older
@pytest.mark.parametrize("name", DARKNET)
def test_raw_maps_of_darknet_networks_decode_to_what_opencv_makes_of_them(data_dir, name):
    case = DARKNET[name]
    net = cv2.dnn.readNetFromDarknet(*[str(data_dir / "models" / "darknet" / f"{name}.{ext}") for ext in ("cfg", "weights")])
    names = net.getLayerNames()
    # A [yolo] layer is an activation after a permutation after the convolution whose map is wanted.
    maps = [names[i - 3] for i in net.getUnconnectedOutLayers()]
    side = 56 if name == "yoloface-50k" else 320
    for photo, entry in reference(data_dir, f"darknet_{name}").items():
        image = cv2.imread(str(data_dir / photo))
        net.setInput(cv2.dnn.blobFromImage(image, 1 / 255, (side, side), swapRB=True))
        outputs = from_arrays(*net.forward(maps))
        fit, _ = place((image.shape[1], image.shape[0]), (side, side), "stretch")
        assert case.head.check(tuple(tensor.spec for tensor in outputs), (side, side)) == case.classes
        compare(case, Agreement(0.35, 0.8, 0.05), outputs, fit, photo, entry)


def test_yolo_fastestv2_decodes_to_what_an_independent_decoder_found(data_dir):
    anchors = (((12.64, 19.39), (37.88, 51.48), (55.71, 138.31)), ((126.91, 78.23), (131.57, 214.55), (279.92, 258.87)))
    case = Case(YoloFastestV2(outputs=(0,), strides=(16, 32), anchors=anchors), 80, {})
    net = cv2.dnn.readNetFromONNX(str(data_dir / "models" / "onnx" / "yolo-fastestv2.onnx"))
    for photo, entry in reference(data_dir, "onnx_yolo-fastestv2").items():
        image = cv2.imread(str(data_dir / photo))
        net.setInput(cv2.dnn.blobFromImage(image, 1 / 255, (352, 352)))
        outputs = from_arrays(net.forward())
        fit, _ = place((image.shape[1], image.shape[0]), (352, 352), "stretch")
        assert case.head.check(tuple(tensor.spec for tensor in outputs), (352, 352)) == case.classes
        compare(case, Agreement(0.35, 0.8, 0.05), outputs, fit, photo, entry)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_real_classifier_gives_the_classes_an_independent_reader_gave(data_dir, name):
    network = load(data_dir, name, {"mean": (128.0,), "std": (128.0,)})
    head, input_wh = Classify(output=0), network.to_tensor.size_wh
    assert head.check(network.engine.outputs, input_wh) == 1001
    for photo, wanted in reference(data_dir, f"cls_{name}").items():
        outputs, _ = network(cv2.imread(str(data_dir / photo)))
        found = head.decode(outputs, input_wh, 0.0)
        scores = {int(c): float(s) for c, s in zip(found.classes, found.scores, strict=True)}
        assert int(found.classes[0]) == wanted[0]["index"], photo
        for entry in wanted:
            if entry["score"] >= 0.15:
                assert scores.get(entry["index"], 0.0) == pytest.approx(
                    entry["score"], abs=0.05 if network.engine.runtime == "litert" else 0.1
                ), photo


def test_a_real_embedding_extractor_gives_its_vector_and_no_object(data_dir):
    network = load(data_dir, "mobilenet_v1_1.0_224_embedding_quant", {"mean": (128.0,), "std": (128.0,)})
    head, input_wh = Embed(output=0), network.to_tensor.size_wh
    assert head.check(network.engine.outputs, input_wh) is None
    outputs, _ = network(cv2.imread(str(data_dir / "photos/dog.jpg")))
    assert len(head.decode(outputs, input_wh, 0.0)) == 0
    vector = head.vector(outputs)
    assert vector.shape == (1024,)
    assert vector.max() > 0
