"""TensorFlow.js graph models: model.json spoiled by words and by what nodes say of each other, weights by their bytes."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from random import Random

import numpy as np

from edgeannot_tools.convert.tfjs.files import read_model
from edgeannot_tools.convert.tfjs.network import build
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.words import change_text
from tests.tools.convert.tfjs_maker import GraphMaker

KERNEL = np.linspace(-1, 1, 108, dtype=np.float32).reshape(3, 3, 3, 4)


@functools.cache
def made_models() -> tuple[tuple[str, bytes], ...]:
    """A detector with its channels first, and one as TensorFlow's detection API writes them: JSON and weights of each."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for maker in (_channels_first(), _detection_api()):
            path = maker.write(Path(folder))
            found.append((json.dumps(json.loads(path.read_text()), indent=1), (Path(folder) / "group1-shard1of1.bin").read_bytes()))
    return tuple(found)


def _channels_first() -> GraphMaker:
    maker = GraphMaker()
    maker.node("Pad", "pad", maker.picture(1, 3, 16, 16), maker.integers("pads", [[0, 0], [0, 0], [1, 1], [1, 1]]))
    maker.node("Transpose", "last", "pad", maker.integers("to_last", [0, 2, 3, 1]))
    maker.conv("conv", "last", KERNEL, padding="VALID", stride=2)
    maker.node("Transpose", "first", "conv", maker.integers("to_first", [0, 3, 1, 2]))
    maker.node("LeakyRelu", "leaky", "first", alpha=0.1)
    maker.node("SplitV", "parts", "leaky", maker.integers("sizes", [3, 1]), maker.integers("axis", 1), num_split=2)
    maker.node("ConcatV2", "joined", "parts:1", "parts", "axis")
    maker.node("Reshape", "rows", "joined", maker.integers("shape", [1, 4, -1]))
    return maker


def _detection_api() -> GraphMaker:
    maker = GraphMaker()
    maker.node("Mul", "scaled", maker.picture(-1, 16, 16, 3), maker.constant("factor", 1 / 127.5))
    maker.conv("conv", "scaled", KERNEL)
    maker.node("FusedBatchNormV3", "norm", "conv", *(maker.constant(name, [1.0] * 4) for name in "abcd"), epsilon=0.001)
    maker.node("AddN", "sum", "norm", "conv")
    maker.node("ResizeBilinear", "large", "sum", maker.integers("size", [32, 32]), half_pixel_centers=True)
    maker.node("MaxPool", "pool", "large", ksize=(1, 2, 2, 1), strides=(1, 2, 2, 1), padding="SAME")
    maker.node("Shape", "sizes", "pool")
    maker.node(
        "StridedSlice",
        "batch",
        "sizes",
        *(maker.integers(name, [value]) for name, value in (("x", 0), ("y", 1), ("z", 1))),
        shrink_axis_mask=1,
    )
    maker.node("Pack", "shape", "batch", maker.integers("rest", -1), maker.integers("four", 4), axis=0)
    maker.node("Reshape", "rows", "pool", "shape")
    maker.node("Sigmoid", "scores", "rows")
    return maker


class TheDoor(Door):
    """`edgeannot convert model.json`, as far as the network that is written."""

    modules = tuple(
        f"tools/edgeannot_tools/convert/tfjs/{name}.py" for name in ("constants", "files", "layers", "network", "shapes", "values")
    )

    def seeds(self) -> list[Case]:
        return [Case("json", text.encode(), {"model": number}) for number, (text, _) in enumerate(made_models())]

    def mutate(self, rng: Random, case: Case) -> Case:
        if rng.random() < 0.4:
            return Case(case.kind, change_text(rng, case.body, [text.encode() for text, _ in made_models()]), case.about)
        try:
            table = json.loads(case.body)
            nodes = table["modelTopology"]["node"]
            node, other, field = rng.choice(nodes), rng.choice(nodes), rng.choice(("op", "input", "attr"))
            node[field] = rng.choice((other.get(field, []), [], {}, "", None))
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return case
        return Case(case.kind, json.dumps(table).encode(), case.about)

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        (folder / "model.json").write_bytes(case.body)
        (folder / "group1-shard1of1.bin").write_bytes(made_models()[case.about["model"]][1])
        model = read_model(folder / "model.json")
        visit.past_first = True
        build(model).graph.to_bytes()
