"""How good a taught detector is by the number of pictures: the int8 file on pictures that were not taught, over several splits.

    python -m benchmarks.teach.detect SET [--backbone NAME[@SIZE]]... [--pictures 30,10,5] [--test 10] [--splits 4] [--background DIR]
                                      [--empty DIR] [--recipes] [--label WORDS] [--json FILE]
    python -m benchmarks.teach.detect --draw FILE... --plot PNG

Each split deals the pictures anew after every whole round: as many disjoint parts of --test pictures as there are, each the test set
once, and the first N of the others taught. The features of all views are made once a backbone, so the times are those of the views
taught; processor seconds, as other programs may lengthen the wall times. "int8" runs the file through `evaluate`, "float" the same
layers without rounding of weights and outputs. --recipes: the same splits also without size bins, the finer map and the context of the
next coarser map, and with one of them alone. --empty: pictures without the objects, none of them taught, for false alarms at the
threshold of the card. --draw: what was measured before, each file a line of --plot under its --label. Sets of objects of very different
size, and of small ones in crowds, are made by benchmarks/teach/pasted_sets.py.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.teach.plot import save_plot
from edgeannot.vision.pipeline import load_pipeline
from edgeannot_tools.datasets import Dataset
from edgeannot_tools.datasets.pictures import PICTURE_SUFFIXES, list_files
from edgeannot_tools.evaluate.average_precision import evaluate_detections, find_misses
from edgeannot_tools.evaluate.measure import evaluate_model, match_model, read_frame
from edgeannot_tools.teach.detect.command import find_backbone
from edgeannot_tools.teach.detect.examples import MOST_VIEWS, Examples, make_examples, views_for
from edgeannot_tools.teach.detect.held_out import detect, small_alone
from edgeannot_tools.teach.detect.made_background import MADE
from edgeannot_tools.teach.detect.pictures import TeachingSet, read_teaching_set
from edgeannot_tools.teach.detect.teaching import fitted, make_model, teach_examples


@dataclass(frozen=True)
class Recipe:
    """What of `teach detect` is used."""

    name: str = ""
    bins: bool | None = None
    finer: bool = True
    context: bool = True


RECIPES = (
    Recipe("plain", bins=False, finer=False, context=False),
    Recipe("size bins alone", bins=True, finer=False, context=False),
    Recipe("the finer map alone", bins=False, context=False),
    Recipe("the finer map and context", bins=False),
    Recipe("all three", bins=True),
)


def splits(count: int, test: int, wanted: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield (others, test) picture numbers."""
    for seed in range(wanted):
        order = np.random.default_rng(seed).permutation(count)
        for start in range(0, count - test + 1, test):
            if wanted == 0:
                return
            wanted -= 1
            yield np.delete(order, np.arange(start, start + test)).tolist(), order[start : start + test].tolist()


def part(to_teach: TeachingSet, examples: Examples, numbers: list[int]) -> tuple[TeachingSet, Examples]:
    """Return the set and the views of some of the pictures, as many of each as `teach detect` makes of so many pictures."""
    views = views_for(examples.backbone, [to_teach.pictures[number] for number in numbers])
    number = np.arange(len(examples.picture)) - examples.whole[examples.picture]
    rows = np.flatnonzero(np.isin(examples.picture, numbers) & (number <= views))
    new = {old: number for number, old in enumerate(sorted(numbers))}
    picture = np.array([new[int(old)] for old in examples.picture[rows]])
    whole = np.searchsorted(picture, np.arange(len(new)))
    marked = tuple(examples.marked[row] for row in rows)
    maps = tuple(store[rows] for store in examples.maps)
    kept = tuple(to_teach.pictures[number] for number in sorted(numbers))
    return replace(to_teach, pictures=kept), Examples(examples.backbone, maps, picture, whole, marked, examples.hashes[sorted(numbers)])


def reading(examples: Examples, recipe: Recipe) -> Examples:
    """Return the features that a recipe reads."""
    backbone = examples.backbone
    first = int(backbone.finer and not recipe.finer)
    taps = tuple(tap if recipe.context else replace(tap, context="") for tap in backbone.taps[first:])
    return replace(examples, backbone=replace(backbone, taps=taps, finer=backbone.finer and recipe.finer), maps=examples.maps[first:])


def one_split(
    to_teach: TeachingSet, examples: Examples, taught_with: list[int], test: list[int], empty: list[Path], *, bins: bool | None
) -> dict[str, float]:
    """Return the figures of a model that is taught with some pictures and tried on others. bins: see `teach_examples`."""
    some, views = part(to_teach, examples, taught_with)
    clock = time.process_time()
    taught = teach_examples(some, views, bins=bins)
    fit_s = time.process_time() - clock
    pictures = [to_teach.pictures[number] for number in test]
    in_float = [detect(examples, taught.layers, number, to_teach.pictures[number].picture.size_wh, rounded=False) for number in test]
    exact = evaluate_detections([(item.truth(), found) for item, found in zip(pictures, in_float, strict=True)])
    with tempfile.TemporaryDirectory() as folder:
        data, card = make_model(taught, some, "taught", "benchmark", "benchmark")
        card = card.in_folder(Path(folder))
        card.model_path.write_bytes(data)
        dataset = Dataset(to_teach.labels, tuple(item.picture for item in pictures))
        result = evaluate_model(card, dataset, match_model(card, dataset), coco=False)
        pipeline = load_pipeline(card)
        alarms = sum(bool(len(pipeline(read_frame(path, 0, "")).detections)) for path in empty)
    pairs = [(item.truth, item.found) for item in result.compared]
    small = small_alone(pairs, [item.picture.size_wh for item in pictures])
    missed = sum(len(find_misses(item.truth, item.found, taught.min_score)[0]) for item in result.compared)
    return {
        "map50": result.accuracy.map50,
        "mean_iou": result.accuracy.mean_iou,
        "map50_float": exact.map50,
        "mean_iou_float": exact.mean_iou,
        "recall_at_card": 1 - missed / max(result.accuracy.objects, 1),
        "alarms": alarms / max(len(empty), 1),
        "min_score": taught.min_score,
        "held_out_map50": taught.accuracy.map50,
        "views": float(len(views.picture)),
        "fit_cpu_s": fit_s,
        "bins": float(taught.bins),
        "small_map50": small.map50,
        **{f"ap50 {to_teach.labels[row.class_id]}": row.ap50 for row in result.accuracy.classes},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, nargs="?")
    parser.add_argument("--format")
    parser.add_argument("--backbone", action="append")
    parser.add_argument("--pictures", default="30,10,5")
    parser.add_argument("--test", type=int, default=10)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--views", type=int, default=MOST_VIEWS, help="made of each picture at most")
    parser.add_argument("--made", type=int, default=MADE, help="pictures of background at least, made where --background has fewer")
    parser.add_argument("--background", type=Path, help="taught as background in every split")
    parser.add_argument(
        "--empty", type=Path, help="pictures without the objects for false alarms; those of --background are left out by hash"
    )
    parser.add_argument("--recipes", action="store_true", help="other ways to read the maps and to divide the objects, one after the other")
    parser.add_argument("--label", default="taught", help="of the line in --plot")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--draw", type=Path, nargs="+")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    if args.draw:
        drawn = [row for path in args.draw for row in json.loads(path.read_text())]
        labels = dict.fromkeys(row["label"] for row in drawn)
        save_plot({label: [row for row in drawn if row["label"] == label] for label in labels}, args.plot)
        return
    to_teach = read_teaching_set(args.dataset, args.format, background=args.background, made=args.made)
    labelled = [number for number, item in enumerate(to_teach.pictures) if not item.background]
    background = [number for number, item in enumerate(to_teach.pictures) if item.background]
    empty = untaught(args.empty, to_teach) if args.empty else []
    report = []
    for name in args.backbone or ["ssdlite-mobilenet-v2-coco"]:
        backbone = fitted(find_backbone(name, None), to_teach.pictures)
        wall, clock = time.perf_counter(), time.process_time()
        examples = make_examples(backbone, to_teach.pictures, args.views)
        cost = (time.process_time() - clock) / len(examples.picture)
        print(f"{backbone.name}: {cost * 1e3:.1f} ms of a processor a view ({time.perf_counter() - wall:.0f} s in all)", flush=True)
        for count, recipe in itertools.product(map(int, args.pictures.split(",")), RECIPES if args.recipes else (Recipe(),)):
            read = reading(examples, recipe)
            rows = []
            for others, test in splits(len(labelled), args.test, args.splits):
                taught_with = [*(labelled[i] for i in others[:count]), *background]
                rows.append(one_split(to_teach, read, taught_with, [labelled[i] for i in test], empty, bins=recipe.bins))
            keys = dict.fromkeys(key for row in rows for key in row)
            mean = {key: float(np.mean([row[key] for row in rows if key in row])) for key in keys}
            each, how = " ".join(f"{row['map50']:.2f}" for row in rows), f", {recipe.name}" if recipe.name else ""
            print(
                f"  {count:3d} pictures{how}, {len(rows)} splits: mAP50 {mean['map50']:.3f} [{each}], "
                f"mean IoU {mean['mean_iou']:.3f} (float {mean['map50_float']:.3f}, {mean['mean_iou_float']:.3f}); "
                f"at the card's score {mean['min_score']:.2f} {mean['recall_at_card']:.0%} found, "
                f"alarms in {mean['alarms']:.0%} of {len(empty)}; its own estimate {mean['held_out_map50']:.3f}; "
                + "".join(f"{key} {value:.3f}; " for key, value in mean.items() if key.startswith("ap50 ") or key == "small_map50")
                + f"bins in {mean['bins']:.0%}; features {cost * mean['views']:.1f} + fit {mean['fit_cpu_s']:.1f} processor s",
                flush=True,
            )
            facts = {
                "label": args.label + how,
                "backbone": backbone.name,
                "pictures": count,
                "splits": len(rows),
            }
            report.append({**facts, "features_cpu_s": cost * mean["views"], **mean})
            if args.json:
                args.json.write_text(json.dumps(report, indent=1) + "\n")


def untaught(folder: Path, to_teach: TeachingSet) -> list[Path]:
    """Return the pictures of a folder that are in no to_teach, by their content."""
    known = {content(item.path) for item in to_teach.pictures if item.made is None}
    return [path for path in list_files(folder, PICTURE_SUFFIXES) if content(path) not in known]


def content(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
