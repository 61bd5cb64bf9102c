"""A long run: whether the daemon's memory and rate stay as they are.

    .venv/bin/python -m benchmarks.footprint.soak [--pictures 20000] [--files 200000] [--ledger 5000000] [--model nanodet-g]

A folder of --files JPEGs of 0.3 megapixels (links to fifty pictures), profile low, a broker with a subscriber, a ledger that has --ledger
rows of another source. Each start checks the whole database, which is most of the time to the first picture. Until --pictures have come,
memory and messages are noted every second; lines through all but the first tenth give the slopes with their 95 % intervals. Ends with 1
where memory grows by more than 1 KB a picture, or the rate falls by more than a tenth, in the whole interval.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.watched import counting_broker, make_pictures, run_daemon
from edgeannot.storage.store import Store

MOST_GROWTH_BYTES, MOST_SLOWING = 1024.0, -0.1


def slope(x: list[float], y: list[float]) -> tuple[float, float]:
    """Return the slope of the line through points, and the half of its 95 % interval."""
    at, values = np.array(x) - np.mean(x), np.array(y)
    rise = float((at * values).sum() / (at**2).sum())
    rest = values - values.mean() - rise * at
    return rise, 1.96 * float(np.sqrt((rest**2).sum() / max(len(x) - 2, 1) / (at**2).sum()))


def make_folder(folder: Path, files: int) -> None:
    """Fill a folder with links to fifty pictures."""
    originals = folder.with_name("originals")
    make_pictures(originals, 50)
    for path in originals.iterdir():
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (640, 480)))
    folder.mkdir()
    for i in range(files):
        os.link(originals / f"{i % 50:05}.jpg", folder / f"{i:06}.jpg")


def make_ledger(path: Path, rows: int) -> None:
    """Make a database as the store does, and write so many entries of pictures that another source has done."""
    path.parent.mkdir()
    with Store.open(path):
        pass
    db = sqlite3.connect(path)
    db.execute("INSERT INTO folders (path) VALUES (?)", (b"/srv/archive",))
    db.execute(
        "INSERT INTO ledger (source, path, size, mtime_ns, inode, content_hash, outcome, done_at, folder)"
        " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " SELECT 'archive', CAST(printf('2025/%08d.jpg', i) AS BLOB), 200000 + i, 1700000000000000000 + i * 1000000, i, randomblob(16),"
        " 'annotated', 1700000000, 1 FROM n",
        (rows,),
    )
    db.commit()
    db.close()


def main() -> None:
    """Run, print, and fail where memory or rate drift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--ledger", type=int, default=5_000_000)
    parser.add_argument("--model", default="nanodet-g")
    args = parser.parse_args()
    times: list[float] = []
    counts: list[float] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as name, counting_broker(Path(name) / "broker") as counter:
        make_folder(Path(name) / "in", args.files)
        if args.ledger:
            make_ledger(Path(name) / "data" / "state.sqlite", args.ledger)
        run = run_daemon(counter, Path(name) / "in", Path(name) / "data", "--model", args.model)
        while counter.count < min(args.pictures, args.files):
            assert run.process.poll() is None, "the daemon ended"
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{run.process.pid}/status").read_text())
            if counter.count and found:
                times.append(time.perf_counter() - run.started_at)
                counts.append(counter.count)
                memory.append(int(found[1]) * 1024)
            time.sleep(1)
        run.stop()
    begin = len(times) // 10
    growth, growth_off = slope(counts[begin:], memory[begin:])
    seconds = np.diff(times[begin:])
    rates = list(np.diff(counts[begin:]) / seconds)
    drift, drift_off = slope(times[begin + 1 :], rates)
    span, rate = times[-1] - times[begin], float(np.mean(rates))
    change, change_off = drift * span / rate, drift_off * span / rate
    figures = {
        "pictures": int(counts[-1]),
        "seconds": round(times[-1]),
        "first_published_s": round(times[0], 1),
        "pictures_per_s": round(rate, 1),
        "memory_mb_first_last": [round(memory[begin] / 1e6, 1), round(memory[-1] / 1e6, 1)],
        "bytes_a_picture": [round(growth, 1), round(growth_off, 1)],
        "change_of_rate": [round(change, 3), round(change_off, 3)],
        "load": os.getloadavg()[0],
    }
    print(json.dumps(figures, indent=2))
    if growth - growth_off > MOST_GROWTH_BYTES or change + change_off < MOST_SLOWING:
        sys.exit("missed: memory grows or the rate falls")


if __name__ == "__main__":
    main()
