"""The numbers that the daemon has to hold (docs/design.md): speed over the bare runtime, memory, start, idle load.

    .venv/bin/python benchmarks/held.py [--model NAME[@SIZE]] [--pictures 300] [--rounds 3]

Each round measures the bare runtime and the daemon in turn, so that a machine whose speed drifts slows both; medians are printed.
No broker is needed: messages go to the outbox on the disk, as they do in an outage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from edgeannot.base.places import bundled_folder
from edgeannot.vision.cards import find_card
from edgeannot.vision.pipeline import load_engine

COMMAND = [sys.executable, "-c", "from edgeannot.cli.app import main; main()"]
SAMPLES = Path(__file__).resolve().parent.parent / "edgeannot" / "samples"
NOBODY = "mqtt://127.0.0.1:9"


def make_pictures(folder: Path, count: int) -> None:
    """`count` JPEG files of about one megapixel, each different, cut from the sample photos."""
    folder.mkdir()
    photos = [cv2.imread(str(path)) for path in sorted(SAMPLES.glob("*.jpg"))]
    for i in range(count):
        picture = cv2.resize(photos[i % len(photos)], (1152, 864))
        picture[:8, :8] = np.random.default_rng(i).integers(0, 256, (8, 8, 3))
        cv2.imwrite(str(folder / f"{i:05}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


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


def daemon_seconds(model: str, threads: int, pictures: Path, data_dir: Path) -> tuple[float, int]:
    """Seconds from start to end of a run over the folder, and its peak resident memory in bytes."""
    before = time.perf_counter()
    command = [*COMMAND, "run", "--once", "--profile", "low", "--model", model, "--threads", str(threads)]
    process = subprocess.Popen(
        [*command, "--watch", str(pictures), "--data-dir", str(data_dir)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:  # the rusage of a child would count what this process held when it forked
        with contextlib.suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) if found else 0)
        time.sleep(0.01)
    assert process.returncode == 0, "the daemon failed"
    return time.perf_counter() - before, peak * 1024


def first_result_s(pictures: Path, data_dir: Path) -> float:
    """Seconds from starting the command to the first line of results on the disk."""
    out = data_dir / "out"
    before = time.perf_counter()
    command = [
        *COMMAND,
        "run",
        "--profile",
        "low",
        "--watch",
        str(pictures),
        "--data-dir",
        str(data_dir),
        "--out",
        str(out),
        "--mqtt",
        NOBODY,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = out / "annotations.jsonl"
    while not (lines.exists() and lines.stat().st_size):
        time.sleep(0.005)
    seconds = time.perf_counter() - before
    process.send_signal(signal.SIGTERM)
    process.wait()
    return seconds


def idle_share(data_dir: Path, seconds: float = 20.0) -> float:
    """CPU time over wall time of a daemon that waits for pictures."""
    empty = data_dir / "empty"
    empty.mkdir(parents=True)
    # With a model that is set: nothing is measured in the quiet.
    run = ["run", "--profile", "low", "--model", "yolov3-tiny@224"]
    command = [*COMMAND, *run, "--watch", str(empty), "--data-dir", str(data_dir), "--mqtt", NOBODY]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(3)

    def cpu_s() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = cpu_s()
    time.sleep(seconds)
    share = (cpu_s() - before) / seconds
    process.send_signal(signal.SIGTERM)
    process.wait()
    return share


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolov3-tiny@224")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many = 20, 20 + args.pictures
        make_pictures(folder / "few", few)
        make_pictures(folder / "many", many)
        ratios, rates, peaks, starts = [], [], [], []
        for i in range(args.rounds):
            bare = bare_per_s(args.model, args.threads)
            short, _ = daemon_seconds(args.model, args.threads, folder / "few", folder / f"a{i}")
            long, peak = daemon_seconds(args.model, args.threads, folder / "many", folder / f"b{i}")
            bare = (bare + bare_per_s(args.model, args.threads)) / 2
            rates.append((many - few) / (long - short))  # the difference of two runs leaves out the start
            ratios.append(rates[-1] / bare)
            peaks.append(peak)
            starts.append(first_result_s(folder / "few", folder / f"c{i}"))
        figures = {
            "model": args.model,
            "threads": args.threads,
            "pictures_per_s": round(statistics.median(rates), 1),
            "over_bare_runtime": round(statistics.median(ratios), 3),
            "over_bare_runtime_all": [round(r, 3) for r in ratios],
            "peak_rss_mb": round(statistics.median(peaks) / 1e6, 1),
            "first_result_s": round(statistics.median(starts), 2),
            "idle_cpu_percent": round(100 * idle_share(folder / "idle"), 2),
            "load_before": os.getloadavg()[0],
            "children_cpu_s": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, 1),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
