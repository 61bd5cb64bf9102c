"""What surrounds the network, step by step: edgeannot's beside EdgeFirst's HAL, which does them in Rust.

    .venv/bin/python -m benchmarks.peers.stages [--prepare] [--pictures 20] [--rounds 3] [--page]

decode: a JPEG in memory to pixels. input: pixels to the input tensor, letterboxed. boxes: the network's output, the same file for both,
to boxes after suppression. Each step runs alone in a process of its own; what it is given is made before, and not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.compare import CACHE, ROWS, Peer, busy, card_of, into_page, make_pictures, measure
from benchmarks.peers.environments import interpreter, prepare

NETWORKS = {"yolov8n 640": ("float32", 640), "yolov8n 224 int8": ("int8", 224)}
STEPS = {"decode": "JPEG to pixels", "input": "letterbox, numbers of the input", "boxes": "output to boxes"}


def stage(network: str, step: str, pictures: list[Path], rounds: int) -> list[dict[str, Any]]:
    """Return the figures of both for one step."""
    kind, size = NETWORKS[network]
    model, end = ROWS[network].model, f".{size}.npz"
    _, models = card_of(ROWS[network], CACHE / "data")
    own, other = str(interpreter("edgeannot")), str(interpreter("edgefirst"))
    command = [own, "-m", "benchmarks.peers.own_stages", step, model, str(models), end]
    if not Path(f"{pictures[-1]}{end}").exists():
        told = "".join(f"{path}\n" for path in pictures)
        subprocess.run([*command[:3], "outputs", *command[4:]], input=told, text=True, check=True, stdout=subprocess.DEVNULL)
    theirs = [other, "-m", "benchmarks.peers.edgefirst_stages", step, kind, str(size), end]
    return measure([Peer("edgeannot", command), Peer("edgefirst", theirs)], pictures, rounds)


def table(found: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    """Return the Markdown table."""
    lines = ["| network | step | edgeannot: ms | processor ms | EdgeFirst: ms | processor ms | boxes |", "|---|---|---|---|---|---|---|"]
    versions: dict[str, Any] = {}
    for (network, step), results in found.items():
        cells = [f"not measured: {each['failed']} | " if "failed" in each else f"{each['ms']} | {each['cpu_ms']}" for each in results]
        boxes = ", ".join(str(each.get("boxes", "")) for each in results) if step == "boxes" else ""
        lines.append(f"| {network} | {STEPS[step]} | {' | '.join(cells)} | {boxes} |")
        versions |= {name: number for each in results for name, number in each.get("versions", {}).items()}
    return "\n".join([*lines, "", "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + f". {busy()}"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    os.environ |= {"EDGEFIRST_DISABLE_GL": "1", "RAYON_NUM_THREADS": "1"}
    if args.prepare:
        print("\n".join(f"{name}: {why}" for name, why in prepare(["edgeannot", "edgefirst"]).items()))
    with tempfile.TemporaryDirectory() as name:
        pictures = make_pictures(Path(name), args.pictures)
        found = {(network, step): stage(network, step, pictures, args.rounds) for network in NETWORKS for step in STEPS}
    (CACHE.parent / "stages.json").write_text(json.dumps({"load": os.getloadavg(), "rows": [*found.values()]}, indent=2))
    print(table(found))
    if args.page:
        into_page("benchmarks/peers/stages.py", table(found))


if __name__ == "__main__":
    main()
