"""`edgeannot teach classify` on a labelled set: accuracy of float and int8 by training pictures a class, and flipped labels found.

    python -m benchmarks.teach.classify SET [--counts 5,10,30,40] [--splits 10] [--views 4] [--size 288] [--data-dir DIR]

Each split draws so many pictures of each class to learn from; all others are answered by the layers as float numbers and as they are in
the int8 file, run by the runtime on the vectors of the pictures' first views, which are what the file's own network gives. Vectors are kept
in the data directory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from edgeannot.base.places import model_folders
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import FloatArray, IntArray
from edgeannot.vision.engine import Engine
from edgeannot.vision.views import mean_of
from edgeannot_tools.graph.edits import cut
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.teach.classify.backbone import BUNDLED, Backbone, find_backbone
from edgeannot_tools.teach.classify.examples import Seen, collect_examples, read_examples
from edgeannot_tools.teach.classify.head import OUTPUT
from edgeannot_tools.teach.classify.teaching import teach

FLIPPED = 0.05
LOOKED_AT = 0.15


def some(seen: Seen, rows: IntArray) -> Seen:
    """Return these pictures of the set alone."""
    paths = tuple(seen.paths[row] for row in rows)
    return dataclasses.replace(seen, paths=paths, classes=seen.classes[rows], vectors=seen.vectors[rows], groups=seen.groups[rows])


def said_by_file(model: bytes, backbone: Backbone, vectors: FloatArray) -> IntArray:
    """Return (N,) classes by the layers behind the embedding, as the runtime runs them. vectors: (N, views, D)."""
    graph = Graph.from_bytes(model)
    cut(graph, [OUTPUT], [backbone.graph().name(backbone.graph().outputs[0])])
    engine = Engine(graph.to_bytes())
    spec = engine.input
    stored = np.clip(np.rint(vectors / spec.scale) + spec.zero_point, -128, 127).astype(spec.dtype) if spec.scale else vectors
    return np.array([int(mean_of(engine.run(view.reshape(spec.shape)) for view in row)[0].real().argmax()) for row in stored], np.int64)


def main() -> None:
    """Print one line for each number of pictures, and one for the flipped labels."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("--counts", default="5,10,30,40")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--views", type=int, choices=(1, 2, 4), default=1)
    parser.add_argument("--size", type=int)
    parser.add_argument("--data-dir", type=Path, default=Path(".cache/teach"))
    asked = parser.parse_args()
    backbone = find_backbone(find_card(BUNDLED, model_folders(asked.data_dir)), asked.size)
    seen = collect_examples(read_examples(asked.set), backbone, asked.data_dir / "cache" / "teach", 2, "auto", asked.views)
    classes = len(seen.class_names)
    for count in map(int, filter(None, asked.counts.split(","))):
        rows, middle = [], []
        for split in range(asked.splits):
            rng = np.random.default_rng(split)
            chosen = np.concatenate([rng.permutation(np.nonzero(seen.classes == number)[0])[:count] for number in range(classes)])
            rest = np.setdiff1d(np.arange(len(seen.classes)), chosen)
            taught = teach(some(seen, chosen), backbone, "benchmark", "benchmark", asked.views)
            looked, truth = seen.vectors[rest, taught.learned.look, : asked.views], seen.classes[rest]
            middle.append(seen.looks[taught.learned.look] == "crop")
            right = [
                (said == truth).mean()
                for said in (taught.learned.head(looked).mean(axis=1).argmax(axis=1), said_by_file(taught.model, backbone, looked))
            ]
            rows.append([*right, taught.accuracy])
        mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
        print(
            json.dumps(
                {
                    "pictures_a_class": count,
                    "views": asked.views,
                    "splits": asked.splits,
                    "float": round(float(mean[0]), 4),
                    "int8": round(float(mean[1]), 4),
                    "int8_spread": round(float(spread[1]), 4),
                    "looks_at_the_middle": round(float(np.mean(middle)), 2),
                    "said_by_cross_validation": round(float(mean[2]), 4),
                }
            ),
            flush=True,
        )
    if asked.views > 1:
        return  # labels do not depend on them
    shares = []
    for split in range(asked.splits):
        rng = np.random.default_rng(1000 + split)
        labels = seen.classes.copy()
        flipped = rng.permutation(len(labels))[: round(FLIPPED * len(labels))]
        labels[flipped] = (labels[flipped] + rng.integers(1, classes, len(flipped))) % classes
        taught = teach(dataclasses.replace(seen, classes=labels), backbone, "benchmark", "benchmark")
        first = taught.suspicious[: round(LOOKED_AT * len(labels))]
        shares.append(float(np.isin(flipped, first).mean()))
    print(
        json.dumps({"flipped": FLIPPED, "looked_at": LOOKED_AT, "found": round(float(np.mean(shares)), 3), "least": round(min(shares), 3)})
    )


if __name__ == "__main__":
    main()
