"""Tracking and events on composed scenes, whose truth is exact, and on videos of real cameras, beside a published tracker.

make tracking      # makes an environment of its own with TrackEval and supervision (both MIT), and runs this in it
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.tracking.composed import composed
from benchmarks.tracking.judge import judged, measures, ours, theirs
from benchmarks.tracking.scene import Scene
from benchmarks.tracking.videos import VIDEOS, filmed
from edgeannot.scene.tracking_options import TrackingOptions


def scenes(seeds: list[int], found: Path | None) -> Iterator[Scene]:
    """Yield the composed scenes, then the videos by model."""
    yield from map(composed, seeds)
    for folder in sorted(found.iterdir()) if found is not None and found.is_dir() else ():
        for name in VIDEOS:
            if (folder / f"{name}.json").is_file():
                yield filmed(name, folder / f"{name}.json")


def main() -> int:
    """Print the figures of each scene; 1 where those of the published tracker are better by more than is allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--found", type=Path, help="a folder with a folder for each model, of `benchmarks.tracking.detections`")
    asked = parser.parse_args()
    options = TrackingOptions(enabled=True, still_s=5.0)
    worse = []
    sums: dict[str, Counter[str]] = {}
    for scene in scenes(asked.seeds, asked.found):
        tracks, events = ours(scene, options)
        print(f"{scene.name}: {len(scene.cast)} objects in {len(scene.pictures)} pictures")
        own, other = measures(scene, tracks), measures(scene, theirs(scene, options.patience_s))
        for name, each in (("edgeannot", own), ("supervision's ByteTrack", other)):
            print(f"  {name:24}", ", ".join(f"{key} {value:.0f}" if key in COUNTS else f"{key} {value:.3f}" for key, value in each.items()))
        worse += [f"{key} of {scene.name}" for key in ("HOTA", "IDF1") if own[key] < other[key] - 0.01]
        total = sums.setdefault("composed scenes" if scene.name.startswith("composed") else scene.name.partition(", ")[2], Counter())
        total.update({"own switches": round(own["identity switches"]), "other switches": round(other["identity switches"])})
        for kind, (right, told, wanted) in judged(scene, events, options).items():
            total.update({"right": right, "told": told, "wanted": wanted})
            print(f"  {kind:9} right {right}, told {told}, wanted {wanted}")
    for name, total in sums.items():
        precision, recall = total["right"] / total["told"], total["right"] / total["wanted"]
        switches = total["own switches"], total["other switches"]
        print(
            f"{name}: precision of events {precision:.3f}, recall {recall:.3f}; identity switches {switches[0]}, ByteTrack's {switches[1]}"
        )
        worse += [f"identity switches of {name}"] if switches[0] > switches[1] else []
    print("worse than the published tracker:", "; ".join(worse) or "nothing")
    return int(bool(worse))


COUNTS = ("identity switches", "tracks")

if __name__ == "__main__":
    sys.exit(main())
