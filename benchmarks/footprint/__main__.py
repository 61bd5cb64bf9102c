"""What the daemon weighs, held by bounds: peak memory, start to the first published result, idle load; memory and time by package.

    .venv/bin/python -m benchmarks.footprint [--pictures 300] [--rounds 3] [--models NAME ...]

Profile low, pictures of 1 MP, a broker of our own with a subscriber, label files on. Memory is the daemon's high-water mark, with the
proportional share of its children's. Of that the anonymous part is what costs on a board: pages of libraries are clean, and newer kernels
map more of them at once. Bytecode is kept, as where pip has installed the package: a first run that is not measured writes it. Ends with 1
and names what is missed. Its time depends on the machine, its memory hardly.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.watched import Counter, Run, counting_broker, make_pictures, run_daemon

MODELS = ("nanodet-g", "yolov3-tiny@224", "ssdlite-mobilenet-v2-coco")
BOUNDS = {
    "peak_mb": 110.0,
    "anonymous_mb": 90.0,
    "first_published_s": 1.0,
    "first_published_with_a_new_folder_s": 1.5,
    "idle_cpu_percent": 0.3,
}


def peaks_mb(counter: Counter, model: str, pictures: Path, data_dir: Path) -> tuple[float, float, float]:
    """Peak memory of a run over the folder: all, the anonymous part, that of files."""
    run = run_daemon(counter, pictures, data_dir, "--once", "--model", model, "--threads", "1")
    run.end()
    return run.peak_bytes / 1e6, run.anonymous_bytes / 1e6, run.file_bytes / 1e6


def cpu_s(run: Run) -> float:
    """Return the processor time of the daemon so far."""
    fields = Path(f"/proc/{run.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_published_s(counter: Counter, pictures: Path, data_dir: Path) -> tuple[float, float]:
    """Seconds from starting the command to the first result at the subscriber, and of processor time by then."""
    run = run_daemon(counter, pictures, data_dir, "--model", MODELS[0])
    seconds, spent = counter.first() - run.started_at, cpu_s(run)
    run.stop()
    return seconds, spent


def idle_percent(counter: Counter, data_dir: Path, seconds: float) -> float:
    """CPU time over wall time of a daemon that waits for pictures."""
    empty = data_dir.with_name("empty")
    empty.mkdir()
    run = run_daemon(counter, empty, data_dir, "--model", MODELS[0])  # with a model that is set, nothing is measured in the quiet
    time.sleep(5)
    before = cpu_s(run)
    time.sleep(seconds)
    share = (cpu_s(run) - before) / seconds
    run.stop()
    return 100 * share


def main() -> None:
    """Measure, print, and fail where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-s", type=float, default=30.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, counting_broker(Path(name) / "broker") as counter:
        folder = Path(name)
        make_pictures(folder / "few", 3)
        make_pictures(folder / "many", args.pictures)
        run_daemon(counter, folder / "few", folder / "first", "--once", "--model", MODELS[0]).end()
        peaks = {model: peaks_mb(counter, model, folder / "many", folder / f"peak{i}") for i, model in enumerate(args.models)}
        new = [first_published_s(counter, folder / "few", folder / f"start{i}") for i in range(args.rounds)]
        again = []
        for i in range(args.rounds):  # everything is remembered but the ledger and what the outbox held
            for state in (folder / f"start{i}").glob("state.sqlite*"):
                state.unlink()
            again.append(first_published_s(counter, folder / "few", folder / f"start{i}"))
        figures: dict[str, Any] = {
            "peak_mb": round(max(peak for peak, _, _ in peaks.values()), 1),
            "anonymous_mb": round(max(anonymous for _, anonymous, _ in peaks.values()), 1),
            "first_published_s": round(statistics.median(wall for wall, _ in again), 2),
            "first_published_cpu_s": round(statistics.median(spent for _, spent in again), 2),
            "first_published_with_a_new_folder_s": round(statistics.median(wall for wall, _ in new), 2),
            "idle_cpu_percent": round(idle_percent(counter, folder / "idle", args.idle_s), 2),
        }
    missed = {key: f"{figures[key]}, the bound is {bound:g}" for key, bound in BOUNDS.items() if figures[key] > bound}
    each = {model: dict(zip(("peak", "anonymous", "files"), [round(part, 1) for part in mb], strict=True)) for model, mb in peaks.items()}
    print(json.dumps({**figures, "peaks_mb": each, "missed": missed, "load": os.getloadavg()[0]}, indent=2))
    if missed:
        print("Imports of a run, MB and ms by package:", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "benchmarks.footprint.imports"], stdout=sys.stderr, check=True)
        sys.exit("missed: " + "; ".join(f"{key} is {said}" for key, said in missed.items()))


if __name__ == "__main__":
    main()
