"""The rate that the daemon has to hold (docs/design.md): pictures a second over the bare runtime, published to a real broker.

    .venv/bin/python -m benchmarks.held [--model NAME[@SIZE]] [--pictures 300] [--rounds 3]

Each round measures the bare runtime and the daemon in turn, so that a machine whose speed drifts slows both; medians are printed. A
subscriber counts the messages. Ledger and label files are on. Ends with 1 where the bound of the model is missed or a message is.
`benchmarks/footprint.py` has memory, start and idle load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.watched import Counter, counting_broker, make_pictures, run_daemon
from edgeannot.base.places import bundled_folder
from edgeannot.vision.cards import find_card
from edgeannot.vision.pipeline import load_engine

BOUNDS = ((10.0, 0.97), (4.0, 0.85))
"""Where one run of the network takes at least so many ms, the rate is at least this share of the bare runtime's."""


def bare_per_s(model: str, threads: int, seconds: float = 2.0) -> float:
    """Runs a second of the runtime alone."""
    engine = load_engine(find_card(model, [bundled_folder()]), threads)
    tensor = np.random.default_rng(0).integers(0, 256, engine.input.shape).astype(engine.input.dtype)
    for _ in range(5):
        engine.run(tensor)
    runs, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        engine.run(tensor)
        runs += 1
    return runs / (time.perf_counter() - start)


def daemon_seconds(counter: Counter, model: str, threads: int, pictures: Path, data_dir: Path) -> float:
    """Seconds from the start of a run over the folder to its end, by when every result has been published."""
    run = run_daemon(counter, pictures, data_dir, "--once", "--model", model, "--threads", str(threads))
    run.process.wait()
    seconds = time.perf_counter() - run.started_at
    assert run.process.returncode == 0, "the daemon failed"
    wanted = len(list(pictures.iterdir()))
    deadline = time.monotonic() + 10
    while counter.count < wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    if counter.count != wanted:
        sys.exit(f"{counter.count} messages came of {wanted} pictures")
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolov3-tiny@224")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, counting_broker(Path(name) / "broker") as counter:
        folder = Path(name)
        few, many = 20, 20 + args.pictures
        make_pictures(folder / "few", few)
        make_pictures(folder / "many", many)
        ratios, rates, bares = [], [], []
        for i in range(args.rounds):
            bare = bare_per_s(args.model, args.threads)
            short = daemon_seconds(counter, args.model, args.threads, folder / "few", folder / f"a{i}")
            long = daemon_seconds(counter, args.model, args.threads, folder / "many", folder / f"b{i}")
            bares.append((bare + bare_per_s(args.model, args.threads)) / 2)
            rates.append((many - few) / (long - short))  # the difference of two runs leaves out the start
            ratios.append(rates[-1] / bares[-1])
    bare_ms, ratio = 1000 / statistics.median(bares), statistics.median(ratios)
    bound = next((share for least_ms, share in BOUNDS if bare_ms >= least_ms), None)
    figures = {
        "model": args.model,
        "threads": args.threads,
        "bare_ms": round(bare_ms, 2),
        "pictures_per_s": round(statistics.median(rates), 1),
        "over_bare_runtime": round(ratio, 3),
        "over_bare_runtime_all": [round(r, 3) for r in ratios],
        "bound": bound,
        "load": os.getloadavg()[0],
    }
    print(json.dumps(figures, indent=2))
    if bound is not None and ratio < bound:
        sys.exit(f"missed: {ratio:.3f} of the bare runtime's rate, the bound is {bound}")


if __name__ == "__main__":
    main()
